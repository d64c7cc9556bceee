# From a fresh clone: `make demo` explains and scores real neurons, `make test` checks everything.
# Both make .venv first. They need Python 3.11 or newer, make, a C compiler and a package index.

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST_OPTIONS ?=

.DEFAULT_GOAL := help
.PHONY: help demo test test-full format lint types clean

# $(call step,NAME,COMMAND): says what runs and, if it fails, what failed.
step = @echo "== $(1)"; $(2) || { status=$$?; echo "make: failed at: $(1)" >&2; exit $$status; }

help:
	@echo "make demo       explain and score neurons of the bundled model, print a table"
	@echo "make test       all that continuous integration checks"
	@echo "make test-full  the same with the slow tests (the 1.5B model, minutes each)"
	@echo "make format     put the code into its form"
	@echo "make lint       ruff"
	@echo "make types      mypy --strict"
	@echo "make clean      take away what was built; the cache of models and text stays"
	@echo "PYTHON=... chooses the Python that makes .venv; PYTEST_OPTIONS=... goes to pytest"

# --- installing ---------------------------------------------------------------------------------
# The stamps make pip run again when a requirement or a pinned version changes.

$(BIN)/python:
	@command -v "$(PYTHON)" >/dev/null || { \
	  echo "make: there is no $(PYTHON); name one with: make PYTHON=python3.11 ..." >&2; exit 2; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "make: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.11 ..." >&2; \
	  exit 2; }
	@echo "== making $(VENV)"
	@"$(PYTHON)" -m venv "$(VENV)"

$(VENV)/.installed: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing (some minutes the first time)"
	@"$(BIN)/python" -m pip install --quiet -c constraints.txt -e .
	@touch "$@"

$(VENV)/.installed-test: pyproject.toml constraints.txt | $(BIN)/python
	@echo "== installing with what the tests need (some minutes the first time)"
	@"$(BIN)/python" -m pip install --quiet -c constraints.txt -e '.[test]'
	@touch "$@" "$(VENV)/.installed"

# --- the demo -----------------------------------------------------------------------------------
# Large arrays come and go all the time. This tells glibc not to give each back to the system at
# once, which spares most page faults; other C libraries and systems do not know the variable.

DEMO_STORE := sqlite:///demo/demo.db
ifeq ($(shell uname -s),Linux)
demo: export GLIBC_TUNABLES ?= glibc.malloc.mmap_threshold=4294967296:glibc.malloc.trim_threshold=8589934592:glibc.malloc.hugetlb=1
endif

demo: $(VENV)/.installed
	@mkdir -p demo
	"$(BIN)/glossator" --store $(DEMO_STORE) --config examples/demo.yaml run
	"$(BIN)/glossator" --store $(DEMO_STORE) report --out demo/report.html

# --- checks -------------------------------------------------------------------------------------

test: lint types
	$(call step,pytest,"$(BIN)/python" -m pytest -m "not slow and not paid" $(PYTEST_OPTIONS))

test-full: lint types
	$(call step,pytest with the slow tests,"$(BIN)/python" -m pytest -m "not paid" $(PYTEST_OPTIONS))

lint: $(VENV)/.installed-test
	$(call step,ruff format --check,"$(BIN)/ruff" format --check .)
	$(call step,ruff check,"$(BIN)/ruff" check .)

types: $(VENV)/.installed-test
	$(call step,mypy glossator,"$(BIN)/mypy" -p glossator)
	$(call step,mypy tests,"$(BIN)/mypy" -p tests)

format: $(VENV)/.installed-test
	"$(BIN)/ruff" check --fix --select I .
	"$(BIN)/ruff" format .

clean:
	rm -rf $(VENV) build dist demo glossator.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
