# Kruise: workload controllers for Kubernetes, in Python. `make` alone prints this help.

SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
PY := $(BIN)/python
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do \
	command -v $$p >/dev/null && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)

IMG ?= kruise-manager:latest
CONTAINER_TOOL ?= docker
PLATFORMS ?= linux/arm64,linux/amd64,linux/s390x,linux/ppc64le
NODES ?= 10
FORCE ?=
ARGS ?=

# Every process that a target starts would compile the project anew where the environment forbids to keep bytecode.
export PYTHONDONTWRITEBYTECODE :=

# Our files: what formatters, linters and type checks look at.
CODE := kruise tests examples hack

##@ General

.PHONY: help
help: ## Print this help
	@awk 'BEGIN {FS = ":.*##"; printf "Usage: make \033[36mTARGET\033[0m\n"} \
	  /^[a-zA-Z0-9_-]+:.*##/ {printf "  \033[36m%-18s\033[0m %s\n", $$1, $$2} \
	  /^##@/ {printf "\n%s\n", substr($$0, 5)}' $(MAKEFILE_LIST)

##@ Develop

# The lock is the whole answer, so nothing is resolved again (`--no-deps`): a pip that does takes a newer release for a
# name with extras (`coverage[toml]`), which has no hash here, on the day when one appears. `pip check` finds a gap.
$(VENV)/.ready: requirements/dev.lock setup.cfg
	@test -n "$(PYTHON)" || { echo "error: no Python >= 3.11 found; install one, or name it: make PYTHON=/path/to/python3 $(MAKECMDGOALS)" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
	  echo "error: $(PYTHON) comes without ensurepip or venv; install the package python3-venv (Debian, Ubuntu), or use another Python: make PYTHON=..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements/dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@$(BIN)/pip check --disable-pip-version-check
	$(PY) -m compileall -q kruise hack
	@touch $@

.PHONY: venv
venv: $(VENV)/.ready ## Create the virtual environment with all development tools

.PHONY: demo
demo: venv ## Watch a job, a set updated in place and a sidecar upgraded, on a cluster in one process (flags: ARGS=--keep)
	@$(BIN)/kruise demo $(ARGS)

.PHONY: lock
lock: venv ## Update the pinned, hashed dependencies in requirements/*.lock
	$(PY) -m hack.lock

.PHONY: fmt
fmt: venv ## Format the code
	$(BIN)/ruff format $(CODE)

.PHONY: lint
lint: venv ## Lint, check the format and the import rules
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/lint-imports

.PHONY: lint-fix
lint-fix: venv ## Lint, and mend what can be mended
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

.PHONY: types
types: venv ## Check types (mypy, strict)
	$(BIN)/mypy

.PHONY: run
run: venv ## Run the manager against the current kubeconfig (flags: ARGS=...; WEBHOOK_HOST=... serves webhooks there)
	$(PY) -m kruise $(if $(WEBHOOK_HOST),,--disable-webhooks) $(ARGS)

##@ Test

.PHONY: test
test: venv ## All tests that need no cluster
	$(PY) -m pytest -q -p no:rerunfailures -n auto --dist worksteal tests/unit tests/contract tests/golden tests/property tests/simulation tests/perf $(ARGS)

.PHONY: test-e2e
test-e2e: venv ## Tests on the real control plane (builds it once per machine; needs Go or KUBEBUILDER_ASSETS)
	$(PY) -m hack.cluster build
	$(PY) -m pytest -q --reruns 1 tests/integration tests/e2e $(ARGS)

N ?= 200
.PHONY: simulate
simulate: venv ## Seeded faults against the production manager: N=5000, SEED=7 or REPLAY=file
	$(PY) -m hack.simulate $(if $(REPLAY),--replay $(REPLAY),$(if $(SEED),--seed $(SEED),--count $(N))) $(ARGS)

.PHONY: fuzz
fuzz: venv ## Spoiled reviews against the webhooks for a minute, guided by coverage with the extra `fuzz` (ARGS=...)
	$(PY) -m hack.fuzz $(ARGS)

.PHONY: conformance
conformance: venv ## Every probe against the embedded API server and a real one (KUBECONFIG=...: that cluster)
	$(PY) -m hack.conformance $(ARGS)

.PHONY: check
check: lint types verify test test-e2e ## Everything that CI runs

.PHONY: coverage-report
coverage-report: venv ## Line and branch coverage of the tests that need no cluster, seeds and mutants aside
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest -q tests/unit tests/contract tests/golden tests/property tests/simulation \
	  --ignore=tests/simulation/test_seeds.py --ignore=tests/simulation/test_mutants.py
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --include='kruise/runtime/*,kruise/controllers/*'

.PHONY: bench
bench: venv ## Benchmarks: ratios against the stored baseline
	$(PY) -m tests.perf $(ARGS)

##@ Cluster

.PHONY: cluster
cluster: venv ## Start a real control plane with simulated nodes, install the CRDs, print the kubeconfig
	$(PY) -m hack.cluster up --nodes $(NODES) $(ARGS)
	@KUBECONFIG=.cluster/admin.kubeconfig $(PY) -m hack.install install >&2

.PHONY: cluster-down
cluster-down: venv ## Stop exactly what `make cluster` started
	$(PY) -m hack.cluster down

##@ Generate

.PHONY: manifests
manifests: venv ## Regenerate CRDs, RBAC and dist/install.yaml
	$(PY) -m hack.manifests

.PHONY: generate
generate: manifests ## Regenerate everything that is generated

.PHONY: docs
docs: venv ## Regenerate the generated documents
	$(PY) -m hack.manifests --docs

.PHONY: verify
verify: venv ## Fail when a generated file is stale or a guarantee has no test
	$(PY) -m hack.verify
	$(PY) -m hack.guarantees

##@ Build and deploy

.PHONY: build
build: venv ## Build the wheel into dist/
	$(PY) -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

.PHONY: docker-build
docker-build: ## Build the image IMG
	$(CONTAINER_TOOL) build -t $(IMG) .

.PHONY: docker-push
docker-push: ## Push the image IMG
	$(CONTAINER_TOOL) push $(IMG)

.PHONY: docker-buildx
docker-buildx: ## Build and push the image for all PLATFORMS
	$(CONTAINER_TOOL) buildx build --push --platform=$(PLATFORMS) --tag $(IMG) .

.PHONY: build-installer
build-installer: venv ## Write dist/install.yaml for the image IMG
	$(PY) -m hack.manifests --image $(IMG) --only-installer

.PHONY: install
install: venv ## Install the CRDs into the cluster of the current kubeconfig; with WEBHOOK_HOST=... what calls it, too
	$(PY) -m hack.install install $(if $(WEBHOOK_HOST),--webhooks)

.PHONY: uninstall
uninstall: venv ## Remove the CRDs; refused while objects of ours exist, unless FORCE=1
	$(PY) -m hack.install uninstall $(if $(FORCE),--force)

.PHONY: deploy
deploy: venv ## Deploy the manager (config/default) with the image IMG
	$(PY) -m hack.install deploy --image $(IMG)

.PHONY: undeploy
undeploy: venv ## Remove the manager; the CRDs stay while objects of ours exist, unless FORCE=1
	$(PY) -m hack.install undeploy $(if $(FORCE),--force)
