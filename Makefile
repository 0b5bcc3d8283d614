# `make` lists the targets. Everything is installed below $(VENV), except LaTeX and graphviz, which come from the system.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

VENV ?= .venv
PYTHON ?= python3
CORES ?= all
# A study file; empty for the embedded study, config/config.yaml.
STUDY ?=
# The archive that `make paper-from` reads.
ARCHIVE ?=
# A GPU for `make plan`.
GPU ?=
# A model as a GGUF file, which `make bench` times llama.cpp on.
GGUF ?=
# A model's folder or hub repository, instead of a study: one is written for it. A draft model and a text to go with it.
MODEL ?=
DRAFT ?=
TEXT ?=

$(if $(STUDY),$(if $(shell test -f "$(STUDY)" && echo yes),,$(error there is no file $(STUDY): STUDY is the path of a study, such as config/config.yaml)))

$(if $(GGUF),$(if $(shell test -f "$(GGUF)" && echo yes),,$(error there is no file $(GGUF): GGUF is the path of the model that make bench times, as a GGUF file)))

$(if $(filter all,$(CORES)),,$(if $(shell test 0"$(CORES)" -ge 1 2> /dev/null && echo yes),,$(error CORES is a number of cores from 1 on, or all; not "$(CORES)")))

$(if $(and $(MODEL),$(STUDY)),$(error MODEL and STUDY are both given: STUDY is a study that is there, MODEL a model that one is written for))
$(if $(MODEL),$(if $(filter-out paper plan,$(MAKECMDGOALS)),$(error MODEL goes with paper and plan; what comes after takes the study that they wrote: STUDY=config/<name of the model>.yaml)))
$(if $(MODEL),,$(if $(or $(DRAFT),$(TEXT)),$(error DRAFT and TEXT go with MODEL, the model that a study is written for)))

$(if $(filter 1,$(words $(VENV))),,$(error VENV is the folder of the virtual environment, one without a space; not "$(VENV)"))

BIN := $(VENV)/bin
CONFIGFILE := $(if $(STUDY),--configfile "$(STUDY)")
STUDYFILE := "$(or $(STUDY),config/config.yaml)"
# No more jobs at once than the memory holds: each says what it needs.
MEMORY := $(shell awk '/^MemTotal/ {print int($$2 / 1024)}' /proc/meminfo 2> /dev/null)
SNAKEMAKE := $(BIN)/python -m snakemake $(CONFIGFILE) --cores $(CORES) $(if $(MEMORY),--resources mem_mb=$(MEMORY))

# The library is this checkout's, wherever the virtual environment was made.
export PYTHONPATH := $(CURDIR)/src$(if $(PYTHONPATH),:$(PYTHONPATH))

# Where the home folder cannot be written to, caches go beside the results.
ifeq ($(shell test -w "$$HOME" || echo no),no)
export XDG_CACHE_HOME ?= $(CURDIR)/.snakemake/cache
export MPLCONFIGDIR ?= $(CURDIR)/.snakemake/cache/matplotlib
endif

# Why a virtual environment is of no use: its scripts name the place it was made in, or its Python is gone.
MISPLACED := $(shell workflow/misplaced.sh "$(VENV)")

.PHONY: help misplaced check setup programs paper plan test test-slow test-gpu test-slurm bench control agreement gpu-check lint dag report archive paper-from licences clean lock

help:  ## List the targets
	@grep -hE '^[a-z-]+: .*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+): .*## (.*)/  make \1\t\2/' | expand -t 20
	@echo
	@echo "Variables: CORES=N (default all), STUDY=FILE (default config/config.yaml), MODEL=FOLDER-OR-REPOSITORY with DRAFT= and TEXT= (for paper and plan),"
	@echo "           GPU=NAME (for plan), GGUF=FILE (for bench), VENV=FOLDER, PYTHON=PROGRAM"

setup: $(VENV)/.installed  ## Install what is missing: virtual environment, LaTeX, graphviz

# Python first: it should not be refused after LaTeX has been installed.
programs:
	@command -v $(PYTHON) > /dev/null || { echo "There is no program $(PYTHON). Name a Python 3.11 or later with: make PYTHON=python3.11 ..." >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit(f"specpress needs Python 3.11 or later; $(PYTHON) is {v[0]}.{v[1]}. Name another with: make PYTHON=python3.11 ...")'
	@PYTHON=$(PYTHON) workflow/ensure-programs.sh

misplaced:
	@echo "$(VENV) $(MISPLACED): it is made anew"
	rm -rf $(VENV)

# The lock is everything but torch, whatever depends on it: --no-deps, so that nothing comes in without a hash. pip would
# compile 15,000 files on one core; here it is all cores, and a file for a later Python, as torch has one, does not matter.
$(VENV)/.installed: requirements.lock requirements-torch.lock pyproject.toml $(if $(MISPLACED),misplaced) | programs
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)  # one without pip broke off
	$(BIN)/python -m pip install --quiet --no-compile --no-deps --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --no-compile --requirement requirements-torch.lock
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	$(BIN)/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

check: setup
	@$(BIN)/python scripts/check_study.py --study $(STUDYFILE)

