# One command each. Every target makes .venv if it is missing.
#
#   make tour    the tour: real data in, one report out (out/tour)
#   make test    the tests, two workers; test-slow: the long ones; durations: all, what each costs is recorded
#   make check   ruff and pyright
#   make bench   every benchmark against its peers, in an environment of its own
#   make reliability   runs on disk: 1,000 kills, 10,000 changed files, a disk that refuses, races
#   make docs    the documentation, every page executed
#   make clean   what can be made again, the environments kept
#
# A Python other than `python3`: make PYTHON=python3.13 test

PYTHON ?= python3
WORKERS ?= 2
TESTS ?= tests
BIN := .venv/bin
BENCH := benchmarks/.venv
export JAX_COMPILATION_CACHE_DIR ?= $(CURDIR)/.cache/jax

.PHONY: tour test test-slow durations check format bench reliability docs clean
.DEFAULT_GOAL := test

.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[dev]"
	touch $@

$(BENCH)/.installed: pyproject.toml benchmarks/requirements.txt
	test -x $(BENCH)/bin/python || $(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -e ".[data]" -r benchmarks/requirements.txt
	touch $@

tour: .venv/.installed
	$(BIN)/separatrix tour --out out/tour

test: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m "not slow" $(TESTS)

test-slow: .venv/.installed
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m slow $(TESTS)

check: .venv/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: .venv/.installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Without the compilation cache: compile times are measured.
bench: $(BENCH)/.installed
	@unset JAX_COMPILATION_CACHE_DIR; set -e; \
	for script in benchmarks/[!_]*.py; do echo "== $$script"; $(BENCH)/bin/python $$script; done

reliability: .venv/.installed
	$(BIN)/python benchmarks/reliability.py --full

docs: .venv/.installed
	$(BIN)/python -m sphinx -W --keep-going -b html docs docs/_build/html

clean:
	rm -rf build dist out .cache .pytest_cache .ruff_cache .hypothesis docs/_build benchmarks/results
	find src tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
