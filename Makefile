# o2obench: `make suite SUITE=quick` and `make test` work in a fresh clone; each sets itself up.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready
DEV    := $(VENV)/.ready-dev

SUITE   ?= quick
RESULTS ?= results
LAUNCHER ?= local
TASKS   ?= halfcheetah hopper walker2d
KINDS   ?= random medium
REPORTS ?= reports
ARGS    ?=
N       ?= 50
FIGURES := $(CURDIR)/.fault-figures

export PYTHONSAFEPATH := 1

.DEFAULT_GOAL := help
.PHONY: help setup suite report data check format test test-slow test-faults test-slurm bench bench-methods bench-data bench-launch bench-report bench-gpu clean

help: ## Show this help.
	@grep -E '^[a-z-]+:.*## ' Makefile | awk -F ':.*## ' '{printf "  make %-13s %s\n", $$1, $$2}'

setup: $(READY) ## Make .venv with the pinned packages that runs need; make check and make test add theirs.

$(READY): EXTRA := robotics
$(DEV): EXTRA := dev
$(READY) $(DEV): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' || { echo "Python 3.11, 3.12 or 3.13 is needed; name one with PYTHON=..." >&2; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[$(EXTRA)]"
	@touch $(READY) $@

suite: $(READY) ## Run a grid and write its report: SUITE=quick, LAUNCHER=slurm, ARGS="--seeds 5 --jobs 4".
	$(BIN)/o2obench suite $(SUITE) --launcher $(LAUNCHER) --results $(RESULTS) --out $(REPORTS) $(ARGS)

report: $(READY) ## Write the reports of all suites in RESULTS.
	$(BIN)/o2obench report $(RESULTS) --out $(REPORTS)

data: $(READY) ## Collect the data sets that do not come with the package: KINDS="random medium", TASKS=hopper.
	@for task in $(TASKS); do for kind in $(KINDS); do \
	  $(BIN)/o2obench data collect $$task --kind $$kind --rows 200000 --if-missing || exit; done; done
	@$(BIN)/o2obench data list o2o:

check: $(DEV) ## Format, lint, import layers and types, as CI checks them.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/mypy

format: $(DEV) ## Format the code and mend what ruff can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

test: $(DEV) ## The unmarked tests: 4 minutes on 2 cores, no network.
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

test-slow: $(DEV) ## Learning, the compiler, the tutorial, the wheel, kills of whole methods: 14 minutes.
	$(BIN)/python -m pytest -q -n 2 --dist worksteal -m slow

test-faults: $(DEV) ## Kills, corruption, launchers against each other; N=200 kills, and a table of figures.
	@rm -rf $(FIGURES)
	N=$(N) O2O_FAULT_FIGURES=$(FIGURES) $(BIN)/python -m pytest -q -n 2 --dist worksteal -m faults; code=$$?; \
	PYTHONPATH=. $(BIN)/python -m tests.faults.figures $(FIGURES) && exit $$code

test-slurm: $(DEV) ## Bring up a real SLURM, send grids through it, take it down: 3 minutes, as root on Debian.
	$(BIN)/python -m pytest -q -m slurm tests/slurm

bench: $(DEV) ## The engine against a baseline and Stable-Baselines3, 20 minutes; run nothing beside it.
	$(BIN)/python benchmarks/bench.py $(ARGS)

bench-methods: $(DEV) ## Updates of every model-free method against SAC's, beside what is counted; 6 minutes.
	$(BIN)/python benchmarks/methods.py $(ARGS)

bench-report: $(DEV) ## The report of 10,000 runs: seconds and memory; 3 minutes, half of it to make the runs.
	$(BIN)/python benchmarks/report.py $(ARGS)

bench-data: $(DEV) ## Loading a million transitions, against a copy and Minari; 1 minute.
	$(BIN)/python benchmarks/data.py $(ARGS)

bench-launch: $(DEV) ## A grid of 10,000 runs; what checkpoints and scheduling cost a run; 10 minutes.
	$(BIN)/python benchmarks/launch.py $(ARGS)

bench-gpu: ## The engine on a GPU, under 8 minutes; needs a Python with torch and numpy, nothing else.
	$(PYTHON) benchmarks/gpu.py $(ARGS)

clean: ## Remove caches and the virtual environment; results stay.
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis build *.egg-info
