# make run   environment, install, and the app opens on a finished sample
# make test  environment, install, and all tests run
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: install run test check format bench clean

install: $(VENV)/installed-run

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-run: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(VENV)/installed-run

run: $(VENV)/installed-run
	$(BIN)/surgery

# One thread for each worker: on two cores, two workers of two threads wait for each other most of the time. Numba,
# once imported, would turn the number for torch up again.
test: $(VENV)/installed-dev
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not browser"
	OMP_NUM_THREADS=1 NUMBA_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile -m browser

check: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed-dev
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks --quick --all

clean:
	rm -rf .mypy_cache .ruff_cache .pytest_cache .import_linter_cache build *.egg-info
