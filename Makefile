# `make` lists the targets. Everything runs from .venv, which `make setup`
# builds and every other target updates if needed.

SHELL := /bin/bash
.DEFAULT_GOAL := help

# Tools are called as `python -m TOOL`: unlike a script's shebang, this still
# works after the folder has been moved.
PYTHON ?= $(shell python3.11 -c 'import sys; print(sys.executable)' 2>/dev/null || command -v python3)
VENV   := .venv
# Each process needs a core and 1 to 2 GB; more than a few help little.
TEST_PROCESSES ?= 2
PY     := $(VENV)/bin/python
STAMP  := $(VENV)/.installed

PACKAGES := config.py wsgi.py webapp worker ml
LINTED   := $(PACKAGES) migrations tests deploy benchmarks
# Only existing folders are checked.
present   = $(wildcard $(1))

.PHONY: help
help: ## Show this list
	@echo "Sulcus. Start here: make run (the product) or make demo (with sample studies)."
	@echo
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Variables: PORT (8000), SULCUS_HOME (var/), PYTHON (for setup),"
	@echo "TEST_PROCESSES and PYTEST_ARGS (for test)."

.PHONY: setup
setup: $(STAMP) ## Build .venv and install everything into it (instant when up to date)

$(STAMP): $(wildcard requirements/*.txt)
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Sulcus needs Python 3.11 or newer; name one with: make setup PYTHON=python3.11" >&2; exit 1; }
	@test -x $(VENV)/bin/pip || "$(PYTHON)" -m venv --clear $(VENV) || \
		{ echo "No virtual environment could be made (on Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@echo "Installing into $(VENV). The first time takes some minutes, most of it torch."
	@$(PY) -m pip install --disable-pip-version-check --requirement requirements/dev.txt --constraint requirements/constraints.txt
	@touch $@

.PHONY: run
run: setup ## Start the product on http://127.0.0.1:$PORT; Ctrl-C ends all of it
	@exec $(PY) deploy/local.py

.PHONY: demo
demo: setup ## The same with a demo account and sample studies, really classified
	@exec $(PY) deploy/local.py --demo

.PHONY: lint
lint: setup ## Check style, formatting, types and who imports whom (ruff, mypy, import-linter)
	$(PY) -m ruff check $(call present,$(LINTED))
	$(PY) -m ruff format --check $(call present,$(LINTED))
	$(PY) -m mypy $(call present,$(PACKAGES))
	$(PY) -c 'import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())'

.PHONY: test
# "--data-root FOLDER" becomes "--data-root=FOLDER": with the blank, pytest would
# look for its settings and options near that folder instead of here.
test: lint ## Lint, then run the tests in TEST_PROCESSES processes; PYTEST_ARGS go to pytest
	$(PY) -m pytest --config-file pyproject.toml --numprocesses $(TEST_PROCESSES) $(subst --data-root ,--data-root=,$(PYTEST_ARGS))

.PHONY: format
format: setup ## Let ruff format and mend what it can
	$(PY) -m ruff check --fix-only $(call present,$(LINTED))
	$(PY) -m ruff format $(call present,$(LINTED))

.PHONY: translations
BABEL := $(PY) -m babel.messages.frontend
TEXTS := webapp/translations/messages.pot
# Update and compile fail without any language, hence the test.
translations: setup ## Collect the texts of webapp/, update and compile (NEW=de adds German)
	@mkdir -p webapp/translations
	$(BABEL) extract --mapping webapp/babel.cfg --keyword lazy_gettext --keyword _l --project Sulcus --sort-by-file --output $(TEXTS) webapp
	$(if $(NEW),$(BABEL) init --input-file $(TEXTS) --output-dir webapp/translations --locale $(NEW))
	@if compgen -G 'webapp/translations/*/LC_MESSAGES/*.po' >/dev/null; then set -x; \
		$(BABEL) update --input-file $(TEXTS) --output-dir webapp/translations --no-fuzzy-matching && \
		$(BABEL) compile --directory webapp/translations --statistics; fi

.PHONY: bench
bench: setup ## Measure the serving engine on this machine
	$(PY) -m ml bench $(BENCH_ARGS)

.PHONY: docs
# The variable suppresses a notice of the theme; --quiet would hide broken links from --strict.
docs: setup ## Build the documents into site/; a broken link fails
	NO_MKDOCS_2_WARNING=1 $(PY) -m mkdocs build --strict

.PHONY: check-deploy
# The secrets for the check are arbitrary but not empty. `config` needs no engine.
check-deploy: export SULCUS_SECRET_KEY = check
check-deploy: export SULCUS_PSEUDONYM_KEY = check
check-deploy: export SULCUS_SNAPSHOT_KEY = check
check-deploy: export POSTGRES_PASSWORD = check
check-deploy: export REDIS_PASSWORD = check
check-deploy: setup ## Check docker-compose.yml, the Dockerfiles and the shell scripts
	$(VENV)/bin/hadolint deploy/web.Dockerfile deploy/worker.Dockerfile
	$(PY) -m check_jsonschema --builtin-schema vendor.compose-spec docker-compose.yml
	@compose=; \
	if docker compose version >/dev/null 2>&1; then compose="docker compose"; \
	elif command -v docker-compose >/dev/null; then compose=docker-compose; fi; \
	if [ -n "$$compose" ]; then echo "$$compose config" && $$compose --env-file .env.example config --quiet; \
	else echo "no compose client here: checked by its schema alone"; fi
	bash -n .ci/run

.PHONY: lock
lock: setup ## Rewrite requirements/constraints.txt from the top-level pins
	$(PY) -m pip install --quiet --dry-run --ignore-installed --report $(VENV)/report.json --requirement requirements/dev.txt
	$(PY) deploy/lock.py $(VENV)/report.json > requirements/constraints.txt

.PHONY: clean
clean: ## Remove .venv and caches; var/ (your data) is never touched
	rm -rf $(VENV) site .mypy_cache .ruff_cache .pytest_cache .hypothesis
	find . -name __pycache__ -type d -not -path './var/*' -prune -exec rm -rf {} +
