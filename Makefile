# make demo   from nothing to a released, judged, chatting model
# make test   lint, types, tests
#
# Both create .venv and install what they need; a second call finds it there.

PYTHON ?= python3
# 2.13.0 is a version whose plain Linux wheel is the CPU build; later ones bring several GB of CUDA with them.
# With a GPU, or on another system, take any torch in the range of pyproject.toml: make demo TORCH='torch>=2.11,<2.14'
TORCH ?= torch==2.13.0
VENV ?= .venv
BIN := $(VENV)/bin
RECIPE ?= recipes/tiny.toml

.PHONY: demo test lint slow clean install

demo: $(VENV)/installed-core
	$(BIN)/dokja build $(RECIPE)

test: lint
	$(BIN)/pytest -q

lint: $(VENV)/installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

slow: $(VENV)/installed-dev
	$(BIN)/pytest -q -m "slow and not gpu"

install: $(VENV)/installed-core

$(VENV)/installed-core: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet "$(TORCH)"
	$(BIN)/python -m pip install --quiet -e .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed-core
	$(BIN)/python -m pip install --quiet -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache build dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +
