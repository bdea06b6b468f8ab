# The commands of the project. Each installs what it needs, where that is missing, and does its job. The help
# says what that is: with "C linker" gcc, with "servers" also HAProxy, nginx, Redis, tor, curl, wrk and socat, with
# "browsers" also Firefox, Chromium, their drivers, Prometheus, systemd and openssl. Packages come from Debian
# (root, or sudo), tools from source into .tools; all else stays in the build directory.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
CARGO ?= cargo
# Where cargo puts what it builds.
BUILD := $(if $(CARGO_TARGET_DIR),$(CARGO_TARGET_DIR),target)

.DEFAULT_GOAL := help
.PHONY: help run build test test-busy test-root setup setup-run stack stack-down tor tor-down test-tor deb test-deb release setup-deb bench bench-behaviour bench-gate bench-http bench-cost siege chaos endure sheets fmt fmt-check lint doc deny structure lab lab-train lab-peers lab-test lab-setup

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-15s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: setup-run ## Show Fortify in front of a demonstration site, on 127.0.0.1:10002 (PORT=...; installs a C linker)
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@exec ./scripts/run-demo.sh

# Between them, the two keep everything in target/stack and target/tornet.
stack: setup-stack ## HAProxy, nginx, Redis, Fortify and the demonstration site, until Ctrl-C (PORT_BASE=10000; installs servers)
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@exec ./scripts/stack.sh run

stack-down: ## Stop what make stack or make tor started (installs nothing)
	@./scripts/stack.sh down

tor: setup-stack ## The stack behind an onion service, on a Tor network of its own on loopback (installs servers)
	$(CARGO) build --release --locked -p fortify -p fortify-demo
	@./scripts/stack.sh running || ./scripts/stack.sh up
	@./scripts/tornet.sh up

tor-down: ## Stop the Tor network; the stack stays (make stack-down; installs nothing)
	@./scripts/tornet.sh down

build: setup-run ## Build everything in release mode (installs a C linker)
	$(CARGO) build --release --locked

test: setup fmt-check lint doc ## Run every check and every test, browsers and an onion service included (installs servers and browsers)
	$(CARGO) test --workspace --locked
	@./scripts/test-root.sh
	@./scripts/test-tor.sh

test-root: setup-run ## The tests that need root, where this is root; else how many are left out (installs a C linker)
	@./scripts/test-root.sh

test-busy: setup ## The browser suite RUNS=5 times beside LOOPS=6 busy loops (installs servers and browsers)
	@./scripts/test-busy.sh

test-tor: setup-stack ## Tests over an onion service, on a Tor network of its own: less than a minute (installs servers)
	@./scripts/test-tor.sh

deb: setup-deb ## The Debian package, in target/debian (installs cargo-deb, dpkg-dev, debootstrap, lintian)
	@./scripts/build-deb.sh

test-deb: setup-deb ## The Debian package in a clean Debian: installed, upgraded, removed (root; installs as make deb)
	@./scripts/test-deb.sh

release: setup-deb ## What is released, built twice and compared, in target/dist (installs as make deb)
	@./scripts/release.sh

setup: ## Install what the tests need: servers, browsers and their drivers, a C linker
	@./scripts/setup.sh test

setup-stack:
	@./scripts/setup.sh stack

setup-deb:
	@./scripts/setup.sh deb

setup-run:
	@./scripts/setup.sh run

# Other generators have a build directory of their own: none of their crates is one of the gate's.
BUILD_PEERS = CARGO_TARGET_DIR=$(BUILD)/lab-peers $(CARGO) build --release --locked --manifest-path lab/peers/Cargo.toml

bench: setup-run ## Measure: pictures per second and what their times tell, also other generators; redeems and gate decisions (installs a C linker)
	$(CARGO) bench --workspace --exclude fortify-demo --exclude fortify-e2e --locked --benches
	$(CARGO) build --release --locked -p fortify
	$(BUILD)/release/fortify bench
	$(BUILD_PEERS)
	RAYON_NUM_THREADS=1 $(BUILD)/lab-peers/release/bench-peers

bench-behaviour: setup-run ## Measure what is made of visitors' requests: precision, recall, times, memory (installs a C linker)
	$(CARGO) bench --locked -p fortify --bench behaviour

# Loopback only; LOAD_SECONDS and LOAD_CONNECTIONS bound them. One store after the other: they would
# take each other's processors.
bench-gate: setup-stack ## Measure /_fortify/auth with a session beside nginx's constant 204, under wrk (installs servers)
	LOAD_STORE=memory $(CARGO) bench --locked -p fortify --bench load -- gate
	LOAD_STORE=redis $(CARGO) bench --locked -p fortify --bench load -- gate

bench-http: export LOAD_SECONDS ?= 60
bench-http: setup-stack ## Measure complete rounds over HTTP: a challenge, its picture, its answer (installs servers)
	LOAD_STORE=memory $(CARGO) bench --locked -p fortify --bench load -- http
	LOAD_STORE=redis $(CARGO) bench --locked -p fortify --bench load -- http

# Loopback only. The program under attack is built by itself: the suite turns on what tests need. A bar that is
# missed is a finding and no failure of the suite.
MINUTES ?= 40
ATTACKS ?=
OLD ?=

