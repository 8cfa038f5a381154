# Every target does its own set-up. `make help` lists them.

# What `make run` takes, each optional: make run INPUT=payments.parquet SPEED=max
INPUT ?=
SPEED ?=
FOR ?=
DATA ?=
LABEL_DELAY ?=
REVIEWED ?=
SCENARIO ?=
SEEDS ?=

SHELL := /bin/sh
VENV := .venv
PYTHON := $(VENV)/bin/python
WEIR ?= $(VENV)/bin/weir
BROWSER := .cache/browser
CACHE := $(or $(WEIR_CACHE),.cache/jars)
JARS := $(CACHE)/stamp
CLASSES := $(CACHE)/classes/stamp
PINS := $(wildcard services/platform/*.pom.xml) services/platform/jars.sha256

# A value reaches weir as one word, whatever it holds.
flag = $(if $(2),$(1) '$(subst ','\'',$(2))')
FLAGS = $(call flag,--input,$(INPUT)) $(call flag,--speed,$(SPEED)) $(call flag,--for,$(FOR)) \
	$(call flag,--data-dir,$(DATA)) $(call flag,--label-delay,$(LABEL_DELAY)) \
	$(call flag,--reviewed,$(REVIEWED)) $(call flag,--scenario,$(SCENARIO)) \
	$(call flag,--seeds,$(SEEDS))

.PHONY: help setup run test check format clean
.DEFAULT_GOAL := help

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo "make run takes INPUT=file SPEED=max|<factor>|<N>/s FOR=seconds DATA=dir LABEL_DELAY=7d REVIEWED=N SCENARIO=drift SEEDS=1,2"

setup: $(VENV)/stamp $(JARS) $(CLASSES) ## the environment from the lock, and the jars through Maven

run: setup ## the mesh on your machine, until its input is decided, the time is up, or Ctrl-C
	@exec $(WEIR) up $(FLAGS)

test: setup $(BROWSER) ## everything, on the real broker, Redis and registry
	@$(VENV)/bin/pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder -m "not alone" tests
	@exec $(VENV)/bin/pytest -m alone tests

check: $(VENV)/stamp ## before each commit: format, lint, types, walls, unit tests
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/mypy
	@$(VENV)/bin/lint-imports
	@$(VENV)/bin/pytest tests/unit tests/architecture

format: $(VENV)/stamp ## let ruff rewrite what it can
	@$(VENV)/bin/ruff format .
	@$(VENV)/bin/ruff check --fix .

clean: ## remove environment, jars and caches; data directories stay
	rm -rf $(VENV) .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache

# The stamps are written last: an interrupted set-up starts over.
$(VENV)/stamp: requirements.lock pyproject.toml
	@set -e; \
	for python in python3 python3.13 python3.12 python3.11; do \
		if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then found=$$python; break; fi; \
	done; \
	if [ -z "$${found:-}" ]; then \
		echo "weir: no Python >= 3.11 on PATH (python3 is $$(python3 --version 2>&1 || true)): install one" >&2; exit 1; \
	fi; \
	echo "weir: making $(VENV) with $$($$found --version)"; \
	$$found -m venv $(VENV); \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock; \
	$(PYTHON) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .; \
	touch $@

# For the console's tests alone: `make run` needs none.
$(BROWSER): $(VENV)/stamp tests/browser.sh
	@mkdir -p .cache
	@sh tests/browser.sh $@ $(PYTHON)

# The cache is outside make's sight when WEIR_CACHE moves it, so the recipe itself decides what is missing.
$(JARS): $(VENV)/stamp $(PINS)
	@command -v mvn >/dev/null || { echo "weir: no Maven: mvn is not on PATH; install Maven 3.6 or newer" >&2; exit 1; }
	@echo "weir: Kafka and the schema registry, through Maven"
	@$(PYTHON) -m services.platform.jars

# After the jars and not whenever their stamp is newer, which every start touches; new jars remove this one's.
$(CLASSES): $(VENV)/stamp $(PINS) $(wildcard services/platform/class_archive*.py services/platform/*_server.py) | $(JARS)
	@echo "weir: the servers' classes, so that they start in half the time"
	@$(PYTHON) -m services.platform.class_archive_making
