# `make demo` and `make test` set up all they need, the virtual environment included.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow test-torch lint types check docs bench install dev clean

demo: $(VENV)/.installed
	$(BIN)/blemish demo --out demo

test: $(VENV)/.dev
	$(BIN)/pytest

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m "slow and not gpu and not network"

# The torch extra has an environment of its own: PyTorch takes gigabytes.
test-torch: .venv-torch/.installed
	.venv-torch/bin/python -m pytest tests/torch_extra -m "not slow and not gpu and not network"

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

check: test lint types

# The pictures of the documentation, made anew from generated images (needs chromium).
docs: $(VENV)/.dev
	$(BIN)/python docs/make_images.py

# Where the data of the measurements lies; see the README for what each script shows.
DATA ?= ../shared/data
WEIGHTS ?= ../shared/weights/resnet18.tv_in1k.layers1-3.safetensors
bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks.run --data $(DATA) --weights $(WEIGHTS)
	$(BIN)/python benchmarks/false_alarms.py $(DATA)/mvtec/bottle $(DATA)/mvtec/screw --weights $(WEIGHTS)
	$(BIN)/python benchmarks/metrics_memory.py
	$(BIN)/python benchmarks/wide_models.py $(DATA)/mvtec/bottle --resnet18-weights $(WEIGHTS)

install: $(VENV)/.installed

dev: $(VENV)/.dev

$(VENV)/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "Blemish needs Python 3.10 or newer; set PYTHON=... to one")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(VENV)/bin/python pyproject.toml
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@

.venv-torch/.installed: pyproject.toml
	$(PYTHON) -m venv .venv-torch
	.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check -e '.[torch,test]'
	touch $@

clean:
	rm -rf $(VENV) .venv-torch demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
