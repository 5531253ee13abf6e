# `make demo` and `make test` set up all they need, the virtual environment included.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test test-slow lint types check docs bench install dev clean

demo: $(VENV)/.installed
	$(BIN)/blemish demo --out demo

test: $(VENV)/.dev
	$(BIN)/pytest

test-slow: $(VENV)/.dev
	$(BIN)/pytest -m "slow and not gpu and not network"

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
	$(BIN)/python benchmarks/fit_cost.py $(DATA)/mvtec/bottle --weights $(WEIGHTS)
	$(BIN)/python benchmarks/false_alarms.py $(DATA)/mvtec/bottle $(DATA)/mvtec/screw --weights $(WEIGHTS)
	$(BIN)/python benchmarks/metrics_memory.py

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

clean:
	rm -rf $(VENV) demo build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
