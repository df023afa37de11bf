# `make repro` installs the package and runs the pipeline; `make test` installs the tools and runs all checks and tests.
PYTHON ?= python3.11
VENV := .venv
# Resolves the packages in a third of the time of pip 23, which Python 3.11 brings.
PIP := pip==26.3
# Modules are compiled when they are first imported; pip would compile all of them, which takes a minute. Many container
# images forbid Python to keep what it compiled; each process would then compile again, which takes 8 s.
unexport PYTHONDONTWRITEBYTECODE
INSTALL := pip install --quiet --disable-pip-version-check --no-compile --constraint requirements.lock --editable
SEARCHES := $(basename $(notdir $(wildcard docs/searches/*.yaml)))
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test test-all extras study tune known-search needs-git check lint format ui experiments datasets docs screenshots notebooks bench claims lock clean cluster push pull

repro: needs-git $(VENV)/.run  ## run the stages that have changed, from raw data to report
	dvc repro

test: lint                     ## run all checks and tests (types are one of the tests)
	pytest

test-all: lint                 ## run all checks and tests, and the pipeline for every recipe (hours)
	pytest -m ""

check: lint                    ## check format, lint and types
	mypy

lint: $(VENV)/.dev
	ruff format --check .
	ruff check .

format: $(VENV)/.dev           ## format the code, and apply the fixes of the linter
	ruff format .
	ruff check --fix .

extras: $(VENV)/.dev           ## install OGBench, Meta-World, the solvers of CAGrad, UPGrad and DualProj, and the text encoder
	$(INSTALL) '.[ogbench,metaworld,multitask,language]'

study: needs-git $(VENV)/.run  ## run an experiment of docs/experiments, or continue it: make study NAME=... [SIZE=full]
	@python -m offline_gcrl.commands.study "$(NAME)" "$(SIZE)"

tune: known-search needs-git $(VENV)/.run  ## search settings of an agent, or continue a search of docs/searches: make tune NAME=...
	@python -c "import optuna" 2>/dev/null || $(INSTALL) '.[tune]'
	@python -m offline_gcrl.commands.tune "docs/searches/$(NAME).yaml"

known-search:
	@test -f "docs/searches/$(NAME).yaml" || { echo "error: no search '$(NAME)'; make tune NAME=... takes one of: $(SEARCHES)" >&2; exit 1; }

needs-git:
	@git rev-parse --git-dir >/dev/null 2>&1 || grep -qs 'no_scm *= *true' .dvc/config .dvc/config.local || { echo "error: this copy of the project has no Git repository, which DVC needs; clone the project, or run 'dvc config core.no_scm true' to do without experiments" >&2; exit 1; }

cluster: $(VENV)/.run          ## start a Ray cluster on this machine; RAY_ADDRESS=auto runs stages on it
	$(INSTALL) '.[cluster]'
	RAY_USAGE_STATS_ENABLED=0 ray start --head --include-dashboard=false --disable-usage-stats
	@echo "RAY_ADDRESS=auto dvc repro uses the cluster; ray stop ends it"

push: $(VENV)/.run             ## copy data, models and results to the DVC remote
	dvc push

pull: $(VENV)/.run             ## copy data, models and results from the DVC remote
	dvc pull

ui: $(VENV)/.run               ## open the runs in MLflow
	@python -m offline_gcrl.tracking.page $(PORT)

experiments: $(VENV)/.run      ## list DVC's experiments: settings that differ, and success rates
	@python -m offline_gcrl.commands.experiments

datasets: $(VENV)/.run         ## list all datasets
	python -m offline_gcrl.commands.catalogue

docs: $(VENV)/.dev             ## build the documentation into site/ from scratch, with warnings as errors
	rm -rf site
	sphinx-build --fresh-env --fail-on-warning --keep-going --quiet -d $(VENV)/.doctrees docs site
	@echo "open site/index.html"

screenshots: $(VENV)/.dev      ## update the pictures in docs/images from the results of `make repro` (needs Chromium)
	python docs/screenshots.py

notebooks: $(VENV)/.dev        ## execute the notebooks with the results of `make repro`
	python notebooks/execute.py notebooks/*.ipynb

bench: $(VENV)/.dev            ## compare the speed of every part with alternatives (at most 22 minutes on 2 cores)
	$(INSTALL) '.[bench]'
	OMP_NUM_THREADS=1 python -m benchmarks.run

claims: needs-git $(VENV)/.run  ## test the claims of docs/claims.md again (half an hour on 2 cores)
	$(MAKE) study NAME=claims
	python -m benchmarks.claims

lock:                          ## update requirements.lock from pyproject.toml
	rm -rf .lock-venv
	$(PYTHON) -m venv .lock-venv
	.lock-venv/bin/pip install --editable '.[dev,ogbench,metaworld,multitask,language,bench,cluster,s3]'
	# Without the local version of CPU builds of torch.
	.lock-venv/bin/pip freeze --exclude-editable | sed 's/+cpu$$//' > requirements.lock
	rm -rf .lock-venv

clean:                         ## delete environments and caches, and keep data and results
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/pip:
	@command -v $(PYTHON) >/dev/null || { echo "error: $(PYTHON) not found; set the path of Python 3.11, 3.12 or 3.13: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --disable-pip-version-check $(PIP)

$(VENV)/.run: requirements.lock pyproject.toml | $(VENV)/bin/pip
	$(INSTALL) .
	touch $@

$(VENV)/.dev: requirements.lock pyproject.toml | $(VENV)/bin/pip
	$(INSTALL) '.[dev]'
	touch $@ $(VENV)/.run
