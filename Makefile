# Everything a person or CI runs. `make` alone explains.
.DEFAULT_GOAL := help
SHELL := /bin/bash
UV_VERSION := 0.13.9
UV := $(or $(shell command -v uv 2>/dev/null),.bootstrap/bin/uv)
RUN := $(UV) run --frozen
export UV_LINK_MODE ?= copy
# The certificates that the system trusts count: company networks have their own.
export UV_SYSTEM_CERTS ?= 1
export UV_COMPILE_BYTECODE ?= 1

.PHONY: help
help:  ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 24

.bootstrap/bin/uv:
	@echo "setting up: uv $(UV_VERSION)"
	@python3 -m venv .bootstrap
	@.bootstrap/bin/python -m pip install --quiet --disable-pip-version-check uv==$(UV_VERSION)

ENGINE := hatch_build.py $(wildcard engine/*.go) $(wildcard engine/front/*.go) engine/go.mod engine/go.sum

.venv/.made: pyproject.toml uv.lock $(ENGINE) | $(filter .bootstrap/bin/uv,$(UV))
	@echo "setting up: Python packages and the Helm engine (the first time its compilation takes minutes)"
	@$(UV) sync --frozen --quiet
	@touch .venv/.made

.PHONY: setup
setup: .venv/.made  ## Install what the project needs into .venv

.PHONY: demo
demo: .venv/.made  ## Start everything here and deploy a first release (DEMO_EXIT=1: then stop again)
	@$(RUN) python -m tools.demo $(if $(DEMO_EXIT),--exit,)

.PHONY: console
console: .venv/.made  ## Start the demo's server with sample data, to look at the console
	@$(RUN) python -m tools.console_demo

.PHONY: pictures
pictures: .venv/.made  ## Take the pictures of the console for its page in docs/
	@$(RUN) python -m tools.console_pictures

.PHONY: demo-down
demo-down: .venv/.made  ## Stop what the demo started, the local cluster included
	@$(RUN) python -m tools.demo --down

.PHONY: test
test: .venv/.made  ## Run all tests against a real PostgreSQL, a real Kubernetes and the vendor's SDK
	@$(RUN) python -m tools.browser
	@$(RUN) python -m tools.pgbouncer
	@$(RUN) python -m tools.docker_registry
	@$(RUN) python -m tools.engine test
	@$(RUN) python -m tools.run_tests $(ARGS)

.PHONY: test-unit
test-unit: .venv/.made  ## Run the unit tests: no cluster, no database (ARGS="-k name")
	@$(RUN) pytest tests/unit -n 2 --dist loadfile $(ARGS)

.PHONY: test-repeat
test-repeat: .venv/.made  ## Run all tests N times in two orders (N=10 LOAD=0: busy processes beside them)
	@$(RUN) python -m tools.repeat_tests $(if $(N),--count $(N)) $(if $(LOAD),--load $(LOAD)) $(if $(ARGS),-- $(ARGS))

.PHONY: mutations
mutations: .venv/.made  ## Change N signed requests: none may be accepted (N=1000000)
	@PILOTHOUSE_TEST_MUTATIONS=$(or $(N),1000000) $(RUN) pytest -q -s --timeout 0 tests/hostile/test_signature_mutations.py -k no_changed

.PHONY: fuzz
fuzz: .venv/.made  ## Send N requests that no client would send: none may be answered with 5xx (N=100000)
	@PILOTHOUSE_TEST_REQUESTS=$(or $(N),100000) $(RUN) pytest -q -s --timeout 0 tests/hostile/test_fuzzed_requests.py

.PHONY: archives
archives: .venv/.made  ## Upload N hostile archives: each is stored or refused by name, within its budget (N=2000)
	@PILOTHOUSE_TEST_ARCHIVES=$(or $(N),2000) $(RUN) pytest -q -s --timeout 0 tests/hostile/test_hostile_archives.py

.PHONY: parity
parity: .venv/.made  ## Compare the API with helm on N generated charts (N=30)
	@PILOTHOUSE_TEST_CHARTS=$(or $(N),30) $(RUN) pytest -q -s --timeout 0 tests/parity

.PHONY: wheel-test
wheel-test: .venv/.made  ## Build the wheel, and install it with pip where there is no Go
	@PILOTHOUSE_TEST_WHEEL=1 $(RUN) pytest -q tests/wheel

.PHONY: check
check: .venv/.made  ## Format, lint, spelling, types and import layers
	$(RUN) ruff format --check .
	$(RUN) ruff check .
	git ls-files -z | xargs -0 $(RUN) codespell
	$(RUN) mypy
	$(RUN) lint-imports --no-cache
	$(RUN) python -m tools.engine check
	$(RUN) python -m tools.site --check
	$(RUN) python -m tools.console_texts --check

.PHONY: helm-upgrade
helm-upgrade: .venv/.made  ## Raise Helm in the engine and in the judge, and compare the two (V=v4.3.2 N=30)
	@$(RUN) python -m tools.engine upgrade $(V)
	@$(MAKE) --no-print-directory parity N=$(or $(N),30)

.PHONY: docs
docs: .venv/.made  ## Regenerate the descriptions of both APIs, the reference pages in docs/, and the console's catalogue of texts
	@$(RUN) python -m tools.api_docs
	@$(RUN) python -m tools.compatible_docs
	@$(RUN) python -m tools.settings_docs
	@$(RUN) python -m tools.metrics_docs
	@$(RUN) python -m tools.error_docs
	@$(RUN) python -m tools.log_docs
	@$(RUN) python -m tools.console_texts

.PHONY: site
site: .venv/.made  ## Build the pages as a site into build/site
	@$(RUN) python -m tools.site

.PHONY: dist
dist: .venv/.made  ## Build wheel, source archive, SBOM and SHA256SUMS into dist/
	@$(RUN) python -m tools.dist

.PHONY: release
release: .venv/.made  ## Make the release V=0.2.0: version, changelog, checks, commit, tag, dist; pushes nothing
	@$(RUN) python -m tools.release $(V)

.PHONY: editor
editor: .venv/.made  ## Bundle the console's YAML editor again, with Node.js; the result is committed
	@$(RUN) python -m tools.editor_bundle

.PHONY: changelog
changelog: .venv/.made  ## Show what the next release says: the files of changes/
	@$(RUN) towncrier build --draft

.PHONY: format
format: .venv/.made  ## Format the code and fix what the linter can
	$(RUN) ruff format .
	$(RUN) ruff check --fix .

.PHONY: hooks
hooks: .venv/.made  ## Run the checks before every commit
	$(RUN) pre-commit install

.PHONY: trial
trial: .venv/.made  ## Kill a replica each minute for ten minutes, under load: nothing lost, nothing doubled
	$(RUN) python -m benchmarks.replicas

.PHONY: soak
soak: .venv/.made  ## Lead a steady mixed life for an hour: memory stays flat, no file or connection is left (SECONDS=3600 SAMPLES=FILE)
	$(if $(SECONDS),SOAK_SECONDS=$(SECONDS)) $(if $(SAMPLES),SOAK_SAMPLES=$(SAMPLES)) $(RUN) python -m benchmarks.soak

.PHONY: bench
bench: .venv/.made  ## Measure against the helm command on the local cluster
	$(RUN) python -m benchmarks.run

.PHONY: crash
crash: .venv/.made  ## Kill everything everywhere, N times (N=100 LANES=3 KILLING=0.5 SEED=… ACTIONS=a,b OUT=FILE SUM=FILE, or CASE="…" again)
	@$(RUN) python -m tests.crash.run $(if $(N),--count $(N)) $(if $(SEED),--seed $(SEED)) \
		$(if $(LANES),--lanes $(LANES)) $(if $(KILLING),--killing $(KILLING)) \
		$(if $(ACTIONS),--actions $(ACTIONS)) $(if $(OUT),--out $(OUT)) \
		$(if $(SUM),--sum $(SUM)) $(if $(CASE),--case "$(CASE)")

.PHONY: cluster-up
cluster-up: .venv/.made  ## Start the local Kubernetes
	@$(RUN) python -m tools.localcluster up

.PHONY: cluster-down
cluster-down: .venv/.made  ## Stop the local Kubernetes
	@$(RUN) python -m tools.localcluster down
