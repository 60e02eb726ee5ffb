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

.PHONY: help setup build demo test lint deny clean

help: ## lists these targets
	@echo 'make demo                       see it work: broker, orders, service, verdict by ids'
	@echo "make demo ARGS='--keep'         … and leave broker and service running"
	@echo "make demo ARGS='--sabotage drop-one'  … and see the verdict notice a lost order (exit 1)"
	@echo 'make test                       everything that CI runs'
	@echo 'make setup | build | lint | deny | clean'
	@echo 'Build output and Kafka are kept in $(cache)'

setup: ## installs what is missing
	@scripts/setup

build: setup ## the service and the test kit
	@scripts/build build --locked --bins -p orders-orchestrator -p testkit

demo: build ## ARGS='--records 20000 --seed 7 --keep --sabotage drop-one'
	@exec "$$CARGO_TARGET_DIR/debug/testkit" demo $(ARGS)

lint: setup ## format, clippy, boundaries, documentation
	@echo '[1/6] format'
	@cargo fmt --all --check
	@echo '[2/6] what each crate may depend on'
	@scripts/boundaries
	@echo '[3/6] clippy'
	@scripts/build clippy --locked --workspace --all-targets -- -D warnings
	@echo '[4/6] documentation'
	@RUSTDOCFLAGS='-D warnings' scripts/build doc --locked --workspace --no-deps --document-private-items

test: lint ## everything: also unit, conformance, simulation, end to end on a real broker
	@echo '[5/6] build'
	@scripts/build build --locked --workspace --all-targets
	@echo '[6/6] tests'
	@scripts/build test --locked --workspace --no-fail-fast

deny: ## bans, licences and sources of every dependency, where cargo-deny is installed (cargo install cargo-deny --locked)
	@command -v cargo-deny >/dev/null || { echo 'cargo-deny is missing: cargo install cargo-deny --locked (several minutes, once)'; exit 1; }
	@cargo deny --workspace --locked check bans licenses sources

clean: ## removes the build output (not Kafka)
	@cargo clean
