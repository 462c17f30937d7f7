# The two commands of README.rst are "make demo" and "make test"; "make help"
# lists the rest. Every target makes the environment that it needs on first
# use and uses it again afterwards.

PYTHON ?= python3
NEWEST = 34
VENV = .venv
BIN = $(VENV)/bin
# The environment of "make cloud", which has all services beside Nova.
CLOUD = .venvs/cloud
# What tests use of us, and what the services of the cloud do.
EXTRAS = .[scheduler,placement,osc,exporter,simulate,plot]
CLOUD_EXTRAS = .[scheduler,placement,osc,exporter]
# Test processes at a time, here and in tox.
WORKERS ?= 2
export WORKERS
# How often a case of "make test-cloud" is tried again.
CLOUD_RERUNS ?= 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help venv demo host-case test test-quick test-upstream test-install \
    test-hardware test-node test-servers fuzz bench clean \
    stage-install stage-pep8 stage-docs stage-releasenotes stage-genconfig \
    cloud cloud-down cloud-venv test-cloud bench-cloud constraints-cloud \
    constraints-31 constraints-32 constraints-33 constraints-34

help: ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  constraints-NN   Resolve constraints/nova-NN.txt again (NN: 31 to $(NEWEST))."

venv: $(VENV)/.installed ## Make .venv: Nova $(NEWEST) with pinned dependencies, and us.

# Make an environment: $(call environment,FOLDER,WHAT TO INSTALL,MORE WITH UV).
# uv takes a third of the time that pip does. It reads none of pip's settings;
# where these name another index it may find nothing, and pip does it all.
export UV_SYSTEM_CERTS = true
PIP_INSTALL = pip install --quiet --disable-pip-version-check
environment = $(PYTHON) -m venv $(1) && { \
    { $(1)/bin/$(PIP_INSTALL) -c constraints/nova-$(NEWEST).txt uv && \
      $(1)/bin/uv pip install --quiet --python $(1)/bin/python $(2) $(3); } || \
    { echo "uv did not install all of it (see above); pip does, in minutes."; \
      $(1)/bin/$(PIP_INSTALL) $(2); }; }
# What is installed is compiled as it is imported, also where containers say
# that nothing is kept: each process would do it otherwise.
export PYTHONDONTWRITEBYTECODE =

$(VENV)/.installed: setup.cfg requirements.txt test-requirements.txt constraints/nova-$(NEWEST).txt
	@echo "Making $(VENV): Nova $(NEWEST), Placement and test tools, half a minute."
	@$(call environment,$(VENV),-c constraints/nova-$(NEWEST).txt \
	    -r test-requirements.txt tox -e "$(EXTRAS)",tox-uv)
	@touch $@

demo: venv ## Boot GPU servers on an embedded cloud and show every step.
	@$(BIN)/python -m demo $(ARGS)

# Run a command, and say how long it took: $(call stage,NAME,COMMAND).
STAGES = .cache/stages
stage = mkdir -p $(dir $(STAGES)); started=$$(date +%s); \
    if $(2); then ended=passed; else ended=FAILED; fi; \
    seconds=$$(( $$(date +%s) - started )); \
    printf 'make test: %s %s after %d:%02d\n' "$(1)" $$ended \
        $$((seconds / 60)) $$((seconds % 60)); \
    [ $$ended = passed ] || exit 1; echo "$(1) $$seconds" >> $(STAGES)
# Each uses one processor: they run side by side.
TOX_STAGES = install pep8 docs releasenotes genconfig

