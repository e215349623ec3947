.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON := .venv/bin/python

.PHONY: help setup testbed tools demo serve stop doctor test slow nodes stateful fuzz check audit chaos bench docs clean

help: ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 18

setup: ## Install what is missing: virtual environment, Docker engine, registry
	@scripts/bootstrap

testbed:
	@scripts/bootstrap tests

tools:
	@scripts/bootstrap tools

demo: setup ## Run one job on a private Swarm and show its result
	@$(PYTHON) scripts/local_stack.py demo

serve: setup ## Start everything and leave it running
	@$(PYTHON) scripts/local_stack.py serve

stop: ## Stop everything that demo or serve has started
	@[ ! -x $(PYTHON) ] || $(PYTHON) scripts/local_stack.py stop

doctor: tools ## Say what is missing for the service to work; DOCTOR=--probe: and what containers can do
	@$(PYTHON) scripts/local_stack.py doctor $(DOCTOR)

test: testbed check ## Run all tests but the longest, on a private Swarm
	$(PYTHON) -m pytest -n 3 --dist loadgroup -m "not nodes and not slow"

slow: testbed ## Run those that test leaves out because it has one of their kind
	$(PYTHON) -m pytest -m slow

nodes: testbed ## Lose machines and managers of a Swarm of several, for minutes
	$(PYTHON) -m pytest -m nodes tests/wps/test_nodes.py

stateful: testbed ## Tell many more stories of jobs amid faults, about ten minutes
	JOB_LIFE_EXAMPLES=$(or $(EXAMPLES),250) $(PYTHON) -m pytest tests/stateful

fuzz: testbed ## Send a hundred thousand malformed requests, and print what was answered
	DOOR_FUZZ_REQUESTS=$(or $(REQUESTS),100000) $(PYTHON) -m pytest -s tests/fuzz

check: tools ## Lint, format and types
	.venv/bin/ruff check .
	.venv/bin/ruff format --check .
	.venv/bin/mypy

audit: tools ## Look for flaws of the libraries in the public lists; needs the internet
	python3 -m venv .die/audit && .die/audit/bin/pip install --quiet 'pip-audit>=2.10,<3'
	.die/audit/bin/pip-audit --strict --skip-editable $(addprefix --path ,$(wildcard .venv/lib/*/site-packages))

# CHAOS="kills --repeats 1" and the like: see python -m chaos --help
chaos: testbed ## Kill, cancel and freeze the service at every step; prints a table
	PYTHONPATH=tests $(PYTHON) -m chaos $(CHAOS)

bench: testbed ## Measure against the bare Swarm and curl; prints ratios
	PYTHONPATH=scripts:tests $(PYTHON) -m benchmarks

docs: tools ## Write the settings table into the README
	$(PYTHON) scripts/settings_table.py

clean: stop ## Remove everything that was installed or written here
	@[ ! -x $(PYTHON) ] || [ ! -d .die/swarm ] || $(PYTHON) -m die_algorithm.local_swarm purge --state .die/swarm
	rm -rf .die .venv result.zip *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