ifeq ($(MODEL),)
paper: check  ## Run the study and build paper/main.pdf; MODEL=FOLDER-OR-REPOSITORY writes the study first
	@$(BIN)/python workflow/recover.py $(CONFIGFILE)
	$(SNAKEMAKE)

plan: setup  ## Say what a study takes: jobs, download, disk, memory, hours on a GPU (GPU=NAME)
	@$(BIN)/python scripts/plan_study.py --study $(STUDYFILE) $(if $(GPU),--gpu $(GPU))
else
# A study of these that was written before is kept as it is, with what you changed in it: remove it for a new one.
paper plan: setup
	@study=$$($(BIN)/python -m specpress.cli.main new "$(MODEL)" --keep $(if $(DRAFT),--draft "$(DRAFT)") $(if $(TEXT),--text "$(TEXT)")) && \
	echo "the study is $$study" && $(MAKE) --no-print-directory $@ MODEL= DRAFT= TEXT= STUDY="$$study"
endif

# One thread: the models of these tests are tiny, and threads that share their cores with anything else wait on each other.
# The longest files first (tests/conftest.py), not those of most tests, which xdist would begin with.
test: setup  ## Run the tests on all cores, about seven minutes on two
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadfile --no-loadscope-reorder -m "not slow and not slurm"

# Test by test to whichever process is free, but for groups, whose tests share what takes long to make.
test-slow: setup  ## Run the tests that take minutes each or need the downloaded model: thirty-six minutes on two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n auto --maxprocesses 8 --dist loadgroup --no-loadscope-reorder -m "slow and not slurm"

test-gpu: setup  ## Run the tests that need a CUDA GPU
	$(BIN)/python -m pytest -m gpu

test-slurm: setup  ## Run a study on a real SLURM of one node, or say why that cannot be (root, Debian)
	@tests/slurm/run.sh $(BIN)/python $(VENV)/slurm

bench: setup  ## Time the engine beside transformers (after make paper), with GGUF=FILE also llama.cpp: results/benchmarks/engine.json
	$(BIN)/python benchmarks/engine.py $(if $(GGUF),--gguf "$(GGUF)")

# Two hours; fewer with: make control REPEATS=10
REPEATS ?= 100
control: setup  ## Time the baseline against itself, with and without a load (after make paper): results/benchmarks/control.json
	$(BIN)/python benchmarks/control.py --repeats $(REPEATS)

agreement: setup  ## Run the speed experiments twice, one run beside a load (after make paper): results/benchmarks/agreement.json
	$(BIN)/python benchmarks/agreement.py --study $(STUDYFILE)

gpu-check: setup  ## Check the library on this machine's GPU, six minutes: results/benchmarks/gpu_check.json
	$(BIN)/python benchmarks/gpu_check.py

lint: setup  ## Check the style of Python and Snakemake code, and that no wing imports one above it
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo
	$(BIN)/snakefmt --check Snakefile workflow
	$(BIN)/python -m snakemake --lint

dag: check  ## Write the rule graph and the job graph, dag/rules.svg and dag/jobs.svg
	@mkdir -p dag
	$(SNAKEMAKE) --quiet --forceall --rulegraph -- paper/main.pdf > dag/rules.dot
	$(SNAKEMAKE) --quiet --forceall --dag -- paper/main.pdf > dag/jobs.dot
	for graph in rules jobs; do dot -Tsvg -o dag/$$graph.svg dag/$$graph.dot; rm dag/$$graph.dot; done

report: paper  ## Write report.html: figures, tables and run times in one file
	$(SNAKEMAKE) report_pages
	$(SNAKEMAKE) --report report.html --report-stylesheet workflow/report/style.css --report-metadata workflow/report/landing.yaml -- report_pages
	@cp report.html "results/$$($(BIN)/python -c 'import sys; from specpress.study.load import read_study; print(read_study(sys.argv[1]).name)' $(STUDYFILE))/"

archive: paper  ## Put everything the paper is made of into archives/<study>.tar
	$(BIN)/python -m specpress.cli.main archive $(if $(STUDY),--study $(STUDYFILE))

paper-from: setup  ## Rebuild the paper of an archive without running an experiment: ARCHIVE=FILE
	@$(if $(ARCHIVE),,echo "error: name the archive: make paper-from ARCHIVE=archives/<study>.tar" >&2; exit 2)
	$(BIN)/python workflow/paper_from.py "$(ARCHIVE)" --cores $(CORES)

licences: setup  ## List the licences of a study's models and data, and of the packages
	@$(BIN)/python scripts/list_licences.py --study $(STUDYFILE)

clean:  ## Remove everything measured or built; downloads, models and data stay
	rm -rf results logs dag report.html paper/main.pdf

lock:  ## Resolve requirements.in into the lock files; UPGRADE=--upgrade for the newest of everything
	rm -rf $(VENV)-lock
	$(PYTHON) -m venv $(VENV)-lock
	$(VENV)-lock/bin/python -m pip install --quiet uv
	workflow/write-lock.sh $(VENV)-lock/bin/uv $(UPGRADE)
	rm -rf $(VENV)-lock