siege: setup-stack ## Attacks on the whole stack beside generated people; docs/siege.md (MINUTES=40 ATTACKS="few farm" OLD=another/fortify; installs servers)
	$(CARGO) build --release --locked -p fortify
	$(CARGO) build --release --locked -p fortify-siege
	$(if $(ATTACKS),,rm -rf $(BUILD)/siege)
	ulimit -n "$$(ulimit -Hn)"; PATH=$$PATH:/usr/sbin $(BUILD)/release/fortify-siege run --program $(BUILD)/release/fortify \
		--out $(BUILD)/siege --minutes $(MINUTES) $(if $(OLD),--old $(OLD)) $(if $(ATTACKS),--attacks $(ATTACKS),--write-docs) || [[ $$? -eq 2 ]]

ROUNDS ?= 20

chaos: export ROUNDS := $(ROUNDS)
chaos: setup ## Three gates over a Redis, then a Cluster, to which everything happens, ROUNDS=20 times, and a checker of what was acknowledged
	$(CARGO) test --workspace --locked --test it -- --ignored --exact --nocapture chaos::chaos

bench-cost: setup-stack ## The CPU time of a proxied request beside that of another program, in turns (OLD=another/fortify; installs servers)
	$(CARGO) build --release --locked -p fortify
	$(CARGO) build --release --locked -p fortify-siege
	$(BUILD)/release/fortify-siege cost --program $(BUILD)/release/fortify --old $(OLD)

endure: setup-stack ## Restarts and upgrades at 2,000 requests/s, SIGHUP during the start, the growth of the log, rotations of keys (OLD=another/fortify; installs servers)
	$(CARGO) build --release --locked -p fortify
	$(CARGO) build --release --locked -p fortify-siege
	ulimit -n "$$(ulimit -Hn)"; PATH=$$PATH:/usr/sbin $(BUILD)/release/fortify-siege endure --program $(BUILD)/release/fortify $(if $(OLD),--old $(OLD))

sheets: setup-run ## Contact sheets of every task, carrier and level, those of motion animated, in target/sheets (installs a C linker)
	@./scripts/sheets.sh

fmt: ## Format the code (installs nothing)
	$(CARGO) fmt --all

fmt-check:
	$(CARGO) fmt --all --check

lint: ## Clippy, warnings refused (installs nothing)
	$(CARGO) clippy --workspace --all-targets --locked -- -D warnings

doc: ## Build the API documentation, warnings refused (installs nothing)
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --workspace --no-deps --locked

deny: ## Check licences, advisories and sources (installs nothing; needs cargo-deny)
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

lab: lab-setup ## Attack: engines and informed attacks (LEVELS="3 8" COUNT=100 VARIANTS= CARRIERS= MODES= GROUPS=; installs Python, Tesseract)
	$(CARGO) build --release --locked -p fortify
	rm -rf $(LAB_OUT)/tune $(LAB_OUT)/test $(LAB_OUT)/mix
	$(LAB) fortify_lab.sets --fortify $(BUILD)/release/fortify --out $(LAB_OUT) --levels $(LEVELS) --tuning $(TUNING) --count $(COUNT) \
		$(if $(VARIANTS),--variants $(VARIANTS)) $(if $(CARRIERS),--carriers $(CARRIERS)) $(if $(MODES),--modes $(MODES))
	$(LAB) fortify_lab.attack --tune $(LAB_OUT)/tune/* --test $(LAB_OUT)/test/* --mix $(LAB_OUT)/mix $(if $(GROUPS),--groups $(GROUPS)) \
		--tuning $(TUNING) --count $(COUNT) --out $(LAB_OUT)
	@echo "results: $(LAB_OUT)/results.md and results.jsonl"

lab-train: lab-setup ## Attack: a network that learns (TIME=minutes N=20000 LEVEL=5 VARIANT= CARRIER= STYLES="aa bb"; installs as make lab)
	$(CARGO) build --release --locked -p fortify
	$(LAB) fortify_lab.school --fortify $(BUILD)/release/fortify --out $(LAB_OUT) --variant $(VARIANT) --level $(LEVEL) \
		--minutes $(TIME) --number $(N) $(if $(CARRIER),--carrier $(CARRIER)) $(if $(STYLES),--styles $(STYLES)) $(if $(UNSEEN),--unseen $(UNSEEN))

lab-peers: lab-setup ## Attack: the same engines on pictures of other generators (COUNT=100, TUNING=24; installs as make lab)
	$(BUILD_PEERS)
	rm -rf $(LAB_OUT)/peers
	$(BUILD)/lab-peers/release/lab-peers $(LAB_OUT)/peers $(TUNING) $(COUNT)
	for peer in $(LAB_OUT)/peers/test/*; do \
		name=$$(basename "$$peer"); \
		$(LAB) fortify_lab.attack --tune "$(LAB_OUT)/peers/tune/$$name" --test "$$peer" --label "$$name" --tuning $(TUNING) --count $(COUNT) --out "$(LAB_OUT)/peers/out/$$name"; \
	done

lab-test: lab-setup ## Test the lab itself (installs as make lab)
	cd lab && ../$(LAB_PYTHON) -m pytest

# Tesseract from the system, the rest in an environment of its own.
lab-setup: .tools/lab-venv/ready
	@./scripts/setup.sh lab

.tools/lab-venv/ready: lab/requirements.txt
	@./scripts/setup.sh lab
	python3 -m venv --clear .tools/lab-venv
	$(LAB_PYTHON) -m pip install --disable-pip-version-check --no-deps --requirement lab/requirements.txt
	@touch $@
