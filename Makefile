# The commands of the project. `make run` and `make test` install what they need and do their job.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
# Where cargo puts what it builds.
BUILD := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run build test setup setup-run bench sheets fmt fmt-check lint doc deny

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-run ## Show Fortify in front of a demonstration site, on 127.0.0.1:10002 (PORT=... for another)
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@exec ./scripts/run-demo.sh

build: setup-run ## Build everything in release mode
	$(CARGO) build --release --locked

test: setup fmt-check lint doc ## Run every check and every test, browsers included
	$(CARGO) test --workspace --locked

setup: ## Install what the tests need: browsers, drivers, a C linker
	@./scripts/setup.sh test

setup-run:
	@./scripts/setup.sh run

bench: setup-run ## Measure: pictures per second, redeems and gate decisions
	$(CARGO) bench --workspace --exclude fortify-demo --exclude fortify-e2e --locked --benches
	$(CARGO) build --release --locked -p fortify
	$(BUILD)/release/fortify bench

sheets: setup-run ## Contact sheets of every task, carrier and level, in target/sheets
	@./scripts/sheets.sh

fmt: ## Format the code
	$(CARGO) fmt --all

fmt-check:
	$(CARGO) fmt --all --check

lint: ## Clippy, warnings refused
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the API documentation, warnings refused
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny: ## Check licences, advisories and sources (needs cargo-deny)
	@command -v cargo-deny >/dev/null || { echo "cargo-deny is missing: cargo install cargo-deny --locked" >&2; exit 1; }
	$(CARGO) deny --all-features check
