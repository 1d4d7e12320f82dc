# The common tasks; `make help` lists them. PYTHON names another interpreter (3.10 or newer).
PYTHON ?= python3
VENV   ?= .venv
FRAMES ?= 20
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
# One thread each: several that share the cores get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: help venv demo test test-fast fuzz lint types check ros clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP) ## create the virtual environment with everything that development needs

$(STAMP): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dds,test]'
	touch $(VENV)/COLCON_IGNORE $@

demo: venv ## camera, node and viewer on this machine; results in out/demo (FRAMES=0: until Ctrl-C)
	$(BIN)/zgs demo --frames $(FRAMES)

test: venv ## all tests, JOBS at a time; those that need ROS 2 run where it is sourced
	$(PYTEST)

test-fast: venv ## without the slow tests and those that need ROS 2
	$(PYTEST) -m 'not slow and not ros and not fuzz'

fuzz: venv ## look for inputs that a reader fails on, FUZZ_SECONDS (10) for each; what is found stays in out/fuzz
	cd test && PYTHONPATH=..:. ../$(BIN)/python -m fuzz --seconds $(or $(FUZZ_SECONDS),10) --out ../out/fuzz

lint: venv ## style, and which part may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: venv ## static types
	$(BIN)/mypy

check: lint types test ## all that CI checks

ros: ## build for ROS 2 in the workspace ros_ws, ready to launch
	PYTHON=$(PYTHON) scripts/ros_workspace.sh

clean: ## remove what the other targets made
	rm -rf $(VENV) out ros_ws build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