# One after the other also under "make -j": the suites share the processors.
test: ## Run every test, and the linters.
	@mkdir -p $(dir $(STAGES)) && date +%s > $(STAGES)
	@$(call stage,quick,$(MAKE) --no-print-directory test-quick)
	@$(call stage,upstream,$(MAKE) --no-print-directory test-upstream)
	@$(call stage,nova31,$(BIN)/tox run -q -e nova31)
	@$(MAKE) --no-print-directory -j$(WORKERS) -O $(TOX_STAGES:%=stage-%)
	@$(call stage,hardware,$(MAKE) --no-print-directory test-hardware)
	@$(call stage,servers,$(MAKE) --no-print-directory test-servers)
	@awk -v now=$$(date +%s) 'NR == 1 { total = now - $$1; next } \
	    { line = line sprintf(" %s %d:%02d,", $$1, $$2 / 60, $$2 % 60) } \
	    END { printf "make test:%s in all %d:%02d\n", line, total / 60, total % 60 }' $(STAGES)

$(TOX_STAGES:%=stage-%): stage-%: venv
	@$(call stage,$*,$(BIN)/tox run -q -e $*)

test-quick: venv ## Run unit and functional tests on the newest Nova.
	$(BIN)/pytest -q -n $(WORKERS) --dist worksteal tests/unit tests/functional tests/fuzz

host-case: venv ## Make a test of a machine (CAPTURE=FILE NAME=gpu-1).
	$(BIN)/python -m tests.unit.host.add_case "$(CAPTURE)" "$(NAME)" \
	    $(if $(CONF),--nova-conf "$(CONF)")

# How many inputs each parser is given.
FUZZ_EXAMPLES ?= 2000

fuzz: venv ## Give parsers and Placement hostile input for long (FUZZ_EXAMPLES=2000).
	FUZZ_EXAMPLES=$(FUZZ_EXAMPLES) $(BIN)/python -m pytest -q -W ignore -o faulthandler_timeout=0 \
	    -p tests.fuzz.counting -n $(WORKERS) --dist worksteal tests/fuzz tests/unit/scheduler/test_every_flavor.py \
	    tests/functional/placement/test_api.py::test_the_only_whole_partition_is_within_the_limit

test-upstream: venv ## Run the suites of Nova and Placement with our parts in place.
	$(BIN)/python -m tests.upstream -n $(WORKERS)

test-node: ## Boot servers on an emulated compute node of a real cloud (root).
	@exec 3>&1; if reason=$$($(PYTHON) -m cloud.packages --ensure 2>&1 >&3); then \
	    $(MAKE) --no-print-directory cloud-venv && \
	    $(CLOUD)/bin/python -m tests.node --reruns $(CLOUD_RERUNS) --maxfail 3 $(ARGS); \
	 else echo "test-node: skipped: $$reason"; fi

test-install: venv ## Install the wheel with each extra into an empty environment.
	$(BIN)/tox run -q -e install

# Where five fail, the cloud is broken, and each further test would wait minutes.
test-cloud: ## Run end-to-end tests on it (root; started and ended if not up).
	@exec 3>&1; if reason=$$($(PYTHON) -m cloud.packages --ensure 2>&1 >&3); then \
	    $(MAKE) --no-print-directory cloud-venv && \
	    $(CLOUD)/bin/python -m pytest -q -W ignore -p no:cacheprovider tests/cloud --reruns $(CLOUD_RERUNS) --maxfail 5 $(CLOUD_TESTS); \
	 else echo "test-cloud: skipped: $$reason"; fi

# Each has a cloud of its own, and waits for it half of the time.
test-servers: ## Run both side by side, test-node and test-cloud (root).
	@exec 3>&1; if reason=$$($(PYTHON) -m cloud.packages --ensure 2>&1 >&3); then \
	    $(MAKE) --no-print-directory cloud-venv && \
	    $(MAKE) --no-print-directory -j2 test-node test-cloud; \
	 else echo "test-node, test-cloud: skipped: $$reason"; fi

bench-cloud: ## Count refusals and claims of bursts on it (root; ARGS='--rounds 10').
	@$(PYTHON) -m cloud.packages
	@$(MAKE) --no-print-directory cloud-venv
	@$(CLOUD)/bin/python -W ignore -m tests.cloud $(ARGS)

