# Two commands, each complete on a machine that has only Python 3.11-3.13 and make:
#   make demo   environment, install, then the main job on the embedded pocket base
#   make test   environment, install, the tests that guard behaviour
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Each is there when its installation is complete.
INSTALLED := $(VENV)/.installed
DEVELOPING := $(VENV)/.developing
ARGS ?=
# For `make image`: cpu or cuda; docker, podman or buildah; the name with the registry, if it is to be pushed.
TARGET ?= cpu
BUILDER ?= docker
IMAGE ?= styleforge
VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

.DEFAULT_GOAL := help
.PHONY: help setup dev demo test test-all lint types check docs bench image cluster kfp clean

help:  ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / {printf "make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

define install
	$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info[:2] < (3, 14) else "StyleForge needs Python 3.11, 3.12 or 3.13; this is " + sys.version.split()[0] + ". Try make PYTHON=python3.12 ...")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python infra/install.py --quiet -c constraints.txt -e '.$(1)'
endef

$(INSTALLED): pyproject.toml constraints.txt infra/install.py
	$(call install)
	touch $@

$(DEVELOPING): pyproject.toml constraints.txt infra/install.py
	$(call install,[dev])
	touch $(INSTALLED) $@

setup: $(INSTALLED)  ## Make the environment and install

dev: $(DEVELOPING)  ## The same, with what tests, lint and types need

demo: $(INSTALLED)  ## Render a style set and run the whole job on the pocket base
	$(BIN)/styleforge demo $(ARGS)

# A process for each core with one thread, since the tests' networks are so small that threads cost more than they give. A process takes
# up to 1.5 GB. Tests of a file share what they set up.
PYTEST = OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

test: $(DEVELOPING)  ## Run the tests that guard behaviour
	$(PYTEST) -m "not slow" $(ARGS)

test-all: $(DEVELOPING)  ## Run these, and the exhaustive and slow ones
	$(PYTEST) $(ARGS)

lint: $(DEVELOPING)  ## Lint and check formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(DEVELOPING)  ## Check types
	$(BIN)/mypy

docs: $(DEVELOPING)  ## Write the generated reference pages
	$(BIN)/python docs/generate.py

bench: $(DEVELOPING)  ## Measure training, sampling and scoring against the baseline
	$(BIN)/python benchmarks/run.py $(ARGS)

# The format of OCI has no health check.
image:  ## Build the container image; TARGET=cuda for GPUs
	$(BUILDER) build $(if $(filter buildah podman,$(BUILDER)),--format docker) \
		--file infra/docker/Dockerfile --target $(TARGET) --build-arg VERSION=$(VERSION) \
		--build-arg REVISION=$(shell git rev-parse HEAD) --tag $(IMAGE):$(VERSION)-$(TARGET) .

# Apart from ours: its SDK pins older packages.
kfp:  ## Make the environment with Kubeflow's SDK that tests read pipelines with
	$(PYTHON) -m venv $(VENV)-kfp
	$(VENV)-kfp/bin/python -m pip install --quiet --disable-pip-version-check kfp==2.17.3 kfp-kubernetes==2.17.3

# For tests/cluster; see CONTRIBUTING.md. Takes the image of `make image`.
cluster:  ## Bring a cluster up with kind, the image on its node
	kind create cluster --name styleforge
	kind load docker-image $(IMAGE):$(VERSION)-cpu --name styleforge

check: test lint types  ## What CI runs

clean:  ## Remove the environment and local state
	rm -rf $(VENV) .styleforge data build *.egg-info
