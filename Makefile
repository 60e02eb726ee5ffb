# The two commands of a newcomer are `make demo` and `make test`. `make help` lists the rest.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

cache := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/orders-orchestrator
# In the user's cache, so that a fresh clone does not compile RocksDB again.
export CARGO_TARGET_DIR := $(or $(CARGO_TARGET_DIR),$(cache)/target)
export PATH := $(PATH):$(or $(CARGO_HOME),$(HOME)/.cargo)/bin
export CARGO_TERM_COLOR ?= auto

# Built once, into the cache; a new version beside the old one, so that every machine checks alike.
deny_version := 0.20.2
deny_root := $(cache)/cargo-deny-$(deny_version)
deny_program := $(deny_root)/bin/cargo-deny
deny = $(deny_program) --workspace --locked check bans licenses sources

.PHONY: help setup tools build demo test test-all lint bench bench-stores deny clean

help: ## lists these targets
	@echo 'make demo                       see it work: broker, orders, service, verdict by ids'
	@echo "make demo ARGS='--keep'         … and leave broker and service running"
	@echo "make demo ARGS='--store postgres'  … on PostgreSQL (mongo, redis, memory; rocksdb if not said)"
	@echo "make demo ARGS='--sabotage drop-one'  … and see the verdict notice a lost order (exit 1)"
	@echo 'make test                       everything that CI runs'
	@echo 'make test-all                   the same, and the whole matrix of outages'
	@echo 'make bench                      the service against a bare loop of librdkafka: docs/performance.md'
	@echo 'make bench-stores               what each store takes and costs: docs/performance.md'
	@echo 'make setup | build | lint | deny | clean'
	@echo 'Build output and Kafka are kept in $(cache)'

setup: ## installs what is missing, also the servers that the tests of the stores start
	@scripts/setup stores

# What build and demo need: without the servers of the stores.
tools:
	@scripts/setup

build: tools ## the service and the test kit
	@scripts/build build --locked --bins -p orders-orchestrator -p testkit

demo: build ## ARGS='--store postgres --records 20000 --seed 7 --keep --sabotage drop-one'
	@$(if $(filter postgres mongo mongodb redis,$(subst =, ,$(ARGS))),scripts/setup stores)
	@exec "$$CARGO_TARGET_DIR/debug/testkit" demo $(ARGS)

lint: tools $(deny_program) ## format, clippy, boundaries, documentation
	@echo '[1/7] format'
	@cargo fmt --all --check
	@echo '[2/7] what each crate may depend on'
	@scripts/boundaries
	@echo '[3/7] bans, licences and sources'
	@$(deny)
	@echo '[4/7] clippy'
	@scripts/build clippy --locked --workspace --all-targets -- -D warnings
	@echo '[5/7] documentation'
	@RUSTDOCFLAGS='-D warnings' scripts/build doc --locked --workspace --no-deps --document-private-items

test: setup lint ## everything: also unit, conformance, simulation, end to end on a real broker
	@echo '[6/7] build'
	@scripts/build build --locked --workspace --all-targets
	@echo '[7/7] the backend out of the tree, then the tests: about half an hour; the longest are those of the stores on a real broker'
	@scripts/example
	@scripts/build test --locked --workspace --no-fail-fast

test-all: export TEST_ALL := 1
test-all: test ## make test with every store waited for in every outage

bench: tools ## ARGS='--records 300000 --rounds 5 --lanes 1 --lanes 2 --batch 2000 --batch 5000'
	@echo 'An optimised build of its own; the first one compiles RocksDB again, which takes minutes.'
	@cargo build --release --locked --bins -p orders-orchestrator -p testkit
	@load-test/build "$$CARGO_TARGET_DIR/release"
	@exec "$$CARGO_TARGET_DIR/release/testkit" bench --raw "$$CARGO_TARGET_DIR/bench.json" $(ARGS)

bench-stores: setup ## ARGS='--store postgres --entries 10000 --entries 1000000 --rounds 40'
	@echo 'An optimised build of its own; the first one compiles RocksDB again, which takes minutes.'
	@cargo build --release --locked --bins -p orders-orchestrator -p testkit
	@exec "$$CARGO_TARGET_DIR/release/testkit" tracker-bench --raw "$$CARGO_TARGET_DIR/bench-stores.json" $(ARGS)

deny: tools $(deny_program) ## bans, licences and sources of every dependency
	@$(deny)

# In a folder of its own, which cargo removes: what it is built from is no part of our build output.
$(deny_program):
	@echo 'Building cargo-deny $(deny_version), once: 3 to 7 minutes'
	@env -u CARGO_TARGET_DIR cargo install cargo-deny --version $(deny_version) --locked --quiet --root '$(deny_root)'

clean: ## removes the build output (not Kafka)
	@cargo clean
