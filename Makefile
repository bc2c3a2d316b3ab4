# Tunnel Director. `make help` lists what there is.
GO      ?= go
BIN     := bin/director
AGENT   := bin/realserver
BUILD   := CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w"

.PHONY: help build demo test check unit test-vm generate bench bench-cluster soak fuzz clean

help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

build: $(BIN) $(AGENT) ## bin/director and bin/realserver, static binaries

.PHONY: $(BIN) $(AGENT)
$(BIN) $(AGENT):
	@command -v $(GO) >/dev/null || { echo "Go is missing. Get the version that go.mod names from https://go.dev/dl/ and put it on the PATH."; exit 2; }
	$(BUILD) -o $@ ./cmd/$(@F)

demo: ## the main job on real packets, in a lab of network namespaces (root, 90 s); figures in build/demo.json
	@mkdir -p build
	@[ "$$(id -u)" = 0 ] || { echo "make demo makes network namespaces and loads XDP programs, which takes root: sudo make demo"; exit 2; }
	$(MAKE) --no-print-directory build
	$(BUILD) -o build/demo ./examples/demo
	./build/demo -director $(BIN) -out build/demo.json

test: check unit test-vm ## everything that has to hold: formatting, linters, all tests with the race detector, those on Debian's kernel

check: ## formatting, vet, staticcheck, that all builds on another system, and that generated files are as their sources say
	@test -z "$$(gofmt -l $$(git ls-files '*.go'))" || { echo "gofmt differs:"; gofmt -l $$(git ls-files '*.go'); exit 1; }
	$(GO) vet ./...
	GOOS=darwin $(GO) vet ./...
	$(GO) tool staticcheck ./...
	$(GO) mod verify
	@if command -v clang >/dev/null; then ./.ci/generated; else echo "no clang here: the committed eBPF objects were not compared with their sources (apt-get install clang llvm libbpf-dev)"; fi

unit: ## all tests, with the race detector; kernel tests take root and are skipped without it
	@[ "$$(id -u)" = 0 ] || echo "not root: the tests on the kernel are skipped; run them by: sudo make unit"
	SIM_SEEDS=60 $(GO) test -race -timeout 20m -skip '^TestInVM' $(TESTFLAGS) ./...
	$(GO) test -timeout 10m -run '^TestSimulation' $(TESTFLAGS) ./director/sim # 300 histories, without the detector, which costs three times the time

test-vm: ## the tests on Debian's kernel, with IPVS and IPsec, in a virtual machine (no root; qemu, or it is downloaded); logs in build/vm/out
	$(GO) test -v -count=1 -timeout 20m -run '^TestInVM' $(TESTFLAGS) ./integration/vm

generate: ## compile the eBPF programs again (clang, llvm, libbpf-dev)
	$(GO) generate ./...

bench: build ## figures as ratios against a floor or a peer of the same run (root, some minutes); also build/bench.json
	@mkdir -p build
	$(GO) run ./integration/bench -director $(BIN) -out build/bench.json
	AGENTS_BENCH=1 $(GO) test -v -count=1 -timeout 30m -run 'TestTakeover|TestAtRest' ./integration/agents
	$(GO) run ./integration/vm/run -package ./integration/bench/vm -run TestBench -env BENCH=1 -timeout 10m -out build/bench-vm

bench-cluster: build ## several directors against one: pushes, a healed partition, rest; a director's death (root, some minutes)
	@mkdir -p build
	$(GO) run ./integration/bench -director $(BIN) -only cluster -out build/bench-cluster.json
	CLUSTER_BENCH=1 $(GO) test -v -count=1 -timeout 30m -run TestTakeOver ./integration/cluster

soak: ## long runs: 10,000 random histories of the data plane, 2,000 of the table and the loop, 10,000 of several directors; all drills, three times, and against programs as an operator runs them
	PLANETEST_HISTORIES=10000 $(GO) test -timeout 4h -run 'TestHistories|TestMem' ./director/plane/xdp ./director/plane/planetest
	HISTORIES=2000 $(GO) test -timeout 1h -run Histories ./director
	SIM_SEEDS=10000 $(GO) test -timeout 4h -run TestSimulation ./director/sim
	SOAK=1 $(GO) test -v -count=1 -timeout 1h ./integration/cluster
	SOAK=1 $(GO) test -v -count=1 -timeout 1h ./integration/drills
	SOAK=1 $(GO) test -v -count=1 -timeout 1h -run TestDrillsLive ./cmd/director
	SOAK=1 $(GO) test -v -count=1 -timeout 4h -run '^TestInVM' ./integration/vm

fuzz: ## a minute of each fuzz test
	@for p in $$($(GO) list ./...); do for f in $$($(GO) test -list '^Fuzz' $$p | grep ^Fuzz); do echo "== $$p $$f"; $(GO) test -run '^$$' -fuzz "^$$f$$" -fuzztime 60s $$p || exit 1; done; done

clean: ## remove what was built
	rm -rf bin build
