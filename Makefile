# make demo   install, and see photographs turned into responses
# make test   install, and run the tests
# make check  lint, format, types, layering
# make bench  compare with the reference pipeline, side by side
#
# The tests run in two processes; more, where there is memory (4 GB each): make test TESTS_AT_ONCE=4
# PyTorch's CPU build, where pip would fetch a larger one: make demo PIP_ARGS="--index-url ..."
PYTHON ?= python3
PIP_ARGS ?=
TESTS_AT_ONCE ?= 2
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: demo test check bench clean

demo: $(INSTALLED)
	$(BIN)/berg demo

test: $(INSTALLED)
	$(BIN)/pytest --numprocesses $(TESTS_AT_ONCE) --dist loadfile

check: $(INSTALLED)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(INSTALLED)
	$(BIN)/python -m benchmarks
	$(BIN)/python -m benchmarks.engines
	$(BIN)/python -m benchmarks.starting
	$(BIN)/python -m benchmarks.scaling
	$(BIN)/python -m benchmarks.building
	$(BIN)/python -m benchmarks.downloading

$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "berg needs Python 3.11 or later: make PYTHON=python3.11")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) --constraint constraints.txt --editable ".[all]" --group dev
	touch $@

clean:
	rm -rf .venv build dist
