# make demo   install into .venv and run the demo
# make test   install into .venv and run every check
# make docs   install into .venv and build the documentation as a site
#
# Both leave the system's Python alone. They install again only when pyproject.toml changes.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS := demo,dev
PIP_INSTALL := $(BIN)/python -m pip --disable-pip-version-check install --quiet --use-pep517
# What pip says matters only where it fails.
QUIETLY := > $(VENV)/install.log 2>&1 || { cat $(VENV)/install.log >&2; exit 1; }
# Tests wait more than they compute; those of one engine stay together.
PROCESSES := $(shell $(PYTHON) -c 'import os; print(min(8, 2 * (os.cpu_count() or 1)))')
PYTEST := $(BIN)/python -m pytest -q --numprocesses $(PROCESSES)

.PHONY: demo test lint docs conformance clean

demo: $(VENV)/installed-demo
	@$(BIN)/python examples/digits_sweep.py
	@echo "(nemorun is $(BIN)/nemorun)"

test: lint
	@$(PYTEST)

lint: $(VENV)/installed-dev
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check --quiet . || { echo "not formatted: run $(BIN)/ruff format ." >&2; exit 1; }
	@$(BIN)/codespell
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/lint-imports --no-logo --no-cache > $(VENV)/imports.log || { cat $(VENV)/imports.log >&2; exit 1; }

docs: $(VENV)/installed-docs
	@$(BIN)/python tools/build_docs.py

# Rewrites the list of what is missing of the public surface.
conformance: $(VENV)/installed-dev
	@$(BIN)/python -m tests.conformance --update

clean:
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(BIN)/pip:
	@echo "creating $(VENV)"
	@$(PYTHON) tools/create_venv.py $(VENV)

$(VENV)/installed-demo: pyproject.toml | $(BIN)/pip
	@echo "installing nemo-run and what the demo needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[demo]' $(QUIETLY)
	@touch $@

$(VENV)/installed-docs: pyproject.toml | $(BIN)/pip
	@echo "installing nemo-run and what its documentation needs into $(VENV)"
	@$(PIP_INSTALL) --editable '.[docs]' $(QUIETLY)
	@touch $@

$(VENV)/installed-dev: pyproject.toml | $(BIN)/pip
	@echo "installing nemo-run and what the tests need into $(VENV)"
	@$(PIP_INSTALL) --editable '.[$(EXTRAS)]' $(QUIETLY)
	@touch $@ $(VENV)/installed-demo
