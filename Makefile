# Obol: `make demo` shows it, `make test` proves it. The rest is for those who work on it.
#
# Compiled dependencies live outside the checkout, so that a fresh clone does not compile RocksDB again.

SHELL := /bin/bash
CACHE ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/obol
export CARGO_TARGET_DIR ?= $(CACHE)/target
export OBOL_TEST_PYTHON ?= $(CACHE)/python/bin/python
BIN := $(CARGO_TARGET_DIR)/debug
# The kind of realm to show: mit, or ad for an Active Directory. `make demo REALM=ad`
REALM := mit

.PHONY: help demo dev test lint bench fuzz docs build clean-cache

help: ## Show these targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: ## Build, start a throwaway realm and a server, log in with two tickets, and stop; REALM=ad for Active Directory
	@tools/os-packages demo $(filter ad,$(REALM))
	cargo build -p obol -p obol-testbed
	@PATH="$(BIN):$$PATH" tools/demo $(REALM)

dev: ## The same set-up, left running to try by hand
	@tools/os-packages demo $(filter ad,$(REALM))
	cargo build -p obol -p obol-testbed
	@PATH="$(BIN):$$PATH" tools/demo --stay $(REALM)

test: ## Everything, against a real KDC, a real directory and real clients
	@tools/os-packages test
	@tools/python-env "$(CACHE)/python"
	@tools/client-programs "$(CACHE)/clients" >/dev/null
	cargo build -p obol -p obol-testbed
	cargo test --workspace

lint: ## Formatting, clippy with warnings as errors, generated files up to date, what linters say of the OpenAPI document
	@tools/os-packages lint
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	@tools/check-generated
	@tools/check-openapi api-docs/openapi.json

bench: ## The tables of ARCHITECTURE.md, each against a limit measured in the same run
	@tools/os-packages demo ad
	cargo build --release -p obol -p obol-benches
	$(CARGO_TARGET_DIR)/release/obol-benches $(BENCH)

fuzz: ## Fuzz each parser for a minute (needs cargo-fuzz); SECONDS=n for longer
	@tools/fuzz $(or $(FUZZ_SECONDS),60)

docs: ## Write the generated documents (api-docs/), and build the handbook
	cargo run -q -p obol --example documents "$(CACHE)/documents.new"
	cp "$(CACHE)/documents.new/openapi.json" api-docs/openapi.json
	rm -rf api-docs/handbook/src/reference
	cp -r "$(CACHE)/documents.new/handbook/src/reference" api-docs/handbook/src/reference
	rm -rf "$(CACHE)/documents.new"
	@tools/handbook "$(CACHE)"

build: ## The release binary
	@tools/os-packages build
	cargo build --release -p obol

clean-cache: ## Remove what was compiled
	rm -rf "$(CACHE)"
