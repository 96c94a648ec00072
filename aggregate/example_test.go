package aggregate_test

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/fedmesh/fedmesh/aggregate"
	"github.com/fedmesh/fedmesh/model"
)

// Two peers compute a round together: one holds the first update, the other gives the sum that stands for the second.
func Example() {
	ctx := context.Background()
	layout, err := model.NewLayout([]model.Tensor{{Name: "w", DType: model.F32, Shape: []int64{2}}})
	if err != nil {
		panic(err)
	}
	seed := f32File(layout, 0, 0)
	scales, err := aggregate.ScanScales(layout, bytes.NewReader(seed))
	if err != nil {
		panic(err)
	}
	spec, err := aggregate.NewSpec(layout, scales)
	if err != nil {
		panic(err)
	}
	base := model.Sum(seed)
	first := aggregate.Update{Weight: 1, Base: base, Source: bytes.NewReader(f32File(layout, 1, -2))}
	second := aggregate.Update{Weight: 3, Base: base, Source: bytes.NewReader(f32File(layout, 5, 2))}

	// There.
	var sum bytes.Buffer
	terms := []aggregate.Term{{Source: second.Source, Weight: second.Weight}}
	if err := spec.Partial(ctx, nil, 0, spec.Elements(), terms, &sum); err != nil {
		panic(err)
	}

	// Here.
	second.Source = nil
	strategy, err := aggregate.Lookup("fedavg", nil)
	if err != nil {
		panic(err)
	}
	plan, err := strategy.Plan(ctx, aggregate.Round{
		Spec:    spec,
		Prev:    aggregate.Model{Digest: base, Source: bytes.NewReader(seed)},
		Updates: []aggregate.Update{first, second},
	})
	if err != nil {
		panic(err)
	}
	var out bytes.Buffer
	if _, err := plan.Range(ctx, nil, 0, spec.Elements(), []io.Reader{&sum}, aggregate.Output{Model: &out}); err != nil {
		panic(err)
	}
	fmt.Println(f32s(out.Bytes()))
	// Output: [4 1]
}
