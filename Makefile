# The two commands of README.rst are "make demo" and "make test"; "make help"
# lists the rest. Every target makes the environment that it needs on first
# use and uses it again afterwards.

PYTHON ?= python3
NEWEST = 34
VENV = .venv
BIN = $(VENV)/bin
WORKERS ?= 2

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-quick test-upstream bench clean

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

venv: $(VENV)/.installed ## Make .venv: Nova $(NEWEST) with pinned dependencies, and us.

$(VENV)/.installed: setup.cfg requirements.txt test-requirements.txt constraints/nova-$(NEWEST).txt
	@echo "Making $(VENV): Nova $(NEWEST), Placement and test tools, about a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check \
	    -c constraints/nova-$(NEWEST).txt \
	    -r requirements.txt -r test-requirements.txt tox -e .
	@touch $@

demo: venv ## Boot GPU servers on an embedded cloud and show every step.
	@$(BIN)/python -m demo $(ARGS)

test: test-quick test-upstream ## Run every test that this machine can run, and the linters.
	$(BIN)/tox run -q -e nova31,pep8,docs,releasenotes,genconfig

test-quick: venv ## Run unit and functional tests on the newest Nova.
	$(BIN)/pytest -n $(WORKERS) tests

test-upstream: venv ## Run Nova's own suites with our filter in place of Nova's.
	$(BIN)/python -m tests.upstream -n $(WORKERS)

bench: venv ## Measure us against stock Nova, side by side.
	@$(BIN)/python -m bench $(ARGS)

clean: ## Remove every environment and build product.
	rm -rf $(VENV) .tox build dist *.egg-info doc/build releasenotes/build \
	    .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage cover
