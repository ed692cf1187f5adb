# Everything a person does with this project. `make` alone lists the targets; only `setup` needs the network.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PYTHON ?= python3
RUN_STAMP := $(VENV)/.installed-run
DEV_STAMP := $(VENV)/.installed-dev
DEPLOY_VENV := .venv-deploy
DEPLOY_STAMP := $(DEPLOY_VENV)/.installed
PACKAGES := sickbay jobapi worker controlplane sickbay_cli
# Each process of the tests has its own corner of the servers, and waits half of its time: three more than there are cores. Worksteal evens out long tests.
PARALLEL ?= -n $(shell expr $$(nproc) + 3) --maxprocesses 6 --dist worksteal
# Of what runs inside the processes of the tests, not of the product's own. Measuring takes half as long again, so `make test` does not.
MIN_COVERAGE ?= 93
TESTS = $(BIN)/python scripts/promtool.py $(BIN)/python scripts/with_servers.py $(BIN)/python scripts/run_tests.py $(PARALLEL)
PROTOS = $(shell find proto/sickbay -name '*.proto' | sort)

.PHONY: help setup run test coverage test-unit test-embedded test-rabbit-matrix test-image test-compose check-deploy test-deploy test-workflows chaos image lint typecheck gen monitoring bench clean lock

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(DEV_STAMP) ## Install everything for running, testing and developing into .venv

run: $(RUN_STAMP) ## Run the whole system, embedded: Job API, worker and control plane (options: ARGS="--jobapi-port 4000")
	@$(BIN)/sickbay up $(ARGS)

test: $(DEV_STAMP) ## Run all tests, also those against RabbitMQ, Redis and PostgreSQL (used if they listen, else started)
	@$(TESTS) -q $(PYTEST_ARGS)

coverage: $(DEV_STAMP) ## Run all tests, and check how much of the code they run (MIN_COVERAGE=93)
	@$(TESTS) --cov --cov-report= -q $(PYTEST_ARGS)
	$(BIN)/coverage report --fail-under=$(MIN_COVERAGE)

test-embedded: $(DEV_STAMP) ## Run the tests that need no server
	$(BIN)/python -m pytest $(PARALLEL) -m "not servers and not promtool" -q $(PYTEST_ARGS)

test-unit: $(DEV_STAMP) ## Run the tests of pure code and single parts, in a minute or two (PYTEST_ARGS="-k cli")
	$(BIN)/python -m pytest $(PARALLEL) -m "not servers and not promtool" -q tests/unit $(PYTEST_ARGS)

test-rabbit-matrix: $(DEV_STAMP) ## Run the tests that need servers on Debian 13's RabbitMQ 4.0, Redis 8 and PostgreSQL 17 (on Debian 12 as root)
	$(BIN)/python scripts/newer_servers.py $(BIN)/python -m pytest $(PARALLEL) -m servers -q $(PYTEST_ARGS)

image: $(DEV_STAMP) ## Build the image (TAG=sickbay:local) with Docker, or with Podman and Buildah
	@$(BIN)/python -m scripts.engine build $(or $(TAG),sickbay:local)

test-image: $(DEV_STAMP) ## Build the image and run it: every service confined, drained and asked for its health (SICKBAY_IMAGE=... takes a built one)
	@$(BIN)/python scripts/with_servers.py $(BIN)/python -m pytest tests/image/check_image.py -q $(PYTEST_ARGS)

check-deploy: $(DEPLOY_STAMP) # the half of test-deploy that is not in `make test`
	$(DEPLOY_VENV)/bin/python scripts/check_deploy.py

test-deploy: $(DEV_STAMP) check-deploy ## Check what is deployed: Kubernetes (schemas, security, our own rules; no cluster), alerts
	@$(BIN)/python scripts/promtool.py $(BIN)/python -m pytest $(PARALLEL) -m "not servers" -q tests/deploy $(PYTEST_ARGS)

test-compose: $(DEV_STAMP) ## Bring docker-compose.yml up on other ports and drive it: its commands, scaling, and the system tests' scenarios
	$(BIN)/python -m pytest tests/image/check_compose.py -q $(PYTEST_ARGS)
	$(BIN)/python -m pytest tests/system --stack=compose --timeout=600 -q $(PYTEST_ARGS)

