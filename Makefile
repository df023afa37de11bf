# `make repro` sets everything up and runs the pipeline; `make test` sets everything up and checks it.
PYTHON ?= python3.11
VENV := .venv
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test test-all extras study check format ui experiments datasets docs screenshots notebooks bench lock clean

repro: $(VENV)/.run            ## run what has changed, from raw data to report
	dvc repro

test: check                    ## all checks and tests
	pytest

test-all: check                ## the same, and every recipe through the pipeline (hours)
	pytest -m ""

check: $(VENV)/.dev            ## format, lint and types
	ruff format --check .
	ruff check .
	mypy

format: $(VENV)/.dev           ## format, and mend what the linter can
	ruff format .
	ruff check --fix .

extras: $(VENV)/.dev           ## add the packages of OGBench, Meta-World and CAGrad's solvers
	pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[ogbench,metaworld,multitask]'

study: $(VENV)/.run            ## run an experiment of docs/experiments, by its NAME, in place of what params.yaml says
	@git diff --quiet HEAD -- params.yaml || { echo "error: params.yaml has changes that this would overwrite; commit them or put them aside (git stash)" >&2; exit 1; }
	cp docs/experiments/$(NAME).yaml params.yaml
	dvc repro
	@echo "git checkout params.yaml brings back what was there"

ui: $(VENV)/.run               ## open the runs in MLflow
	@python -m offline_gcrl.tracking.page $(PORT)

experiments: $(VENV)/.run      ## DVC's experiments: the settings that differ, and success
	@python -m offline_gcrl.commands.experiments

datasets: $(VENV)/.run          ## list the datasets there are
	python -m offline_gcrl.commands.catalogue

docs: $(VENV)/.dev             ## build the pages into site/, from nothing, with warnings as errors
	rm -rf site
	sphinx-build --fresh-env --fail-on-warning --keep-going --quiet -d $(VENV)/.doctrees docs site
	@echo "open site/index.html"

screenshots: $(VENV)/.dev      ## take the pictures of docs/images anew, of what `make repro` left (needs Chromium)
	python docs/screenshots.py

notebooks: $(VENV)/.dev        ## execute the notebooks against what `make repro` left
	python notebooks/execute.py notebooks/*.ipynb

bench: $(VENV)/.dev            ## measure every part beside what one would pick instead: 15 minutes on 2 cores
	pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[bench]'
	OMP_NUM_THREADS=1 python -m benchmarks.run

lock:                          ## pin anew all that pyproject.toml needs
	rm -rf .lock-venv
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --editable '.[dev,ogbench,metaworld,multitask,bench]'
	# Without the local version that some builds of torch add.
	.lock-venv/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
	rm -rf .lock-venv

clean:                         ## forget environments and caches, keep data and results
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; name a Python 3.11: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/pip
	pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable .
	touch $@

$(VENV)/.dev: requirements.lock pyproject.toml | $(VENV)/bin/pip
	pip install --quiet --disable-pip-version-check --constraint requirements.lock --editable '.[dev]'
	touch $@ $(VENV)/.run
