# Two commands: `make demo` shows Vitrine, `make test` proves it. `make help` lists the others.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
BIN := $(VENV)/bin
PORT ?= 8000

export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test test-postgres lint torture format screens vendor clean
.DEFAULT_GOAL := help

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 18

demo: $(VENV)/run-installed ## a catalogue on http://127.0.0.1:8000; CSV= IMAGES= for your own, MODEL=, PORT=
	@DJANGO_DEBUG="$${DJANGO_DEBUG:-1}" $(BIN)/python manage.py demo --port "$(PORT)" \
		$(if $(CSV),--csv "$(CSV)") $(if $(IMAGES),--images "$(IMAGES)") $(if $(MODEL),--model "$(MODEL)")

test: lint ## the checks of `make lint`, then every test
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-postgres: $(VENV)/engines-installed ## every test on a real PostgreSQL with pgvector; Milvus and Ray too
	$(BIN)/python -m tests.postgres $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

lint: $(VENV)/dev-installed ## style, types, the arrows between the packages, migrations, requirements, security
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/lint-imports
	$(BIN)/python manage.py makemigrations --check --dry-run
	$(BIN)/pip check
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive catalog similarity config manage.py gunicorn.conf.py
	$(BIN)/python .ci/audit.py

torture: $(VENV)/engines-installed ## hostile input, faults and load, all of it; takes most of an hour (docs/reliability.md)
	$(BIN)/python -m bench.torture all

format: $(VENV)/dev-installed ## write the style that `make lint` checks
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

screens: $(VENV)/dev-installed ## screenshots of every page type of the demo, into docs/screens/
	$(BIN)/python docs/take_screens.py

vendor: ## fetch the pinned files of others (package.json) anew; needs npm
	$(PYTHON) docs/fetch_vendored.py

clean: ## remove the environment and caches; your data in var/ stays
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Vitrine needs Python 3.11 or newer; name it: make PYTHON=/path/to/python3.11 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/run-installed: requirements.txt | $(BIN)/python
	@echo "Installing the pinned requirements (some minutes, once)…"
	@$(BIN)/python -m pip install --quiet -r requirements.txt
	@touch $@

$(VENV)/dev-installed: requirements.txt requirements-dev.txt | $(BIN)/python
	@echo "Installing the pinned requirements and those of the tests (some minutes, once)…"
	@$(BIN)/python -m pip install --quiet -r requirements-dev.txt
	@touch $@ $(VENV)/run-installed

$(VENV)/engines-installed: requirements-postgres.txt requirements-milvus.txt requirements-ray.txt $(VENV)/dev-installed
	@$(BIN)/python -m pip install --quiet -r requirements-postgres.txt -r requirements-milvus.txt -r requirements-ray.txt
	@touch $@
