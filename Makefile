# `make demo` and `make test` set up all they need: a .venv with the versions in constraints.txt.
PYTHON ?= $(shell python3.11 -c "" 2>/dev/null && echo python3.11 || echo python3)
WORKERS ?= 2
BIN := .venv/bin

.PHONY: demo test full check format bench docs clean

demo: .venv/stamp-demo  ## train the digits network with four kinds of hidden layer
	$(BIN)/python -m examples.demo

test: .venv/stamp-test  ## the whole test suite, about 30 minutes on 2 cores
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal

full: .venv/stamp-test  ## the long runs: 10,000 random networks, all crossed parameters
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m full

check: .venv/stamp-dev  ## lint, formatting, types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/pyright

format: .venv/stamp-dev  ## put the formatting right
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/stamp-bench  ## time the layers against dense and other libraries
	$(BIN)/python -m benchmarks.layers --device cpu

docs: .venv/stamp-docs  ## the pages, every snippet run: docs/_build/html/index.html
	$(BIN)/python -m sphinx -b html -W --keep-going docs docs/_build/html

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis examples/out dist build docs/_build docs/generated
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	$(PYTHON) -m venv .venv

# One stamp an extra: `make demo` does not wait for what only `make check` needs.
.venv/stamp-%: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check \
		--constraint constraints.txt --editable '.[$*]'
	touch $@
