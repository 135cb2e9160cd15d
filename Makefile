# `make help` lists the targets. Everything is installed into .venv; stamps in it remember what is
# done, so that a second run is fast and needs no network.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

, := ,
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
IDS_DATA ?= ../shared/data
FUZZ_MINUTES ?= 30
export IDS_DATA PIP_DISABLE_PIP_VERSION_CHECK := 1

PYX := $(wildcard ext/*.pyx)
PXD := $(wildcard ext/*.pxd ext/*.h)
# The netfilter binding compiles against a library that only root's tests need.
DEV_EXTRAS := $(if $(filter 0,$(shell id -u)),dev$(,)gateway,dev)
# A stamp does not notice that a compiled module was deleted.
GONE := $(foreach pyx,$(PYX),$(if $(wildcard \
	ids_appliance/_$(basename $(notdir $(pyx))).*.so),,FORCE))
PIP := $(BIN)/python -m pip install --quiet
# The build's own requirements, so that there is one list of them: pyproject.toml.
BUILD_NEEDS = $$($(BIN)/python -c 'import tomllib; \
	print("\n".join(tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"]))')

.PHONY: help demo test build style lint test-net test-ansible nightly bench budgets models parity annotate format clean FORCE

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

# Asked each time: what only root needs is left out where somebody else has made the stamp.
demo: $(VENV)/stamp-run ## install what it needs, build, attack the whole system in a lab (4 minutes; root)
	@scripts/prepare $(PYTHON) live
	@$(BIN)/ids-appliance demo

test: style ## install what it needs, build, lint, run the tests
	@scripts/prepare $(PYTHON) test
	@$(BIN)/python -m pytest -m 'not nightly' -n 2 --dist loadgroup

build: $(VENV)/stamp-build ## compile ext/ into the package

style: $(VENV)/stamp-dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

lint: style ## ruff, mypy --strict and the tests of the architecture
	@$(BIN)/python -m pytest -q tests/architecture

test-net: $(VENV)/stamp-dev ## only the tests that need root and network namespaces
	@scripts/prepare $(PYTHON) test
	@$(BIN)/python -m pytest -m 'net and not nightly'

test-ansible: $(VENV)/stamp-dev ## deploy to booted Debian systems in namespaces, attack, remove (root; forty minutes)
	@scripts/prepare $(PYTHON) deploy
	@$(BIN)/python -m pytest -x tests/ansible -m '' --ignore=tests/ansible/test_arm64.py

nightly: $(VENV)/stamp-fuzz ## long campaigns: repeats, mutated packets, FUZZ_MINUTES=30 of fuzzing
	@scripts/prepare $(PYTHON) deploy
	@$(BIN)/python -m pytest -m nightly
	@$(BIN)/python -m pytest -m 'not nightly and not net' --hypothesis-profile=searching
	@$(BIN)/python -m tests.fuzz.run --minutes $(FUZZ_MINUTES)

bench: $(VENV)/stamp-dev ## what a packet costs, beside scikit-learn and JSON
	@$(BIN)/python -m tests.bench.spine --scratch build/bench

budgets: $(VENV)/stamp-dev build/bench-others/stamp ## what the design allows each part to cost, measured (root; an hour)
	@$(BIN)/python -m tests.bench.budgets

models: $(VENV)/stamp-dev ## train the bundles of models/ anew on the captures in IDS_DATA
	@$(BIN)/ids-appliance train --data "$(IDS_DATA)" --only-shippable \
		--features top20 --out models/iot-top20
	@$(BIN)/ids-appliance train --data "$(IDS_DATA)" --only-shippable \
		--features all --out models/iot-all60

parity: $(VENV)/stamp-dev ## prove that models/ and every family judge as their libraries do
	@$(BIN)/python -m tests.parity
	@$(BIN)/python -m tests.parity --family each --features top20 --features all

format: $(VENV)/stamp-dev ## let ruff format the Python files
	@$(BIN)/ruff check --fix-only --quiet .
	@$(BIN)/ruff format .

annotate: $(VENV)/stamp-build ## Cython's annotated pages, in build/annotate (yellow = Python)
	@mkdir -p build/annotate
	@for pyx in $(PYX); do \
		$(BIN)/cython -3 --annotate -I ext "$$pyx" -o "build/annotate/$$(basename "$${pyx%.pyx}").c"; \
	done
	@ls build/annotate/*.html

clean: ## remove everything that make made, .venv too
	rm -rf $(VENV) build *.egg-info ids_appliance/*.so ext/*.c ext/*.html \
		.pytest_cache .mypy_cache .ruff_cache .hypothesis demo-output fuzz-output
	find . -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/stamp-venv:
	@scripts/prepare $(PYTHON)
	@echo "make: creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/stamp-needs: $(VENV)/stamp-venv pyproject.toml
	@echo "make: installing the build's requirements"
	@mapfile -t needs <<<"$(BUILD_NEEDS)" && $(PIP) "$${needs[@]}"
	@touch $@

$(VENV)/stamp-build: $(VENV)/stamp-needs setup.py $(PYX) $(PXD) $(GONE)
	@echo "make: compiling $(words $(PYX)) modules of ext/"
	@$(BIN)/python setup.py --quiet build_ext --inplace --parallel 2
	@touch $@

# Editable, on the modules just compiled: no second build in an isolated environment.
$(VENV)/stamp-run: $(VENV)/stamp-needs scripts/prepare | $(VENV)/stamp-build
	@scripts/prepare $(PYTHON) live
	@echo "make: installing the package"
	@$(PIP) --no-build-isolation --editable '.[plot]'
	@touch $@

$(VENV)/stamp-dev: $(VENV)/stamp-needs scripts/prepare | $(VENV)/stamp-build
	@scripts/prepare $(PYTHON) test
	@echo "make: installing the package with the developer's tools"
	@$(PIP) --no-build-isolation --editable '.[$(DEV_EXTRAS)]'
	@touch $@ $(VENV)/stamp-run

# Whom the budgets compare us with; in an environment of their own, each by itself.
build/bench-others/stamp: tests/bench/others.txt
	@$(PYTHON) -m venv build/bench-others
	@grep -v '^#' $< | while read -r names; do \
		build/bench-others/bin/python -m pip install --quiet $$names \
			|| echo "make: left out of the comparison: $$names"; \
	done
	@touch $@

$(VENV)/stamp-fuzz: $(VENV)/stamp-dev
	@scripts/prepare $(PYTHON) fuzz
	@scripts/prepare $(PYTHON) browser
	@$(PIP) --no-build-isolation --editable '.[fuzz,browser]'
	@touch $@
