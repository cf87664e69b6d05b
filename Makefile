# A machine with Python 3.11 or newer and make is enough: everything else is installed into .venv, once per change of
# pyproject.toml. Settings from outside: ARGS (passed on), JOBS (processes that share Python's tests; 0 for none but the
# one), PYTHON and CHROMIUM (executables), CI=true (a missing Node or Chromium is a failure, not a skip).

VENV := .venv
BIN := $(VENV)/bin
TYPESCRIPT := 5.9.3
JS := $(VENV)/js/typescript-$(TYPESCRIPT)
TSC := $(JS)/node_modules/.bin/tsc
JOBS ?= 2
JS_TESTS = $(shell find tests/js -name '*.test.js' -o -name '*.test.mjs')

# Says why a step is skipped; under CI=true that is a failure.
SKIP = skip() { echo "$$1"; [ "$$CI" != true ]; }; skip

.DEFAULT_GOAL := help
.NOTPARALLEL:
.SUFFIXES:
.DELETE_ON_ERROR:

.PHONY: help
help: ## list these targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

.PHONY: serve
serve: $(VENV)/for-serve ## start on 127.0.0.1:8700 with SQLite and the demo agent (ARGS="--port 9000")
	@exec $(BIN)/sightline serve $(ARGS)

.PHONY: test test-python test-js
test: test-python test-js ## run every test

test-python: $(VENV)/for-test ## run Python's tests, the browser's among them (ARGS="-k fold")
	@CHROMIUM=$$(sh .ci/find-chromium) && export CHROMIUM && exec $(BIN)/pytest -n $(JOBS) --dist worksteal $(ARGS)

test-js: ## run JavaScript's tests
	@if [ -z "$(JS_TESTS)" ]; then echo "tests/js holds no tests"; exit 1; \
	elif command -v node >/dev/null; then exec node --test --test-reporter=spec $(JS_TESTS); \
	else $(SKIP) "JavaScript's tests are skipped: no node found"; fi

.PHONY: sim
sim: $(VENV)/for-test ## let seeded worlds happen in which much goes wrong (ARGS="--seeds 0..200000 --jobs 2")
	@exec $(BIN)/python -m tests.sim $(ARGS)

.PHONY: chaos
chaos: $(VENV)/for-test ## kill a server under load 200 times (ARGS="--kills 1000")
	@exec $(BIN)/pytest tests/chaos/test_kills.py -s --kills 200 $(ARGS)

.PHONY: kills
kills: $(VENV)/for-test ## kill turns of both kinds of agents 100 times, and 300 processes (ARGS="--turn-kills 1000")
	@exec $(BIN)/pytest tests/chaos/test_turn_kills.py tests/chaos/test_standard_agent.py \
	  tests/chaos/test_process_kills.py -s --turn-kills 100 --processes 100 $(ARGS)

.PHONY: cuts
cuts: $(VENV)/for-test ## cut streams 5,000 times, at random bytes of every transport (ARGS="--cuts 50000")
	@exec $(BIN)/pytest tests/gateway/stream/test_cuts.py -s --cuts 5000 $(ARGS)

.PHONY: slow
slow: $(VENV)/for-test ## let 1 GB go past 100 observers that do not read (ARGS="--megabytes 5000")
	@exec $(BIN)/pytest tests/soak/test_slow_observers.py -s --stalled 100 --megabytes 1000 $(ARGS)

.PHONY: soak
soak: $(VENV)/for-test ## half an hour of 2,000 observers that come and go (ARGS="--minutes 5 --observers 500")
	@exec $(BIN)/python -m tests.soak $(ARGS)

.PHONY: bench
bench: $(VENV)/for-test ## measure how fast it is, beside others (ARGS="--short --only turns")
	@exec $(BIN)/python -m tests.bench $(ARGS)

.PHONY: autobahn
autobahn: $(VENV)/for-test ## let Autobahn's fuzzing client loose on our WebSockets (ARGS="--messages 100")
	@exec $(BIN)/python -m tests.autobahn $(ARGS)

.PHONY: check check-style check-types check-imports check-js
check: check-style check-types check-imports check-js ## lint, formatting, types, import directions

check-style: $(VENV)/for-check
	@$(BIN)/ruff check --quiet
	@$(BIN)/ruff format --quiet --check || { echo "make format puts this right"; exit 1; }
	@echo "ruff: clean"

check-types: $(VENV)/for-check
	@$(BIN)/mypy

check-imports: $(VENV)/for-check
	@report=$$($(BIN)/lint-imports --no-logo 2>&1) && echo "import-linter: clean" || { echo "$$report"; exit 1; }

check-js:
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory $(TSC) && $(TSC) --project web/jsconfig.json && echo "tsc: clean"; \
	else $(SKIP) "JavaScript's type check is skipped: no npm found"; fi

.PHONY: format
format: $(VENV)/for-check ## put Python's formatting and import order right
	@$(BIN)/ruff check --quiet --select I --fix
	@$(BIN)/ruff format

.PHONY: docs
docs: $(VENV)/for-serve ## write the pages that are generated
	@$(BIN)/python -c 'from sightline_gateway.settings import reference_markdown as page; print(page().strip())' > $(VENV)/page
	@mkdir -p docs && mv $(VENV)/page docs/settings.md
	@$(BIN)/python docs/draw_turn_machine.py > $(VENV)/page && mv $(VENV)/page docs/turn-machine.md

.PHONY: clean
clean: ## remove what was built or installed; .sightline, the data, stays
	@rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	@rm -rf $(addprefix .bench/,autobahn c debian npm venvs)
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

# What a target needs is installed when its stamp is older than pyproject.toml. An installation for `check` serves all three.
$(VENV)/for-serve $(VENV)/for-test $(VENV)/for-check: $(VENV)/for-%: pyproject.toml $(BIN)/pip
	@echo "installing Sightline into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-input --editable '.$(EXTRAS_$*)'
	@touch $(addprefix $(VENV)/for-,$(SERVES_$*))

EXTRAS_serve =
SERVES_serve = serve
EXTRAS_test = [test]
SERVES_test = serve test
EXTRAS_check = [test,check]
SERVES_check = serve test check

# pip is what venv installs last: where it is missing, the folder is a torso and is built anew.
$(BIN)/pip:
	@python=$$(sh .ci/find-python) && echo "creating $(VENV) with $$python" && "$$python" -m venv --clear $(VENV)

$(TSC):
	@echo "installing TypeScript $(TYPESCRIPT) into $(JS)"
	@npm install --prefix $(JS) --silent --no-save --no-audit --no-fund --ignore-scripts typescript@$(TYPESCRIPT) </dev/null
