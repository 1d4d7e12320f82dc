# The common tasks; `make help` lists them. PYTHON names another interpreter (3.10 or newer).
PYTHON ?= python3
VENV   ?= .venv
FRAMES ?= 20
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
JOBS   ?= 2
# Of the tests among ROS 2 nodes: most of their time they wait for one another
ROS_JOBS ?= 4
# `make chaos` and `make fuzz`: how long, and from which seed (chosen anew where it is not given)
HOURS   ?= 0.05
FUZZ_SECONDS ?= 10
SEED    ?=
# One thread each: several that share the cores get in each other's way.
PYTEST := OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(JOBS) --dist loadfile

.PHONY: help venv demo test test-slow test-ros chaos fuzz lint types check ros clean

help: ## show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

venv: $(STAMP) ## create the virtual environment with everything that development needs

$(STAMP): pyproject.toml setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dds,test]'
	touch $(VENV)/COLCON_IGNORE $@

demo: venv ## camera, node and viewer on this machine; results in out/demo (FRAMES=0: until Ctrl-C)
	$(BIN)/zgs demo --frames $(FRAMES)

test: venv ## the tests, JOBS at a time, but for those of the four targets below
	$(PYTEST) -m 'not slow and not ros and not chaos and not fuzz'

test-slow: venv ## the slow ones
	$(PYTEST) -m 'slow and not ros and not chaos'

# What fails among middlewares that share a loaded machine is tried once more and listed as RERUN; what fails
# twice is broken.
test-ros: venv ## those among real ROS 2 nodes, where it is sourced, ROS_JOBS at a time
	$(PYTEST) -m 'ros and not chaos' --numprocesses $(ROS_JOBS) --dist loadgroup --reruns 1 -raR

chaos: venv ## all that can befall a live node, HOURS for each kind of it (3 minutes); SEED=N plays the same
	$(PYTEST) -m chaos --dist load --chaos-hours $(HOURS) $(if $(SEED),--chaos-seed $(SEED)) -rA

fuzz: venv ## look for inputs that a reader fails on, FUZZ_SECONDS for each; what is found stays in out/fuzz
	cd test && PYTHONPATH=..:. ../$(BIN)/python -m fuzz --seconds $(FUZZ_SECONDS) --out ../out/fuzz

lint: venv ## style, and which part may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: venv ## static types
	$(BIN)/mypy

check: lint types test test-slow fuzz chaos ## all that CI checks without ROS 2

ros: ## build for ROS 2 in the workspace ros_ws, ready to launch
	PYTHON=$(PYTHON) scripts/ros_workspace.sh

clean: ## remove what the other targets made
	rm -rf $(VENV) out ros_ws build install log *.egg-info .pytest_cache .mypy_cache .ruff_cache
