package store_test

import (
	"context"
	"fmt"
	"os"

	"github.com/fedmesh/fedmesh/mesh/store"
)

func Example() {
	dir, err := os.MkdirTemp("", "fedmesh-store-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = os.RemoveAll(dir) }()

	for range 2 {
		d, err := store.Open(dir, store.Options{Fsync: store.Auto})
		if err != nil {
			fmt.Println(err)
			return
		}
		err = d.Log().Replay(nil, func(rec []byte) error {
			fmt.Printf("found %q\n", rec)
			return nil
		})
		if err == nil {
			var pos uint64
			pos, err = d.Log().Append([]byte("a fact"))
			if err == nil {
				err = d.Log().Sync(context.Background(), pos)
			}
			fmt.Println("durable up to", pos, err)
		}
		if err := d.Close(); err != nil {
			fmt.Println(err)
		}
	}
	// Output:
	// durable up to 1 <nil>
	// found "a fact"
	// durable up to 2 <nil>
}
