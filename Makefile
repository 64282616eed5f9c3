# The two commands that matter: `make serve` and `make test`. Both need Python 3.11+ and nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup serve demo test test-slow test-real check fix bench lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(STAMP) ## Create the environment and install everything into it

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed: make setup PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev,real]'
	@touch $@

serve: $(STAMP) ## Start the gateway (ARGS="--port 8010" for options)
	@$(BIN)/nexus serve $(ARGS)

demo: $(STAMP) ## Start the gateway with two demo engines: nothing else to install
	@$(BIN)/nexus demo $(ARGS)

test: $(STAMP) ## Run the tests (slow ones excepted)
	@$(BIN)/pytest -q $(ARGS)

test-slow: $(STAMP) ## Run the tests that take tens of seconds
	@$(BIN)/pytest -q -m slow $(ARGS)

test-real: $(STAMP) ## Run the tests against real engines only
	@$(BIN)/pytest -q -m real $(ARGS)

check: $(STAMP) ## Lint, types, layers, generated files
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m nexus.config.reference --check

fix: $(STAMP) ## Format and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -m nexus.config.reference --write

bench: $(STAMP) ## CPU per request and per event beside nginx (needs nginx)
	@$(BIN)/python -m benchmarks.macro $(ARGS)

lock: ## Write constraints.txt from a fresh environment
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev,real]'
	@build/lock/bin/python -m pip freeze --exclude nexus-gateway > constraints.txt
	@rm -rf build/lock

clean: ## Remove the environment and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
