PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN = $(VENV)/bin

.PHONY: demo check test lint format clean

# The environment is made once, and again when what it is made from changes.
$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[test]'
	touch $@

# LUMP beside finetune and joint training on the embedded digits.
demo: $(VENV)/ready
	rm -rf runs/demo
	$(BIN)/python launch.py --config=configs/lump.py:digits --workdir=runs/demo/lump
	$(BIN)/python launch.py --config=configs/finetune.py:digits --workdir=runs/demo/finetune
	$(BIN)/python launch.py --config=configs/multitask.py:digits --workdir=runs/demo/multitask
	@echo
	@$(BIN)/python -m ucl_jax.report runs/demo/lump runs/demo/finetune runs/demo/multitask --out=runs/demo/average_accuracy.png
	@echo "plots of LUMP: runs/demo/lump/plots"

lint: $(VENV)/ready
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# For the loop of daily work: lint, and the tests of the files that tests/conftest.py does not call slow.
check: lint
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadgroup --no-loadscope-reorder -m "not slow"

# What one process does, and in which order, is in tests/conftest.py. XLA compiles on one core.
test: lint
	$(BIN)/python -m pytest --numprocesses=$(JOBS) --dist=loadgroup --no-loadscope-reorder

format: $(VENV)/ready
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .mypy_cache
