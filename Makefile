# Everything runs in .venv, where uv installs the versions that constraints.txt pins.
.DEFAULT_GOAL := help
.PHONY: help announce browser demo test test-unit test-long lint sql bench bench-large bench-compare
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
# The tests start hundreds of commands; with compiled modules each starts in half the time.
unexport PYTHONDONTWRITEBYTECODE
# A core for each worker: further threads of arithmetic would wait for one another, and take a quarter more time.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/pytest
ON_FIXTURES := VLM4REC_DATA_DIR=tests/data/raw VLM4REC_CACHE=.cache/test VLM4REC_WAREHOUSE=.cache/test/warehouse.duckdb

help:
	@echo "make demo       build, publish and search the built-in shop, offline after one download of 83 MB"
	@echo "make test       lint, types, SQL tests, all tests but the long ones (about 30 minutes on 2 cores)"
	@echo "make test-unit  the tests that need no process, server or network (about 1 minute)"
	@echo "make test-long  tests that take half a minute or more each (about 30 minutes)"
	@echo "make lint       ruff and mypy"
	@echo "make bench      measure everything beside what else one could take, into benchmarks/results.md (about half an hour)"
	@echo "make bench-large        the same at ten times the size: hours; goes on where it was stopped"
	@echo "make bench-compare REV=main     compare this tree with a commit; fails where a ratio grew 1.5 times"

.venv/core: pyproject.toml constraints.txt
	@echo "== Set up .venv: downloads 225 MB of packages; the first plan downloads the sentence encoder (83 MB)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable .
	touch $@

.venv/installed: .venv/core
	@echo "== Add what tests and models need: downloads about 3 GB, torch first of all"
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[models,opensearch-local,peers,dev]'
	touch $@

demo: .venv/core
	$(BIN)/vlm4rec demo

announce:
	@echo "== make test takes about 30 minutes on 2 quiet cores, make test-unit about 1 minute"

lint: .venv/installed
	@echo "== Lint and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The tests of the HTML pages look at them in Chromium, a system package; CI services have Chrome.
browser:
	@command -v chromium chromium-browser google-chrome > /dev/null \
	  || { [ "$$(id -u)" = 0 ] && command -v apt-get > /dev/null && apt-get update -qq && apt-get install -qq -y chromium > /dev/null; } \
	  || echo "== no Chromium, so the tests of the pages will fail: sudo apt-get install chromium"

sql: .venv/installed
	@echo "== SQL lint and unit tests"
	$(ON_FIXTURES) $(BIN)/sqlmesh lint
	$(ON_FIXTURES) $(BIN)/sqlmesh test

test: announce .venv/installed browser
	@$(MAKE) --no-print-directory --jobs=2 --output-sync=target lint sql
	@echo "== Tests"
	$(PYTEST) -n 2 --dist worksteal
	@echo "All passed. Next: make demo, then look at README.md"

test-unit: .venv/installed
	@echo "== Unit tests: about 1 minute"
	$(PYTEST) -n 2 tests/unit

test-long: .venv/installed
	@echo "== Long tests: about 30 minutes"
	$(PYTEST) -n 2 -m long

.venv/bench: .venv/installed
	@echo "== Add what the benchmarks compare with: downloads about 100 MB; hnswlib needs a C++ compiler"
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[models,opensearch-local,peers,dev,bench]'
	touch $@

bench: .venv/bench
	$(BIN)/python -m benchmarks --again

bench-large: .venv/bench
	$(BIN)/python -m benchmarks --large

bench-compare: .venv/bench
	@test -n "$(REV)" || { echo "Say with which commit: make bench-compare REV=main"; exit 2; }
	$(BIN)/python -m benchmarks --compare "$(REV)"
