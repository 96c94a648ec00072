package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// series are the values of a peer's metrics, by name with labels.
type series map[string]float64

// scrape reads a peer's metrics.
func scrape(ctx context.Context, client *http.Client, url string) (series, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/metrics", nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s/metrics: %s", url, resp.Status)
	}
	return parseSeries(resp.Body)
}

func parseSeries(r io.Reader) (series, error) {
	out := series{}
	lines := bufio.NewScanner(io.LimitReader(r, 64<<20))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimSpace(lines.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		// A label's value may hold spaces; the sample's has none, and no time follows it.
		i := strings.LastIndexByte(line, ' ')
		if i < 0 {
			return nil, fmt.Errorf("a metric without value: %q", line)
		}
		x, err := strconv.ParseFloat(line[i+1:], 64)
		if err != nil {
			return nil, fmt.Errorf("the metric %q: %w", line[:i], err)
		}
		out[line[:i]] = x
	}
	return out, lines.Err()
}

// sum adds up a metric over the labels that are not given, as name="value".
func (s series) sum(name string, labels ...string) (total float64) {
	for key, x := range s {
		rest, ok := strings.CutPrefix(key, name)
		if !ok || rest != "" && rest[0] != '{' {
			continue
		}
		for _, l := range labels {
			ok = ok && strings.Contains(rest, l)
		}
		if ok {
			total += x
		}
	}
	return total
}

// has reports whether there is a metric of that name.
func (s series) has(name string) bool {
	for key := range s {
		if key == name || strings.HasPrefix(key, name+"{") {
			return true
		}
	}
	return false
}

// refusals are the answers of a peer that mean later: to pushes whole or in pieces.
func (s series) refusals() int {
	const requests = "fedmesh_api_request_duration_seconds_count"
	n := 0.0
	for _, code := range []string{"429", "503"} {
		n += s.sum(requests, `code="`+code+`"`, "updates")
		n += s.sum(requests, `code="`+code+`"`, "uploads")
	}
	return int(n)
}

// failures are the answers of a peer that no request should ever get.
func (s series) failures() int {
	return int(s.sum("fedmesh_api_request_duration_seconds_count", `code="500"`))
}

// answers adds up the refusals and failures of all peers that run.
func (s *system) answers(ctx context.Context) (refusals, failures int, err error) {
	client := &http.Client{Timeout: patience}
	defer client.CloseIdleConnections()
	running := s.cluster.Running()
	for _, p := range s.cluster.Peers() {
		if !slices.Contains(running, p.Name) {
			continue
		}
		got, err := scrape(ctx, client, p.URL)
		if err != nil {
			return 0, 0, err
		}
		refusals, failures = refusals+got.refusals(), failures+got.failures()
	}
	return refusals, failures, nil
}
