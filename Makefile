# fedmesh. `make` alone lists the targets. Nothing is needed but Go, make and git.

GO       ?= go
BIN      := $(CURDIR)/bin
TOOLS    := $(CURDIR)/.bin
GOLANGCI := $(TOOLS)/golangci-lint
LINT_VERSION := v2.15.0

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo devel)

# The race detector needs a C compiler; without one the tests still run.
RACE := $(if $(filter 1,$(shell $(GO) env CGO_ENABLED)),-race)

# Modules of their own below this one.
NESTED := $(patsubst %/go.mod,%,$(wildcard */go.mod */*/go.mod))

# What needs wall-clock time of its own runs apart, without -race.
PROCESS := (TestMeshUnderKills|TestRollingRestart)

SEED     ?= 1
N        ?= 2000
FUZZTIME ?= 30s
ARGS     ?=
DIST     ?= $(CURDIR)/dist

# What a release is built for.
PLATFORMS ?= linux/amd64 linux/arm64 darwin/amd64 darwin/arm64 windows/amd64 windows/arm64

.DEFAULT_GOAL := help
.PHONY: help run build release release-check test test-net test-ui test-fedn test-flower test-python test-pytorch vet race process nested tools lint fmt fuzz sim bench bench-kernels bench-peers bench-kill bench-overhead bench-scale cover clean

help: ## list the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: ## build bin/fedmesh
	CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o $(BIN)/fedmesh ./cmd/fedmesh

release: ## archives for Linux, macOS and Windows in DIST (dist), the same bytes wherever they are built
	GO='$(GO)' .ci/release '$(VERSION)' '$(DIST)' $(PLATFORMS)

release-check: ## build the last commit's release twice, in two folders, and compare (PLATFORMS=)
	GO='$(GO)' .ci/release-check $(PLATFORMS)

run: build ## train on MNIST over three peers, killing one on the way (ARGS= for its flags)
	cd examples/mnist && $(GO) run . --fedmesh $(BIN)/fedmesh $(ARGS)

test: vet race process sim nested ## every test: vet, -race, real processes, 2,000 simulator seeds, nested modules

vet:
	$(GO) vet ./...

race: ## all tests but the timed ones, under the race detector
	@test -n "$(RACE)" || echo "no C compiler found: running without the race detector"
	$(GO) test $(RACE) -timeout 20m -skip '^$(PROCESS)$$' ./...

process: ## real processes, killed and restarted at random
	$(GO) test -count=1 -timeout 15m -v -run '^$(PROCESS)$$' ./cmd/fedmesh

test-net: ## peers on networks that are cut, slow and lossy (Linux and root; ARGS=-net.cut=60s for a long cut)
	@test "$$(uname -s)" = Linux || { echo "test-net: network namespaces are Linux's, this is $$(uname -s)" >&2; exit 1; }
	$(GO) vet -tags netns ./mesh/meshtest/netns
	$(GO) test -tags netns -count=1 -timeout 20m -v ./mesh/meshtest/netns $(if $(ARGS),-args $(ARGS))

# A module of its own, and none of NESTED: nothing else needs a browser.
UI := mesh/api/ui/browser

test-ui: $(GOLANGCI) ## the dashboard in Chromium, against a mesh that loses a peer (CHROME=path; ARGS='-shots DIR' keeps pictures)
	cd $(UI) && $(GO) mod tidy -diff && $(GO) vet ./... && $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...
	cd $(UI) && $(GO) test -count=1 -v -timeout 15m ./... $(if $(ARGS),-args $(ARGS))

PYTHON ?= python3
PYENV  := examples/python/.venv

test-python: ## the Python client against three peers, and mypy (PYTHON=python3)
	@if ! $(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then \
	  echo "NOT RUN: the Python client needs Python 3.9 or later with venv, and this machine has none (name one by PYTHON)"; \
	else \
	  set -e; \
	  $(MAKE) --no-print-directory build; \
	  $(PYTHON) -m venv $(PYENV); \
	  $(PYENV)/bin/python -m pip install -q --disable-pip-version-check './examples/python[test]'; \
	  cd examples/python; \
	  .venv/bin/python -m mypy; \
	  PYTHONDONTWRITEBYTECODE=1 FEDMESH=$(BIN)/fedmesh .venv/bin/python -m pytest $(ARGS); \
	fi

test-pytorch: ## a CNN of real PyTorch over the mesh, one peer killed (PYTHON=python3; ARGS= for its flags)
	@if ! $(PYTHON) -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 9))' 2>/dev/null; then \
	  echo "NOT RUN: the PyTorch example needs Python 3.9 or later with venv, and this machine has none (name one by PYTHON)"; \
	else \
	  set -e; \
	  $(MAKE) --no-print-directory build; \
	  cd examples/pytorch; \
	  ./venv.sh '$(PYTHON)'; \
	  .venv/bin/python -m mypy; \
	  export PYTHONDONTWRITEBYTECODE=1 FEDMESH=$(BIN)/fedmesh; \
	  .venv/bin/python -m pytest -q; \
	  .venv/bin/python -m pytest -q ../python/tests/test_models.py -k pytorch; \
	  .venv/bin/python -m federation $(ARGS); \
	fi

sim: ## the seeded simulator (SEED=1 N=2000)
	$(GO) test -count=1 -timeout 60m -v ./mesh/meshtest/sim -run '^TestSimulation$$' -sim.seed=$(SEED) -sim.n=$(N)

test-fedn: build ## real FEDn over the mesh, with kills (Python 3.9 to 3.12; ARGS= for its flags)
	cd examples/fedn && $(GO) run . --fedmesh $(BIN)/fedmesh $(ARGS)

FLOWERENV := examples/flower/.venv

test-flower: ## real Flower over the mesh: two federations, one killed; and the strategy's tests (Python 3.11 or later; ARGS= for its flags)
	@python=; \
	for p in $(PYTHON) python3.13 python3.12 python3.11 "$$(pyenv root 2>/dev/null)"/versions/3.1[1-3].*/bin/python3; do \
	  if "$$p" -c 'import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python=$$p; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "NOT RUN: Flower needs Python 3.11 or later with venv, and this machine has none (name one by PYTHON)"; \
	elif ! command -v ps >/dev/null; then \
	  echo "NOT RUN: the example finds the processes to kill by ps, and this machine has none"; \
	else \
	  set -e; \
	  $(MAKE) --no-print-directory build; \
	  "$$python" -m venv $(FLOWERENV); \
	  $(FLOWERENV)/bin/python -m pip install -q --disable-pip-version-check ./examples/python './examples/flower[test]'; \
	  cd examples/flower; \
	  export PYTHONDONTWRITEBYTECODE=1 FEDMESH=$(BIN)/fedmesh; \
	  .venv/bin/python -m mypy; \
	  .venv/bin/python -m pytest; \
	  .venv/bin/python -m stage $(ARGS); \
	fi

nested:
	@set -e; for m in $(NESTED); do echo "== $$m"; (cd $$m && $(GO) vet ./... && $(GO) test -timeout 20m ./...); done

$(GOLANGCI):
	GOBIN=$(TOOLS) $(GO) install github.com/golangci/golangci-lint/v2/cmd/golangci-lint@$(LINT_VERSION)

tools: $(GOLANGCI)

lint: $(GOLANGCI) ## golangci-lint, here and in the nested modules
	$(GOLANGCI) run ./...
	@set -e; for m in $(NESTED); do echo "== $$m"; (cd $$m && $(GOLANGCI) run --config $(CURDIR)/.golangci.yml ./...); done

fmt: $(GOLANGCI) ## gofumpt and goimports over everything
	$(GOLANGCI) fmt
	@set -e; for m in $(NESTED); do (cd $$m && $(GOLANGCI) fmt --config $(CURDIR)/.golangci.yml); done

fuzz: ## each fuzz target for FUZZTIME (30s)
	@set -e; for p in $$($(GO) list ./...); do \
	  for f in $$($(GO) test -list '^Fuzz' $$p | grep '^Fuzz' || true); do \
	    echo "== $$p $$f"; \
	    $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$p || { \
	      echo "once more: a find is kept and fails again, the end of the time does not"; \
	      $(GO) test -run '^$$' -fuzz "^$$f\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$p; \
	    }; \
	  done; \
	done

bench: bench-kernels build ## the loops of the sum, and throughput of one peer and of three, as ratios
	cd benchmarks && $(GO) run ./throughput --fedmesh $(BIN)/fedmesh $(ARGS)

bench-kernels: ## the loops of the exact sum beside copying memory, in assembly and in pure Go
	cd benchmarks && $(GO) run ./kernels

bench-peers: build ## the same round in FEDn and in Flower, as ratios, and memory (Python 3.10 to 3.12; 15 GB of disk)
	cd benchmarks && $(GO) run ./peers --fedmesh $(BIN)/fedmesh $(ARGS)

bench-kill: build ## fedmesh, a reducer under Raft and a single one while processes are killed
	cd benchmarks && $(GO) run ./kill --fedmesh $(BIN)/fedmesh $(ARGS)

bench-overhead: build ## what copies cost in processor time and bytes, beside the bound
	cd benchmarks && $(GO) run ./overhead --fedmesh $(BIN)/fedmesh $(ARGS)

bench-scale: build ## 100 sessions, 500 combiners and 24 peers (ARGS='--peers 24' for one of them)
	cd benchmarks && $(GO) run ./scale --fedmesh $(BIN)/fedmesh $(ARGS)

cover: ## coverage.html and the total
	$(GO) test -coverpkg=./... -coverprofile=coverage.out -skip '^$(PROCESS)$$' ./...
	$(GO) tool cover -html=coverage.out -o coverage.html
	$(GO) tool cover -func=coverage.out | tail -1

clean: ## remove what was built
	rm -rf $(BIN) $(CURDIR)/dist coverage.out coverage.html
