# Everything a developer or a first user runs. The environment is .venv, made on first need.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/pip --disable-pip-version-check
# Tiny models lose more to thread switching than they win from a second core.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
PYTEST := $(TEST_ENV) $(BIN)/pytest -n 2 --dist loadfile

.DEFAULT_GOAL := help

help: ## Show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

$(BIN)/pip:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Mooring needs Python 3.11 or newer")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install --quiet --constraint constraints.txt --editable '.[all]'
	@touch $@

$(VENV)/.develop: pyproject.toml constraints.txt | $(BIN)/pip
	$(PIP) install --quiet --constraint constraints.txt --editable '.[lint]'
	@touch $@ $(VENV)/.run

demo: $(VENV)/.run ## Package the bundled model, serve it and ask it one question
	@$(BIN)/python scripts/demo.py

serve: $(VENV)/.run ## Serve the packaged demo model until Ctrl-C
	@$(BIN)/mooring serve models:/demo@champion

test: $(VENV)/.develop ## Run all tests but the slow ones
	$(PYTEST)

test-slow: $(VENV)/.develop ## Run the slow tests: rebuilt environments, training again
	$(TEST_ENV) $(BIN)/pytest -m slow

soak: $(VENV)/.develop ## Torment a server run by run, then for an hour (two hours in all)
	@$(BIN)/python -m benchmarks.soak

soak-short: $(VENV)/.develop ## The same runs, short: three minutes
	@$(BIN)/python -m benchmarks.soak --short

fuzz: $(VENV)/.develop ## 20,000 bodies and 5,000 streams of bytes made up against a real server
	FUZZ_BODIES=20000 FUZZ_BYTES=5000 $(TEST_ENV) $(BIN)/pytest tests/fuzz
	FUZZ_SCHEMA=300 $(TEST_ENV) $(BIN)/pytest tests/http/test_openapi.py

lint: $(VENV)/.develop ## Check style and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

format: $(VENV)/.develop ## Mend style where that is safe
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: $(VENV)/.run ## Measure generation, the server and packaging, each side by side (an hour)
	@$(BIN)/python -m benchmarks.tokens --models demo S M R --quick
	@$(BIN)/python -m benchmarks.table
	@$(BIN)/python -m benchmarks.server
	@MLFLOW_LOGGING_LEVEL=ERROR $(BIN)/python benchmarks/scoring_server.py
	@MLFLOW_LOGGING_LEVEL=ERROR $(BIN)/python benchmarks/package_speed.py

bench-quick: $(VENV)/.run ## The same with little work: minutes, figures for orientation only
	@$(BIN)/python -m benchmarks.tokens --models demo
	@$(BIN)/python -m benchmarks.table --models S --quick --runs 1
	@$(BIN)/python -m benchmarks.server --runs 2

demo-model: $(VENV)/.run ## Train the bundled demo model again (minutes)
	OMP_WAIT_POLICY=passive $(BIN)/python -m mooring.demo.train

constraints: $(VENV)/.develop ## Write the versions of this environment to constraints.txt
	$(BIN)/python scripts/constraints.py

clean: ## Remove the environment and what runs have left
	rm -rf $(VENV) build dist mlruns mlartifacts mlflow.db .pytest_cache .mypy_cache .ruff_cache

.PHONY: help demo serve test test-slow soak soak-short fuzz lint format bench bench-quick demo-model constraints clean