test-workflows: $(DEV_STAMP) $(DEPLOY_STAMP) ## Run the last commit's .github/workflows with act, as root, with stand-ins for GitHub, registry and cluster (ARGS="contract cd")
	$(DEPLOY_VENV)/bin/python scripts/run_workflows.py $(ARGS)

chaos: $(DEV_STAMP) ## Break everything at random for about a quarter of an hour (CHAOS_SEED=1 CHAOS_ROUNDS=5 CHAOS_JOBS=20000 CHAOS_OUTAGE_S=60)
	CHAOS_SEED=$${CHAOS_SEED:-$$(date +%s)} CHAOS_ROUNDS=$${CHAOS_ROUNDS:-5} CHAOS_JOBS=$${CHAOS_JOBS:-20000} CHAOS_OUTAGE_S=$${CHAOS_OUTAGE_S:-60} \
	  $(BIN)/python scripts/with_servers.py $(BIN)/python -m pytest -m chaos -s -p no:randomly $(PYTEST_ARGS)

lint: $(DEV_STAMP) ## Check style, imports, the contract, scripts, the image and workflows
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-cache
	$(BIN)/buf lint
	$(BIN)/buf format -d --exit-code
	$(BIN)/shellcheck .ci/run scripts/*.sh deploy/image/*.sh deploy/compose/*.sh
	$(BIN)/hadolint Dockerfile
	$(BIN)/docker-compose --profile monitoring config -q
	$(BIN)/actionlint -shellcheck $(BIN)/shellcheck
	$(BIN)/zizmor --offline --quiet .github

typecheck: $(DEV_STAMP) ## Check types (mypy strict)
	$(BIN)/mypy

gen: $(DEV_STAMP) ## Generate gen/ from proto/ (imported as sickbay.jobs and so on, by the links in sickbay/)
	rm -rf gen && mkdir gen
	$(BIN)/python -m grpc_tools.protoc -Iproto --plugin=protoc-gen-mypy=$(BIN)/protoc-gen-mypy \
	  --plugin=protoc-gen-mypy_grpc=$(BIN)/protoc-gen-mypy_grpc --python_out=gen --grpc_python_out=gen \
	  --mypy_out=quiet:gen --mypy_grpc_out=quiet:gen $(PROTOS)
	find gen/sickbay -mindepth 1 -type d -exec touch {}/__init__.py \;
	@# The comments, of which REST's documentation is made: generated code has none.
	for folder in $(patsubst proto/%/,%,$(sort $(dir $(PROTOS)))); do \
	  $(BIN)/python -m grpc_tools.protoc -Iproto --include_source_info \
	    --descriptor_set_out=gen/$$folder/descriptors.binpb proto/$$folder/*.proto || exit 1; done

monitoring: $(DEV_STAMP) ## Generate what monitoring reads: Grafana's dashboard, and the alert rules for Kubernetes
	$(BIN)/python -m deploy.grafana.dashboard
	$(BIN)/python -m scripts.operator_rules

bench: $(DEV_STAMP) ## Measure the embedded system (about a minute)
	$(BIN)/python benchmarks/embedded.py

lock: $(DEV_STAMP) ## Renew the requirement locks (needs uv and the network)
	scripts/lock.sh

clean: ## Remove everything that was made here, also the data of `make run`
	rm -rf $(VENV) $(DEPLOY_VENV) .sickbay .coverage .coverage.* htmlcov .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(VENV)/bin/python:
	@scripts/venv.sh $(PYTHON) $(VENV)

$(RUN_STAMP): requirements.lock pyproject.toml | $(VENV)/bin/python
	@scripts/install.sh $(VENV) requirements.lock
	@touch $@

$(DEV_STAMP): requirements-dev.lock pyproject.toml | $(VENV)/bin/python
	@scripts/install.sh $(VENV) requirements-dev.lock
	@touch $@ $(RUN_STAMP)

$(DEPLOY_STAMP): requirements-deploy.lock scripts/venv.sh
	@scripts/venv.sh $(PYTHON) $(DEPLOY_VENV)
	@echo "Installing the packages of requirements-deploy.lock (a minute or two, once) ..." >&2
	@# Little of these packages is ever imported, and that is compiled when it is.
	@$(DEPLOY_VENV)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes --no-compile -r requirements-deploy.lock
	@touch $@
