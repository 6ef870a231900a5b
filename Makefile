# make run PROMPT="..."   a picture from the embedded model, installing what is needed first
# make test               the whole test suite
# make check              style, types and the import floors
# make clean              remove what the others made

PROMPT ?= a fox, 3d render, on a blue background
OUT    ?= out
PYTHON ?= python3
BIN    := .venv/bin

.PHONY: run test check clean

run: .venv/base.stamp
	$(BIN)/undiffuse generate "$(PROMPT)" --out $(OUT)/

test: .venv/dev.stamp
	$(BIN)/python -m pytest -q -n logical --maxprocesses 8 --dist worksteal

check: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports
	$(BIN)/pyright

clean:
	rm -rf .venv $(OUT) build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache

.venv/base.stamp: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable .
	touch $@

.venv/dev.stamp: .venv/base.stamp
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev,train,data,eval,serve,studio,openvino]'
	touch $@
