# Thin on purpose: each target does its own set-up through Go.
GO       ?= go
BIN      := bin/callgate
VERSION  ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo dev)
# Vetting is lint's. Compiling takes a tenth less time without what debuggers want,
# linking half, and tests often wait, so that twice as many packages as processors
# keep those busy.
TESTFLAGS ?= -race -vet=off -timeout 15m -gcflags=all=-dwarf=false -ldflags=-w -p $(shell expr 2 '*' $$(getconf _NPROCESSORS_ONLN))

# The race detector needs cgo, and with cgo the C sources of PostgreSQL's parser
# are compiled, though the one in WebAssembly is what runs. Optimising them would
# take minutes.
test test-clickhouse soak: export CGO_CFLAGS ?= -O0 -g0

.PHONY: demo test test-clickhouse bench soak build lint generate golden clean

demo: build ## the main job, on real traffic; ARGS=--once ends after the tour
	@./$(BIN) demo $(ARGS)

# What is built first is in the build cache when tests build it, several at once.
test: build ## every test, with the race detector; fetches Envoy and the engine once
	$(GO) test $(TESTFLAGS) ./test/... ./audit/... ./... # the longest first

# CLICKHOUSE_ADDR is the server's URL: clickhouse(s)://host:port for the native
# protocol, http(s)://host:port for HTTP. CLICKHOUSE_USER and CLICKHOUSE_PASSWORD
# say who, CLICKHOUSE_CA names a PEM file. With CLICKHOUSE_CLUSTER the tables are
# made on that cluster. Databases are called callgate_test_… and dropped.
CLICKHOUSE_OWN := TestEngineKilled|TestGrants|TestTLS|TestStranger|TestFailover|TestNative|TestCluster|TestReplicatedTables|TestDDL|TestReference
test-clickhouse: ## the trail's tests against a server that you have; docs/guide/clickhouse.md
	@test -n "$(CLICKHOUSE_ADDR)" || { echo "say which server: make test-clickhouse CLICKHOUSE_ADDR=clickhouse://host:9000"; exit 2; }
	@CLICKHOUSE_ADDR="$(CLICKHOUSE_ADDR)" $(GO) test -race -count=1 -parallel 4 -timeout 60m ./audit/clickhouse \
		$(if $(CLICKHOUSE_CLUSTER),-run TestCluster,-skip '$(CLICKHOUSE_OWN)')

bench: ## measured ratios; BENCH=authz|envoy|spool|trail|policy|decide|mask|approvals for a part
	$(GO) run ./bench $(BENCH)

# SOAK says for how long the faults go on, SCENARIO names one of them to run
# alone (kill, engine, away, full, torn, clock, replicas, drain), and FUZZTIME is
# given to each fuzz target.
SOAK     ?= 20m
SCENARIO ?=
FUZZTIME ?= 60s

soak: ## long fault runs: kill -9, outages, a full disk, fuzzing; fails on any loss
	CALLGATE_SOAK=1 CALLGATE_SOAK_TIME=$(SOAK) CALLGATE_SOAK_SCENARIO=$(SCENARIO) $(GO) test -count=1 -timeout 0 -v -run Soak ./test/soak
ifeq ($(SCENARIO),)
	CALLGATE_SOAK=1 $(GO) test -count=1 -timeout 60m -run 'Soak|Kill' $$($(GO) list ./... | grep -v /test/soak)
	@$(MAKE) fuzz
endif

fuzz: ## every fuzz target, FUZZTIME each
	@set -e; for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "== $$package $$target"; \
			$(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) $$package; \
		done; \
	done

build:
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags "-s -w -X main.version=$(VERSION)" -o $(BIN) ./cmd/callgate

# As a release is built, so that what lint had to compile is there for it.
lint: export CGO_ENABLED = 0
lint: export GOFLAGS += -trimpath
lint:
	@unformatted=$$(gofmt -l .); test -z "$$unformatted" || { echo "gofmt -w these:"; echo "$$unformatted"; exit 1; }
	$(GO) vet ./...
	$(GO) tool staticcheck ./...

generate: ## the demo service's protobuf code, and the client of the admin API
	$(GO) generate ./...

golden: ## rewrite golden files and generated pages after a wanted change
	$(GO) test ./envoy -update
	$(GO) test ./audit/clickhouse -run "TestDDL|TestReference" -update
	$(GO) test ./console -run TestOpenAPI -update
	$(GO) generate ./console/apiclient

clean:
	rm -rf bin .callgate
