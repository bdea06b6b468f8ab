# The commands of the project. `make run` and `make test` install what they need and do their job.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
# Where cargo puts what it builds.
BUILD := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run build test setup setup-run stack stack-down tor tor-down test-tor deb test-deb release setup-deb bench bench-behaviour bench-gate bench-http sheets fmt fmt-check lint doc deny structure lab lab-train lab-peers lab-test lab-setup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-run ## Show Fortify in front of a demonstration site, on 127.0.0.1:10002 (PORT=... for another)
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@exec ./scripts/run-demo.sh

# Between them, the two keep everything in target/stack and target/tornet.
stack: setup-stack ## HAProxy, nginx, Redis, Fortify and the demonstration site, until Ctrl-C (PORT_BASE=10000)
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@exec ./scripts/stack.sh run

stack-down: ## Stop what make stack or make tor started
	@./scripts/stack.sh down

tor: setup-stack ## The stack behind an onion service, on a Tor network of its own on loopback
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@./scripts/stack.sh running || ./scripts/stack.sh up
	@./scripts/tornet.sh up

tor-down: ## Stop the Tor network; the stack stays (make stack-down)
	@./scripts/tornet.sh down

build: setup-run ## Build everything in release mode
	$(CARGO) build --release --locked

test: setup fmt-check lint doc ## Run every check and every test, browsers and an onion service included
	$(CARGO) test --workspace --locked
	@./scripts/test-tor.sh

test-tor: setup-stack ## Tests over an onion service, on a Tor network of its own: less than a minute
	@./scripts/test-tor.sh

deb: setup-deb ## The Debian package, in target/debian
	@./scripts/build-deb.sh

test-deb: setup-deb ## The Debian package in a clean Debian: installed, upgraded, removed (root)
	@./scripts/test-deb.sh

release: setup-deb ## What is released, built twice and compared, in target/dist
	@./scripts/release.sh

setup: ## Install what the tests need: browsers, drivers, servers, a C linker
	@./scripts/setup.sh test

setup-stack:
	@./scripts/setup.sh stack

setup-deb:
	@./scripts/setup.sh deb

setup-run:
	@./scripts/setup.sh run

# Other generators have a build directory of their own: none of their crates is one of the gate's.
BUILD_PEERS = CARGO_TARGET_DIR=$(BUILD)/lab-peers $(CARGO) build --release --locked --manifest-path lab/peers/Cargo.toml

bench: setup-run ## Measure: pictures per second and what their times tell, also other generators; redeems and gate decisions
	$(CARGO) bench --workspace --exclude fortify-demo --exclude fortify-e2e --locked --benches
	$(CARGO) build --release --locked -p fortify
	$(BUILD)/release/fortify bench
	$(BUILD_PEERS)
	RAYON_NUM_THREADS=1 $(BUILD)/lab-peers/release/bench-peers

bench-behaviour: setup-run ## Measure what is made of visitors' requests: precision, recall, times, memory
	$(CARGO) bench --locked -p fortify --bench behaviour

# Loopback only; LOAD_SECONDS and LOAD_CONNECTIONS bound them. One store after the other: they would
# take each other's processors.
bench-gate: setup-stack ## Measure /_fortify/auth with a session beside nginx's constant 204, under wrk
	LOAD_STORE=memory $(CARGO) bench --locked -p fortify --bench load -- gate
	LOAD_STORE=redis $(CARGO) bench --locked -p fortify --bench load -- gate

bench-http: export LOAD_SECONDS ?= 60
bench-http: setup-stack ## Measure complete rounds over HTTP: a challenge, its picture, its answer
	LOAD_STORE=memory $(CARGO) bench --locked -p fortify --bench load -- http
	LOAD_STORE=redis $(CARGO) bench --locked -p fortify --bench load -- http

sheets: setup-run ## Contact sheets of every task, carrier and level, those of motion animated, in target/sheets
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

structure: ## Sizes of crates, arrows between them, circles of files; fails on what the layers do not allow
	@$(CARGO) run --quiet --locked -p fortify-structure -- --summary

# The lab: programs that read the challenges. See lab/README.md.
LAB_PYTHON := .tools/lab-venv/bin/python
LAB := PYTHONPATH=lab $(LAB_PYTHON) -m
LAB_OUT := $(BUILD)/lab
LEVELS ?= 3 8
VARIANTS ?=
CARRIERS ?=
MODES ?=
COUNT ?= 100
TUNING ?= 24
TIME ?= 8
N ?= 20000
LEVEL ?= 5
VARIANT ?= distorted_text
CARRIER ?=
STYLES ?=
UNSEEN ?=

lab: lab-setup ## Attack: engines and informed attacks (LEVELS="3 8" COUNT=100 VARIANTS= CARRIERS= MODES= GROUPS=)
	$(CARGO) build --release --locked -p fortify
	rm -rf $(LAB_OUT)/tune $(LAB_OUT)/test $(LAB_OUT)/mix
	$(LAB) fortify_lab.sets --fortify $(BUILD)/release/fortify --out $(LAB_OUT) --levels $(LEVELS) --tuning $(TUNING) --count $(COUNT) \
		$(if $(VARIANTS),--variants $(VARIANTS)) $(if $(CARRIERS),--carriers $(CARRIERS)) $(if $(MODES),--modes $(MODES))
	$(LAB) fortify_lab.attack --tune $(LAB_OUT)/tune/* --test $(LAB_OUT)/test/* --mix $(LAB_OUT)/mix $(if $(GROUPS),--groups $(GROUPS)) \
		--tuning $(TUNING) --count $(COUNT) --out $(LAB_OUT)
	@echo "results: $(LAB_OUT)/results.md and results.jsonl"

lab-train: lab-setup ## Attack: a network that learns (TIME=minutes N=20000 LEVEL=5 VARIANT= CARRIER= STYLES="aa bb")
	$(CARGO) build --release --locked -p fortify
	$(LAB) fortify_lab.school --fortify $(BUILD)/release/fortify --out $(LAB_OUT) --variant $(VARIANT) --level $(LEVEL) \
		--minutes $(TIME) --number $(N) $(if $(CARRIER),--carrier $(CARRIER)) $(if $(STYLES),--styles $(STYLES)) $(if $(UNSEEN),--unseen $(UNSEEN))

lab-peers: lab-setup ## Attack: the same engines on pictures of other generators (COUNT=100, TUNING=24)
	$(BUILD_PEERS)
	rm -rf $(LAB_OUT)/peers
	$(BUILD)/lab-peers/release/lab-peers $(LAB_OUT)/peers $(TUNING) $(COUNT)
	for peer in $(LAB_OUT)/peers/test/*; do \
		name=$$(basename "$$peer"); \
		$(LAB) fortify_lab.attack --tune "$(LAB_OUT)/peers/tune/$$name" --test "$$peer" --label "$$name" --tuning $(TUNING) --count $(COUNT) --out "$(LAB_OUT)/peers/out/$$name"; \
	done

lab-test: lab-setup ## Test the lab itself
	cd lab && ../$(LAB_PYTHON) -m pytest

# Tesseract from the system, the rest in an environment of its own.
lab-setup: .tools/lab-venv/ready
	@./scripts/setup.sh lab

.tools/lab-venv/ready: lab/requirements.txt
	@./scripts/setup.sh lab
	python3 -m venv --clear .tools/lab-venv
	$(LAB_PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --requirement lab/requirements.txt
	@touch $@
