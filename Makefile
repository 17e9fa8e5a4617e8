# Every target makes .venv by itself; a stamp keeps a second run from reinstalling.
PYTHON ?= $(shell for p in python3.11 python3.12 python3.13 python3; do command -v $$p && break; done)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/installed

.PHONY: test parity lint demo docs matrix lock clean

test: lint
	$(BIN)/python -m pytest -n auto --dist loadgroup tests/zoo
	$(BIN)/python -m pytest -n auto --dist loadgroup --ignore tests/zoo

parity: $(STAMP)
	$(BIN)/python -m pytest -n auto tests/zoo -m "large or not large" --every-size

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

demo: $(STAMP)
	$(BIN)/zoo demo

docs: $(STAMP)
	$(BIN)/python -m zoo_cli.tables

# The smallest of each family; `make matrix MATRIX=--all` for every architecture. Goes on where it stopped.
matrix: $(STAMP)
	$(BIN)/python benchmarks/matrix.py $(MATRIX)

lock: $(STAMP)
	$(BIN)/python -m pip install uv
	$(BIN)/uv pip compile pyproject.toml --extra demo --extra explain --extra lite --extra litert --extra openvino --extra ray --extra search --extra serve --extra tensorboard --extra train --group dev \
	    --universal --python-version 3.11 --generate-hashes --no-header --no-annotate --no-emit-index-url -o requirements.lock

$(STAMP): pyproject.toml requirements.lock
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --disable-pip-version-check -q --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --disable-pip-version-check -q --no-deps --no-build-isolation -e .
	touch $@

clean:
	rm -rf $(VENV) build dist *.egg-info
