# Two commands do everything on a machine with Python 3.11 or newer: `make demo` and `make test`.
# The environment in .venv is made once and follows pyproject.toml and requirements/.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PYTEST ?= -m pytest
JOBS ?= 2

.PHONY: deploy-tools deploy-lint deploy-check demo demo-peers image-check observability-e2e pod test test-fast lint types contracts check coverage quality quality-full clean

$(READY): pyproject.toml requirements/dev.txt
	$(PYTHON) -c 'import sys; sys.exit("mergenode needs Python 3.11 or newer, this is %d.%d: make PYTHON=python3.11" % sys.version_info[:2] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet -r requirements/dev.txt
	$(BIN)/python -m pip install --quiet --no-deps -e .
	touch $(READY)

demo: $(READY)  ## the whole story on real data, in under two minutes
	$(BIN)/mergenode demo --output demo-output

demo-peers: $(READY)  ## nodes that train and mix their models, killed and cut off on the way, in under five minutes
	$(BIN)/mergenode demo --peers --output demo-peers-output

test: $(READY)  ## all tests, JOBS of them at a time
	$(BIN)/python $(PYTEST) -n $(JOBS) --dist loadfile

test-fast: $(READY)  ## all but the slow ones
	$(BIN)/python -m pytest -m "not slow"

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	$(BIN)/lint-imports

check: lint types contracts test  ## what CI runs

coverage: $(READY)  ## tests with line coverage of mergenode/; fails below 90 %
	$(BIN)/python -m coverage erase
	$(MAKE) test PYTEST="-m coverage run -m pytest --reruns 1 -rR --hypothesis-profile same"
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report --skip-covered --fail-under=90

pod: $(READY)  ## what machines do to pods, done to a real node in a look-alike of its pod; needs root, some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/deploy/pod/test_pod.py tests/deploy/pod/e2e_pod.py

observability-e2e: $(READY)  ## dashboards, alerts and runbooks against real nodes and a real Prometheus, some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs -s tests/deploy/observability/e2e_panels.py tests/deploy/observability/e2e_alerts.py

$(VENV)/.quality: $(READY) requirements/quality.txt
	$(BIN)/python -m pip install --quiet --no-deps -r requirements/quality.txt
	touch $(VENV)/.quality

quality: $(VENV)/.quality  ## what merges keep of what their experts learnt, small form, under five minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality small --work quality-output

quality-full: $(VENV)/.quality  ## all methods, settings and orders; hours; goes on where it was stopped
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality run --work quality-output --setting light strong many
	OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.quality report --work quality-output

deploy-tools: $(READY)  ## real Helm 3 and 4 and kubectl, for the tests of deploy/ that are skipped without
	$(BIN)/python -m deploy.tools.binaries

deploy-lint: $(READY)  ## charts, manifests and image judged by the tools of others, installs included under two minutes
	$(BIN)/python -m deploy.tools.environments
	$(BIN)/python -m deploy.tools.check

deploy-check: deploy-lint  ## the same, and the tests of deploy/ with real Helm and kubectl
	$(BIN)/python -m pytest tests/deploy tests/docs

image-check: $(READY)  ## the image, built and run without a container engine; needs root, buildah and mmdebstrap, some minutes
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -rs tests/deploy/image_check.py

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* demo-output demo-peers-output quality-output *.egg-info
