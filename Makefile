# The two commands that matter: `make run` and `make test`. Both set themselves up on first use.

VENV      ?= .venv
RUN_ARGS  ?=
# Twice as many as cores: the tests of real processes and sockets mostly wait.
WORKERS   ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))
TEST_ARGS ?=
SEEDS     ?= 1000
FIRST     ?= 0
HOURS     ?= 8
KILLS     ?= 1000
KILLS_ARGS      ?=
SIMULATE_ARGS   ?=
EXHAUSTIVE_ARGS ?=
FUZZ_ARGS       ?=
BENCH_ARGS      ?=

BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check -qq
# Python 3.11 or newer: the one named by PYTHON, else the first that is new enough.
PYTHON ?= python3 python3.13 python3.12 python3.11

.DEFAULT_GOAL := help
.PHONY: help run test simulate fuzz exhaustive kills soak check coverage docs clean bench

help: ## Say what can be made (the default)
	@awk 'BEGIN {FS = ":.*## "} /^[a-z]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.ready-to-run ## Rehearse bad days: orders on the paper exchange while faults are injected
	@$(BIN)/python -m services.mcp.order_execution.rehearsal $(RUN_ARGS)

test: $(VENV)/.ready-to-test ## Run every test
	@$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(TEST_ARGS)

simulate: $(VENV)/.ready-to-test ## Live through SEEDS=1000 worlds of bad days, from seed FIRST=0 on
	@$(BIN)/python -m tests.simulation --seeds $(SEEDS) --first $(FIRST) $(SIMULATE_ARGS)

fuzz: $(VENV)/.ready-to-test ## Live through SEEDS=1000 random days of deadlines, cancels, closes and hanging disks, from FIRST=0 on
	@$(BIN)/python -m tests.simulation.fuzz --seeds $(SEEDS) --first $(FIRST) $(FUZZ_ARGS)

exhaustive: $(VENV)/.ready-to-test ## Every single fault and every pair of faults at every step of an order's life (an hour)
	@$(BIN)/python -m tests.simulation.exhaustive $(EXHAUSTIVE_ARGS)
	@$(BIN)/python -m tests.simulation.exhaustive --pairs $(EXHAUSTIVE_ARGS)

kills: $(VENV)/.ready-to-test ## Kill bots with SIGKILL, KILLS=1000 times: at every named point, and at random moments
	@$(BIN)/python -m tests.kills --kills $(KILLS) $(KILLS_ARGS)

soak: $(VENV)/.ready-to-test ## Simulate for HOURS=8, from a seed that nobody has seen
	@$(BIN)/python -m tests.simulation --hours $(HOURS) --first $$(( $$(date +%s) * 100 )) $(SIMULATE_ARGS)

bench: $(VENV)/.ready-to-bench ## Measure the order's path beside its peers; BENCH_ARGS=--quick for a short run
	@$(BIN)/python -m tests.benchmarks $(BENCH_ARGS)

check: $(VENV)/.ready-to-test ## Check style, format, types and import directions
	@status=0; \
	for tool in "ruff check --quiet ." "ruff format --check --quiet ." "mypy" "lint-imports --no-cache"; do \
	  echo "$$tool"; $(BIN)/$$tool || status=1; \
	done; \
	exit $$status

coverage: $(VENV)/.ready-to-test ## Run every test and show which lines and branches none of them reached
	@$(BIN)/python -m coverage erase
	@$(BIN)/python -m coverage run -m pytest -q $(TEST_ARGS)
	@$(BIN)/python -m coverage combine --quiet 2>/dev/null || true
	@$(BIN)/python -m coverage report --show-missing --skip-covered

docs: $(VENV)/.ready-to-test ## Write the generated parts of the reference pages anew
	@$(BIN)/python docs/generate.py

clean: ## Remove the environment and what tools have cached; data/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage .coverage.* build dist

$(BIN)/python:
	@python=; for candidate in $(PYTHON); do \
	  if "$$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then python="$$candidate"; break; fi; \
	done; \
	if [ -z "$$python" ]; then \
	  echo "Python 3.11 or newer is needed; looked for: $(PYTHON). Name one: make PYTHON=/path/to/python" >&2; exit 1; \
	fi; \
	echo "Making $(VENV) with $$("$$python" --version)"; \
	if ! "$$python" -m venv $(VENV); then \
	  rm -rf $(VENV); echo "$$python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; \
	fi

$(VENV)/.ready-to-run: pyproject.toml | $(BIN)/python
	@echo "Installing what is needed to run (once)"
	@$(PIP) install --editable .
	@touch $@

$(VENV)/.ready-to-test: pyproject.toml | $(BIN)/python
	@echo "Installing what is needed to run and test (once)"
	@$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.ready-to-run $@

$(VENV)/.ready-to-bench: pyproject.toml | $(BIN)/python
	@echo "Installing what is needed to measure (once); peers get environments of their own in .bench/"
	@$(PIP) install --editable '.[bench]'
	@touch $(VENV)/.ready-to-run $@
