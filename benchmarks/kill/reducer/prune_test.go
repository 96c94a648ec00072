package reducer_test

import (
	"fmt"
	"testing"

	"github.com/fedmesh/fedmesh/benchmarks/kill/reducer"
	"github.com/fedmesh/fedmesh/mesh/api"
	"github.com/fedmesh/fedmesh/mesh/store"
	"github.com/fedmesh/fedmesh/model"
)

// Updates go with their round and models when they are old; the seed stays.
func TestPrune(t *testing.T) {
	dir, err := store.Open(t.TempDir(), store.Options{Fsync: store.Never})
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	node := reducer.New(dir, reducer.Options{Name: "a", KeepModels: 2})
	put := func(content string) string {
		d := model.Sum([]byte(content))
		w, err := dir.Blobs().Create()
		if err == nil {
			_, err = w.Write([]byte(content))
		}
		if err == nil {
			err = w.Commit(t.Context(), d, false)
		}
		if err != nil {
			t.Fatal(err)
		}
		return d.String()
	}
	apply := func(c reducer.Command) {
		if _, err := node.Apply(c); err != nil {
			t.Fatal(err)
		}
	}
	opened := open()
	opened.Digest = put("seed")
	apply(opened)
	base := opened.Digest
	for n := uint64(1); n <= 4; n++ {
		id := fmt.Sprint(n)
		apply(update("x", id, put("update "+id), base))
		base = put("model " + id)
		apply(round(n, base, api.UpdateRef{Combiner: "x", ID: id}))
	}
	apply(update("x", "5", put("update 5"), base))
	apply(round(5, put("update 5"), api.UpdateRef{Combiner: "x", ID: "5"})) // of one update alone
	apply(update("x", "6", put("update 6"), base))
	for content, want := range map[string]bool{
		"seed": true, "model 1": false, "model 2": false, "model 3": false, "model 4": true,
		"update 1": false, "update 4": false, "update 5": true, "update 6": true,
	} {
		if got := dir.Blobs().Has(model.Sum([]byte(content))); got != want {
			t.Errorf("%s is there: %v, want %v", content, got, want)
		}
	}
	if n := len(dir.Blobs().List()); n != 4 {
		t.Errorf("%d blobs are left", n)
	}
}
