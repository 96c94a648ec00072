package api

import (
	"errors"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"
)

// metrics is the server's account of itself. A nil one keeps none.
type metrics struct {
	duration *prometheus.HistogramVec
	received *prometheus.CounterVec
	sent     *prometheus.CounterVec
	inFlight prometheus.Gauge
}

func newMetrics(reg prometheus.Registerer, log zerolog.Logger) *metrics {
	if reg == nil {
		return nil
	}
	return &metrics{
		duration: register(reg, log, prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "fedmesh", Subsystem: "api", Name: "request_duration_seconds",
			Help:    "Time from a request's header to the end of its answer, by route, method and status.",
			Buckets: []float64{.001, .005, .025, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 300},
		}, []string{"route", "method", "code"})),
		received: register(reg, log, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "fedmesh", Subsystem: "api", Name: "received_bytes_total", Help: "Bytes of request bodies read, by route.",
		}, []string{"route"})),
		sent: register(reg, log, prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: "fedmesh", Subsystem: "api", Name: "sent_bytes_total", Help: "Bytes of answers' bodies sent, by route.",
		}, []string{"route"})),
		inFlight: register(reg, log, prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: "fedmesh", Subsystem: "api", Name: "requests_in_flight", Help: "Requests being answered.",
		})),
	}
}

// register adds a collector, or finds the one that an earlier server of the same registry has left.
func register[C prometheus.Collector](reg prometheus.Registerer, log zerolog.Logger, c C) C {
	err := reg.Register(c)
	if already, ok := errors.AsType[prometheus.AlreadyRegisteredError](err); ok {
		if old, ok := already.ExistingCollector.(C); ok {
			return old
		}
	}
	if err != nil {
		log.Warn().Err(err).Msg("a metric is not exported")
	}
	return c
}

// begin counts a request in; the function it returns counts it out.
func (m *metrics) begin() func(route, method string, status int, took time.Duration, received, sent int64) {
	if m == nil {
		return func(string, string, int, time.Duration, int64, int64) {}
	}
	m.inFlight.Inc()
	return func(route, method string, status int, took time.Duration, received, sent int64) {
		if route == "" {
			route = "unknown"
		}
		m.inFlight.Dec()
		m.duration.WithLabelValues(route, method, strconv.Itoa(status)).Observe(took.Seconds())
		m.received.WithLabelValues(route).Add(float64(received))
		m.sent.WithLabelValues(route).Add(float64(sent))
	}
}
