module github.com/fedmesh/fedmesh/examples/check

go 1.26