cloud-venv: $(CLOUD)/.installed

$(CLOUD)/.installed: cloud-requirements.txt setup.cfg requirements.txt test-requirements.txt constraints/cloud.txt
	@echo "Making $(CLOUD): the services of a cloud, about a minute."
	@$(call environment,$(CLOUD),-c constraints/cloud.txt \
	    -r cloud-requirements.txt -e "$(CLOUD_EXTRAS)")
	@touch $@

cloud: ## Start a cloud of real services on 127.0.0.1; needs root on Debian.
	@$(PYTHON) -m cloud.packages
	@$(MAKE) --no-print-directory cloud-venv
	@$(CLOUD)/bin/python -m cloud up $(ARGS)

cloud-down: ## End it and remove its data.
	@if [ -x $(CLOUD)/bin/python ]; then $(CLOUD)/bin/python -m cloud down; \
	 else echo "There is no cloud."; fi

test-hardware: venv ## Run nova-gpu-host on emulated machines with a real kernel (root).
	@$(BIN)/python -m tests.hardware $(ARGS)

bench: venv ## Measure us against stock Nova, side by side.
	@$(BIN)/python -m bench $(ARGS)

clean: ## Remove every environment and build product.
	rm -rf $(VENV) .venvs .tox build dist *.egg-info doc/build releasenotes/build \
	    .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage cover \
	    etc/nova-gpu-filter/*.conf.sample

# Constraints. What else may be installed beside a Nova series is OpenStack's
# own list of tested versions for that release; the newest Nova is tested with
# the newest of everything. UPPER_NN may also be a local file.
UPPER_31 = https://releases.openstack.org/constraints/upper/2025.1
UPPER_32 = https://releases.openstack.org/constraints/upper/2025.2
UPPER_33 = https://releases.openstack.org/constraints/upper/2026.1
UPPER_34 = constraints/upper-34.txt
PLACEMENT_31 = 13
PLACEMENT_32 = 14
PLACEMENT_33 = 15
PLACEMENT_34 = 16
# Linters and documentation are built once, beside the newest Nova.
TOOLS_$(NEWEST) = tox tox-uv -r lint-requirements.txt -r doc/requirements.txt

constraints-cloud:
	rm -rf .venvs/constraints-cloud
	$(PYTHON) -m venv .venvs/constraints-cloud
	.venvs/constraints-cloud/bin/pip install --quiet --disable-pip-version-check \
	    -c constraints/nova-$(NEWEST).txt -r cloud-requirements.txt \
	    "$(CLOUD_EXTRAS)"
	( echo "# Versions of the services that \"make cloud\" runs, beside Nova $(NEWEST)."; \
	  echo "# Made by \"make constraints-cloud\"; see CONTRIBUTING.rst."; \
	  .venvs/constraints-cloud/bin/pip freeze --disable-pip-version-check \
	    --exclude nova-gpu-filter \
	) > constraints/cloud.txt
	rm -rf .venvs/constraints-cloud

constraints-31 constraints-32 constraints-33 constraints-34: constraints-%:
	rm -rf .venvs/constraints-$*
	$(PYTHON) -m venv .venvs/constraints-$*
	.venvs/constraints-$*/bin/pip install --quiet --disable-pip-version-check \
	    -c $(UPPER_$*) "nova==$*.*" "openstack-placement==$(PLACEMENT_$*).*" \
	    -r test-requirements.txt "$(EXTRAS)" $(TOOLS_$*)
	( echo "# Versions that are tested together with Nova $* and Placement $(PLACEMENT_$*)."; \
	  echo "# Made by \"make constraints-$*\"; see CONTRIBUTING.rst."; \
	  .venvs/constraints-$*/bin/pip freeze --disable-pip-version-check \
	    --exclude nova-gpu-filter \
	) > constraints/nova-$*.txt
	rm -rf .venvs/constraints-$*
