package mesh

import (
	"errors"
	"strings"
	"syscall"
	"time"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/mesh/api"
)

func compareText(a, b string) int { return strings.Compare(a, b) }

// modelProblem turns what is wrong with a model into the answer; the server knows the model package's sentinels.
func modelProblem(err error) error {
	if value, ok := errors.AsType[*aggregate.ValueError](err); ok {
		limit, ok := strings.CutPrefix(value.Limit, "|x| < ")
		if !ok { // any finite number
			limit = ""
		}
		return api.InvalidValue(value.Tensor, value.Index, value.Value, limit)
	}
	return storageProblem(err)
}

// storageProblem turns a fault of the disk into the answer that sends the client to another peer.
func storageProblem(err error) error {
	if errors.Is(err, syscall.ENOSPC) {
		return api.StorageFull("this peer's disk is full", 5*time.Second)
	}
	return err
}
