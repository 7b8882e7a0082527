# Two commands for a fresh machine: `make demo` and `make test`. `make help` lists the others.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
ACCEPT ?= 5
TELL   := awk '/^Collecting/ { sub(/[^A-Za-z0-9._-].*/, "", $$2); printf "%s ", $$2; fflush() } \
                /^(Installing|Successfully i|ERROR)/ { print ""; print substr($$0, 1, 70); fflush() }'
SHELL  := bash
.SHELLFLAGS := -eu -o pipefail -c

.DEFAULT_GOAL := help
.PHONY: help demo test coverage lint format bench pictures lock clean

help:  ## what one can make
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/' | expand -t 10

$(BIN)/python:
	@echo "making $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "agentloop needs Python 3.11 or newer: make PYTHON=python3.12 …"; exit 2; }
	@$(PYTHON) -m venv $(VENV)
	@$(PIP) install --quiet --constraint constraints.txt pip setuptools

$(VENV)/.local: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing agentloop with its embedded model's runtime (about 300 MB, once)"
	@$(PIP) install --constraint constraints.txt --editable '.[local]' 2>&1 | $(TELL)
	@touch $@

$(VENV)/.dev: $(BIN)/python pyproject.toml constraints.txt
	@echo "installing agentloop and its test tools (once)"
	@$(PIP) install --constraint constraints.txt --editable '.[dedup,language,local,maths,ray,view]' --group dev 2>&1 | $(TELL)
	@touch $@

demo: $(VENV)/.local  ## the main job on the embedded model, over real passages
	@$(BIN)/agentloop doctor --fetch-model
	@ACCEPT=$(ACCEPT) $(BIN)/python examples/demo.py

test: $(VENV)/.dev  ## all tests
	@echo "running the tests"
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal

coverage: $(VENV)/.dev  ## all tests, and which lines none of them runs; a fifth slower
	@$(BIN)/python -m pytest --numprocesses auto --dist worksteal --cov --cov-report=term

lint: $(VENV)/.dev  ## style, types, layers
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff put the code in order
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: $(VENV)/.dev  ## the figures of speed in one table
	@$(BIN)/python benchmarks/table.py

pictures: $(VENV)/.dev  ## the README's pictures, of the demo's run; wants chromium
	@$(BIN)/python docs/pictures.py demo/qa.duckdb

lock: $(VENV)/.dev  ## write constraints.txt anew from this environment
	@$(PIP) freeze --all --exclude-editable | grep -E '^[A-Za-z0-9._-]+==' \
	  | LC_ALL=C sort -f > constraints.txt

clean:  ## remove the environment and what the demo made
	@rm -rf $(VENV) demo build dist *.egg-info
