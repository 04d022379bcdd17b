# Needs make and Python 3.11 or newer; choose another interpreter with `make run PYTHON=/path/to/python3.13`.
# `make help` lists the targets: a target's help is what follows `##` on its line.

CONFIG ?= config.example.yaml
ADMIN ?= $(if $(filter config.example.yaml,$(CONFIG)),127.0.0.1:7414)
TESTS ?=
JOBS ?= $(if $(TESTS),0,$(if $(filter 0,$(shell id -u)),3,0))
QUICK = tests/core tests/config tests/telemetry tests/test_house.py
SECONDS ?= 1800
FUZZ_SECONDS ?= 60
FUZZ_WITHIN ?=
SEED ?=
COUNT ?= 1000
SCENARIO ?=
UPGRADE ?=
VENV ?= .venv
UV ?= $(firstword $(wildcard $(VENV)/bin/uv) uv)

py := $(VENV)/bin/python
pip := $(py) -m pip -qq --disable-pip-version-check install --require-hashes
compile := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate $(UPGRADE) --custom-compile-command 'make lock'

.DELETE_ON_ERROR:
.PHONY: help run demo test quick test-unprivileged check bench soak trust fuzz faults differ packets environment fix docs pyz deb sbom lock clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: $(VENV)/.runtime ## start the proxy with CONFIG=config.example.yaml
	@sed -n 's/^#.* \(curl .*\)/To try it: \1/p' $(CONFIG)
	@$(if $(ADMIN),echo 'To watch it: http://$(ADMIN)/')
	@exec $(py) -m proxy run $(CONFIG) $(if $(ADMIN),--admin $(ADMIN))

demo: $(VENV)/.runtime ## try it without the Internet: a proxy here, a web site at the end of a slow line in this machine
	@exec $(py) -m proxy demo --serve

test: $(VENV)/.dev ## run every test in JOBS=3 processes, or TESTS=tests/core in one
	@$(if $(TESTS),,echo "Every test, in $(JOBS) processes: about a quarter of an hour on two quiet cores.")
	@$(py) -m pytest -n $(JOBS) --no-loadscope-reorder $(TESTS)

test-unprivileged: $(VENV)/.dev ## run the tests as nobody; what needs a privilege is skipped
	@CI= unshare --user --map-user=65534 --map-group=65534 $(py) -m pytest -p no:cacheprovider $(TESTS)

check: $(VENV)/.dev ## run every quality gate
	@failed=; gate() { echo "== $$*"; "$(VENV)/bin/$$@" || failed="$$failed '$$*'"; }; \
	gate ruff check .; \
	gate ruff format --check .; \
	gate mypy; \
	gate pyright; \
	gate lint-imports --no-logo; \
	if [ -n "$$failed" ]; then echo "make check: refused by$$failed" >&2; exit 1; fi; \
	echo "make check: every gate passed"

quick: $(VENV)/.dev ## the gates and every test that needs no network, side by side: under a minute
	@$(MAKE) --no-print-directory -j2 --output-sync=target check test TESTS="-q -p no:cacheprovider $(QUICK)"

fix: $(VENV)/.dev ## let ruff correct what it can
	@$(py) -m ruff check --fix --quiet . || true
	@$(py) -m ruff format --quiet .
	@$(py) -m ruff check .

docs: $(VENV)/.dev ## write the generated pages of docs/ again
	@for page in configuration metrics admin commands manpages; do $(py) -m docs.write_$$page || exit 1; done; $(py) -m docs.draw_fastopen

bench: $(VENV)/.dev ## measure it beside HAProxy, nginx and pproxy
	@$(py) -m bench

sbom: $(VENV)/.runtime ## list what is installed, with licences: dist/sbom.cdx.json, dist/licences.txt
	@$(py) tools/sbom.py dist

pyz: $(VENV)/.dev ## make the whole program one file: dist/tfo-proxy.pyz
	@tools/make-pyz dist/tfo-proxy.pyz

deb: $(VENV)/.dev ## make a Debian package for this machine's Debian: dist/tfo-proxy_VERSION_ARCH.deb
	@tools/make-deb dist

trust: $(VENV)/.dev ## 500 connections a second with reloads, upgrades, killed workers; 200,000 sessions (10 minutes)
	@THOROUGH=1 $(py) -m pytest -s tests/trust/test_no_connection_lost.py tests/trust/test_short_sessions.py

soak: $(VENV)/.dev ## all kinds of clients while everything is disturbed, for SECONDS=1800
	@$(py) -m bench soak --seconds $(SECONDS)

fuzz: $(VENV)/.dev ## fuzz every parser for FUZZ_SECONDS=60 of processor time
	@$(py) -m tests.fuzz --seconds $(FUZZ_SECONDS) $(if $(FUZZ_WITHIN),--within $(FUZZ_WITHIN))

faults: $(VENV)/.dev ## let each system call fail and cancel each step of a session, once each
	@$(py) -m tests.faults

packets: $(VENV)/.dev ## SESSIONS=1000 over every kind of path, each log line held against its packets; SEED=… repeats
	@$(py) -m tests.wire.log_law --sessions $(or $(SESSIONS),1000) $(if $(SEED),--seed $(SEED))

differ: $(VENV)/.dev ## the same COUNT=1000 scenarios through ours, plainly and through others; SEED=… repeats, SCENARIO="way=…" runs one
	@$(py) -m tests.differ --count $(COUNT) $(if $(SEED),--seed $(SEED)) $(if $(SCENARIO),--scenario '$(SCENARIO)')

environment: $(VENV)/.dev

lock: ## lock the dependencies again; UPGRADE=--upgrade takes their newest versions (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: $(py) -m pip install uv" >&2; exit 1; }
	$(compile) pyproject.toml --output-file requirements.lock
	$(compile) --group build --output-file requirements-build.lock
	$(compile) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean: ## remove everything made here, .venv too
	rm -rf $(VENV) build dist bench/out .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamps say which lock file was installed last; a second `make run` has nothing to do.
$(VENV)/.runtime: requirements.lock | $(VENV)/bin/pip
	@echo "Installing what the proxy needs into $(VENV) ..."
	@$(pip) -r requirements.lock
	@touch $@

$(VENV)/.dev: requirements-dev.lock | $(VENV)/bin/pip
	@echo "Installing what the tests and gates need into $(VENV) ..."
	@$(pip) -r requirements-dev.lock
	@touch $@ $(VENV)/.runtime

# pip is the last thing `python -m venv` makes, so that a half-made environment is made again.
$(VENV)/bin/pip:
	@PYTHON='$(PYTHON)' tools/make-venv $(VENV)
