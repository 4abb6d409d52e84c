# make demo   a first network, end to end          make test   the whole suite
# make check  lint, format and types                make bench  speed beside PyTorch (if installed)
# make test-numpy  the whole suite without native code

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

.PHONY: demo test test-numpy check bench clean

demo: $(INSTALLED)
	$(BIN)/fathom demo

test: $(INSTALLED) check
	$(BIN)/python -m pytest -n auto --durations=15

test-numpy: $(INSTALLED)
	FATHOM_NATIVE=0 $(BIN)/python -m pytest -n auto --durations=15

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED)
	$(BIN)/python benchmarks/step.py

# The environment is made once, and again when the dependencies change.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[test]'
	touch $@

clean:
	rm -rf $(VENV) dist build htmlcov .coverage
