# Everything happens in .venv; uv installs what constraints.txt pins.
.DEFAULT_GOAL := help
.PHONY: help demo test lint bench
SHELL := /bin/bash
PYTHON ?= python3
BIN := .venv/bin
export HF_HUB_OFFLINE ?= 1
ON_FIXTURES := VLM4REC_DATA_DIR=tests/data/raw VLM4REC_CACHE=.cache/test VLM4REC_WAREHOUSE=.cache/test/warehouse.duckdb

help:
	@echo "make demo   the whole job on the built-in shop, offline"
	@echo "make test   lint, types, SQL unit tests, pytest"
	@echo "make bench  search speed at 40,000 documents"

.venv/installed: pyproject.toml constraints.txt
	@echo "== Set up .venv (the first time downloads about 3 GB)"
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --python $(BIN)/python --constraint constraints.txt --editable '.[models,opensearch,opensearch-local,dev]'
	touch $@

demo: .venv/installed
	$(BIN)/vlm4rec demo

lint: .venv/installed
	@echo "== Lint and types"
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: lint
	@echo "== SQL lint and unit tests"
	$(ON_FIXTURES) $(BIN)/sqlmesh lint
	$(ON_FIXTURES) $(BIN)/sqlmesh test
	@echo "== Tests"
	$(BIN)/pytest -n 2
	@echo "All passed. Next: make demo, then look at README.md"

bench: .venv/installed
	$(BIN)/python -m benchmarks.search
