# make demo   a first network, end to end          make test   the whole suite
# make check  lint, format and types                make bench  speed beside PyTorch (if installed)
# make test-numpy  without native code: the tests that could go another way there

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed

# One process a core, and one thread in each: threads that wait for a core spin. Tests of loops that
# are cut for several threads ask for them (FATHOM_NUM_THREADS).
PYTEST := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
	$(BIN)/python -m pytest -n auto --durations=15

# Only what compiles can ask for native code (docs/architecture.md, "The tests"): these folders, but
# for what sets FATHOM_NATIVE or the back end itself, or never compiles.
COMPILING := $(addprefix tests/unit/,engine ops autograd nn optim compile train models) \
	tests/unit/doctor/test_fathom_adapter.py tests/unit/doctor/test_watching.py tests/contracts
ELSEWHERE := $(patsubst %,--ignore=tests/contracts/test_%.py,bad_arguments benchmarks_run book \
	bounds checkpoint_kill compiled_examples doctor_bitwise layers systems) \
	$(patsubst %,--ignore=tests/unit/compile/test_%.py,blas elf gemm threads vecmath) \
	--ignore-glob='tests/unit/compile/test_native_*' \
	--ignore=tests/unit/train/test_activation_search.py

.PHONY: demo test test-numpy check bench clean

demo: $(INSTALLED)
	$(BIN)/fathom demo

test: $(INSTALLED) check
	$(PYTEST)

test-numpy: $(INSTALLED)
	FATHOM_NATIVE=0 $(PYTEST) $(COMPILING) $(ELSEWHERE)

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
