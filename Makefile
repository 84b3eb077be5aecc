# Everything a contributor runs. `make` alone lists it.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
MIN    := 3.11
JOBS   ?= 3
# A file's tests stay together: they share what their fixtures have made.
PARALLEL := -n $(JOBS) --dist loadfile --no-loadscope-reorder

# The tests start hundreds of processes, and each would compile our modules anew: half a second of each start.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help setup native kafka-jars demo demo-kafka test check types unit-tests bench chaos lock simulate-faults clean

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: native ## Make .venv and install the locked packages (PYTHON=... chooses the interpreter)

# Two steps on purpose: the locked packages are checked against their hashes, the project itself has none.
$(STAMP): pyproject.toml requirements.lock
	@command -v $(PYTHON) >/dev/null 2>&1 || { \
	  echo "Taximeter needs Python $(MIN) or newer: '$(PYTHON)' was not found. Try: make setup PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MIN)".split("."))))' || { \
	  echo "Taximeter needs Python $(MIN) or newer: '$(PYTHON)' is $$($(PYTHON) -V 2>&1). Try: make setup PYTHON=python$(MIN)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "'$(PYTHON)' cannot make virtual environments (on Debian and Ubuntu: install python3-venv)." >&2; exit 1; }
	@test -x $(BIN)/python || { echo "==> making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "==> installing the locked packages"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-compile -r requirements.lock
	@# By all cores, where pip takes one. Some packages bring files for other versions of Python.
	@$(BIN)/python -m compileall -q -j 0 $(VENV)/lib >/dev/null 2>&1 || true
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

# Its name holds a hash of its sources: built again where they have changed, found where they have not.
native: $(STAMP)
	@$(BIN)/python -m native.build >/dev/null

kafka-jars: native ## Fetch the Kafka broker that tests and demo-kafka start (needs Java 17 and Maven once)
	@$(BIN)/python infra/kafka/broker.py fetch

demo: native ## From usage events to an invoice in one process, nothing else needed
	@$(BIN)/taximeter demo

demo-kafka: kafka-jars ## The same on a real Kafka broker with Faust workers
	@$(BIN)/taximeter demo-kafka

check: native ## Format, lint, types, import arrows and unit tests: under a minute
	@echo "==> ruff format";  $(BIN)/ruff format --check .
	@echo "==> ruff check";   $(BIN)/ruff check .
	@$(MAKE) --no-print-directory -j 2 types unit-tests

# One thread is enough for them, so the unit tests begin meanwhile.
types: native
	@echo "==> mypy";         $(BIN)/mypy
	@echo "==> import-linter"; $(BIN)/lint-imports

unit-tests: native
	@echo "==> unit tests";   $(BIN)/python -m pytest tests/unit -q $(PARALLEL)

test: check kafka-jars ## Everything: check, then all tests, those on a real Kafka broker included
	@echo "==> all tests"
	@$(BIN)/python -m pytest tests -q --ignore=tests/unit $(PARALLEL)

simulate-faults: native ## Many seeded stories of faults against the oracle (SEEDS=10000 FROM=0 JOBS=3)
	@$(BIN)/python -m tests.simulation --seeds $(or $(SEEDS),10000) --from $(or $(FROM),0) --jobs $(JOBS)

bench: native ## Measure speed, check every cent, write docs/evidence/speed.md (BENCH_ARGS="--long", "--only engine,door")
	@$(BIN)/python -m benchmarks $(BENCH_ARGS)

CHAOS_ARGS ?= --report docs/evidence/chaos.md

chaos: kafka-jars ## Kill, stop and starve real processes for half an hour, and compare every cent (CHAOS_ARGS="--help")
	@$(BIN)/python -m benchmarks.chaos $(CHAOS_ARGS)

lock: ## Resolve requirements.lock anew from pyproject.toml (LOCK_ARGS="--upgrade-package polars" moves one)
	@test -x build/lock/bin/uv || { $(PYTHON) -m venv build/lock && build/lock/bin/python -m pip install --quiet uv; }
	@build/lock/bin/uv pip compile --quiet --universal --python-version $(MIN) --extra dev --generate-hashes \
	  --no-emit-index-url --no-emit-find-links --custom-compile-command "make lock" $(LOCK_ARGS) \
	  --output-file requirements.lock pyproject.toml
	@echo "requirements.lock: $$(grep -c '==' requirements.lock) packages"

clean: ## Remove the environment, builds and caches
	@rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +
