PYTHON ?= python3
VENV ?= .venv
JOBS ?= 2
BIN = $(VENV)/bin

AOT_VENV ?= .venv-aot
NEWEST_VENV ?= .venv-newest

.PHONY: demo check test test-aot test-newest docs lint format clean

# Versions that were tried together: constraints-3.13.txt for Python 3.13 and so on, constraints.txt for Python 3.11.
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')
CONSTRAINTS = $(firstword $(wildcard constraints-$(VERSION).txt) constraints.txt)
PIP_INSTALL = pip install --quiet --disable-pip-version-check
INSTALL = $(BIN)/$(PIP_INSTALL) --constraint $(CONSTRAINTS) --editable

# What a run needs. The environment is made once, and again when what it is made from changes.
$(VENV)/ready: pyproject.toml $(CONSTRAINTS)
	@echo "installing what a run needs into $(VENV): about 300 MB are fetched"
	$(PYTHON) -m venv $(VENV)
	$(INSTALL) .
	touch $@

# What the tests need beside that. They compare with PyTorch.
$(VENV)/ready-to-test: $(VENV)/ready
	@echo "installing what the tests need: PyTorch is about 200 MB in its build for CPUs, and several GB with CUDA;"
	@echo "where pip would fetch the latter, name the index of the CPU builds in PIP_EXTRA_INDEX_URL"
	$(INSTALL) '.[test]'
	touch $@

# LUMP beside finetune and joint training on the embedded digits. Barlow Twins learns most there. With more epochs and a
# lower rate than the recipe has, LUMP ends above finetune with each of ten seeds; benchmarks/demo_seeds.sh repeats them
# and has the same settings.
DEMO = digits,barlow_twins --config.train.epochs=100 --config.train.learning_rate=0.06
demo: $(VENV)/ready
	rm -rf runs/demo
	$(BIN)/python launch.py --config=configs/lump.py:$(DEMO) --workdir=runs/demo/lump
	$(BIN)/python launch.py --config=configs/finetune.py:$(DEMO) --workdir=runs/demo/finetune
	$(BIN)/python launch.py --config=configs/multitask.py:$(DEMO) --workdir=runs/demo/multitask
	@echo
	@$(BIN)/python -m ucl_jax.report runs/demo/lump runs/demo/finetune runs/demo/multitask --out=runs/demo/average_accuracy.png
	@echo "plots of LUMP: runs/demo/lump/plots"

lint: $(VENV)/ready-to-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# What one process does, and in which order, is in tests/conftest.py. XLA compiles on one core.
PYTEST = python -m pytest --numprocesses=$(JOBS) --dist=loadgroup --no-loadscope-reorder

# For the loop of daily work: lint, and the tests of the files that tests/conftest.py does not call slow.
check: lint
	$(BIN)/$(PYTEST) -m "not slow"

test: lint
	$(BIN)/$(PYTEST)

# Sets `found` to the first Python that a newer JAX runs on.
define find_newer
for python in $(PYTHON) python3.14 python3.13 python3.12; do \
    if $$python -c 'import sys; sys.exit(sys.version_info < (3, 12))' 2> /dev/null; then found=$$python; break; fi; \
done; \
if [ -z "$$found" ]; then echo "error: no Python 3.12 or newer is found; name one by PYTHON=..." >&2; exit 2; fi
endef

# The tests of make check with the newest JAX, and the newest of everything else, on a newer Python. For two Pythons give
# each an environment: make test-newest PYTHON=python3.12 NEWEST_VENV=.venv-newest-3.12. What was installed when the
# tests passed can become constraints-3.12.txt and so on.
test-newest:
	@$(find_newer); [ -x $(NEWEST_VENV)/bin/python ] || $$found -m venv $(NEWEST_VENV)
	$(NEWEST_VENV)/bin/$(PIP_INSTALL) --upgrade --upgrade-strategy eager --editable '.[test]'
	$(NEWEST_VENV)/bin/$(PYTEST) -m "not slow"
	@mkdir -p build; \
	name=constraints-$$($(NEWEST_VENV)/bin/python -c 'import sys; print("%d.%d" % sys.version_info[:2])').txt; \
	{ \
	    echo "# Versions that make test-newest installed. pip install --constraint $$name ."; \
	    $(NEWEST_VENV)/bin/pip freeze --exclude-editable | grep -v '^\(nvidia\|cuda\|triton\)' | sed 's/+cpu$$//'; \
	} > build/$$name; \
	echo "versions: build/$$name"

# What compiles the train step for an H100 and for TPUs that are not there (python -m benchmarks.aot), in an environment
# of its own: it is large, and needs a newer Python and JAX than a run.
$(AOT_VENV)/ready: pyproject.toml
	@$(find_newer); \
	echo "installing the compilers into $(AOT_VENV): about 3 GB are fetched"; \
	$$found -m venv $(AOT_VENV)
	$(AOT_VENV)/bin/$(PIP_INSTALL) --editable . 'jax[cuda13,tpu]>=0.11' pytest pytest-xdist
	touch $@

test-aot: $(AOT_VENV)/ready
	TPU_SKIP_MDS_QUERY=1 $(AOT_VENV)/bin/python -m pytest -rs tests/benchmarks/test_aot.py

# The site, from README.md, docs/ and the docstrings. A broken link is an error.
docs: $(VENV)/ready-to-test
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict
	@echo "open build/site/index.html"

format: $(VENV)/ready-to-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean:
	rm -rf $(VENV) $(AOT_VENV) $(NEWEST_VENV) .pytest_cache .ruff_cache .mypy_cache
