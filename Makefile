# Every target builds the environment it needs; `python3` with venv and `make` are enough.
PYTHON ?= python3
JOBS ?= 2
# How many seeds `make test-long` simulates, on each kind of store.
SEEDS ?= 5000
VENV := .venv
BIN := $(VENV)/bin
CAMPAIGN := $(addprefix tests/,tamper foreign crash disk escape secrets)
# Thousands of commands are started: where no bytecode is kept, each would compile them all again.
COMPILE := $(BIN)/python -m compileall -q src
PIP := $(BIN)/python -m pip install -q --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help demo demo-regimes test test-long campaign check fmt lint types tidy docs metrics bench clean tools

help: ## Show the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' Makefile

$(VENV)/core.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(VENV)/dev.stamp: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) -e '.[dev]'
	@touch $(VENV)/core.stamp $@

demo: $(VENV)/core.stamp ## Run two real cycles, seal, export, verify and tamper
	@$(COMPILE) && $(BIN)/python examples/market/demo.py

demo-regimes: $(VENV)/core.stamp ## Stream five years of prices, replay, derive, export and tamper
	@$(COMPILE) && $(BIN)/python examples/regimes/demo.py

test: tools $(VENV)/dev.stamp ## Run every test
	@$(COMPILE) && $(BIN)/python -m pytest -q -n $(JOBS)

tools: # What tests run beside Python, from Debian's packages where it is missing.
	@missing="" failed="" apt="apt-get -y -qq -o Acquire::http::Timeout=30"; \
	for tool in openssl:openssl strace:strace bwrap:bubblewrap go:golang-go \
	  ssh-keygen:openssh-client systemd-analyze:systemd; do \
	  command -v $${tool%:*} >/dev/null || missing="$$missing $${tool#*:}"; done; \
	[ -d /usr/share/gocode/src/golang.org/x/mod/sumdb/tlog ] || \
	  missing="$$missing golang-golang-x-mod-dev"; \
	[ -z "$$missing" ] || $$apt update || true; \
	for package in $$missing; do \
	  DEBIAN_FRONTEND=noninteractive $$apt install --no-install-recommends $$package || \
	  failed="$$failed $$package"; done; \
	[ -z "$$failed" ] || echo "warning: not installed, what needs it is skipped:$$failed" >&2

test-long: $(VENV)/dev.stamp ## Simulate streams under thousands of seeds
	@$(COMPILE) && $(BIN)/python -m pytest -q -n $(JOBS) --seeds $(SEEDS) tests/streams/test_simulator.py

campaign: tools $(VENV)/dev.stamp ## Try every point of the crash, tamper, disk, escape and secret tests
	@$(COMPILE) && $(BIN)/python -m pytest -q -n $(JOBS) --campaign $(CAMPAIGN)

check: lint types tidy docs ## Lint, types, architecture and documents: what a change must pass

fmt: $(VENV)/dev.stamp ## Format and apply safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/dev.stamp ## Check rules, format and spelling
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(VENV)/dev.stamp ## Check types strictly
	$(BIN)/mypy --strict src $(wildcard tests/typing)

tidy: $(VENV)/dev.stamp ## Check the architecture
	$(BIN)/python -m pytest -q tests/tidy

docs: $(VENV)/dev.stamp ## Check the documents
	$(BIN)/python -m pytest -q tests/docs

metrics: $(VENV)/dev.stamp ## Print sizes beside those of admired code
	@$(BIN)/python -m tests.tidy.metrics

bench: $(VENV)/dev.stamp ## Run the benchmarks
	@$(BIN)/python benchmarks/run.py

clean: ## Remove everything that the targets made
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
