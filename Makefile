# make run    start the proxy with config.example.yaml      make check   every quality gate
# make test   run every test                                make fix     let ruff mend what it can
# make test-unprivileged  the same as nobody: what needs a privilege says so and is skipped
# make bench  measure it beside its peers                   make lock    lock the dependencies again
# make trust  500 new connections a second with reloads, upgrades and killed workers; 200,000 short sessions: ten quiet minutes
# make soak   all kinds of traffic, disturbed all the time, for SECONDS=1800
# make fuzz   every parser for FUZZ_SECONDS=60 of a processor's time, when nothing else wants it
# make faults sessions to which everything happens that may happen to one: each system call failing, each step the last
# make docs   write the generated pages of docs/ again
# make pyz    the whole program as one file, dist/tfo-proxy.pyz
# make sbom   what is installed, and under which licences: dist/sbom.cdx.json, dist/licences.txt
# make clean  remove everything made here, .venv too       (make lock UPGRADE=--upgrade: to their newest versions)
#
# Needs make and Python 3.11 or newer; choose another interpreter with `make run PYTHON=/path/to/python3.13`.

CONFIG ?= config.example.yaml
ADMIN ?= $(if $(filter config.example.yaml,$(CONFIG)),127.0.0.1:7414)
TESTS ?=
SECONDS ?= 1800
FUZZ_SECONDS ?= 60
FUZZ_WITHIN ?=
UPGRADE ?=
VENV ?= .venv
UV ?= $(firstword $(wildcard $(VENV)/bin/uv) uv)

py := $(VENV)/bin/python
pip := $(py) -m pip -qq --disable-pip-version-check install --require-hashes
compile := $(UV) pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
	--no-annotate $(UPGRADE) --custom-compile-command 'make lock'

.DELETE_ON_ERROR:
.PHONY: run test test-unprivileged check bench soak trust fuzz faults environment fix docs sbom lock clean

run: $(VENV)/.runtime
	@sed -n 's/^#.* \(curl .*\)/To try it: \1/p' $(CONFIG)
	@$(if $(ADMIN),echo 'To watch it: http://$(ADMIN)/')
	@exec $(py) -m proxy run $(CONFIG) $(if $(ADMIN),--admin $(ADMIN))

test: $(VENV)/.dev
	@$(py) -m pytest $(TESTS)

test-unprivileged: $(VENV)/.dev
	@CI= unshare --user --map-user=65534 --map-group=65534 $(py) -m pytest -p no:cacheprovider $(TESTS)

check: $(VENV)/.dev
	@failed=; gate() { echo "== $$*"; "$(VENV)/bin/$$@" || failed="$$failed '$$*'"; }; \
	gate ruff check .; \
	gate ruff format --check .; \
	gate mypy; \
	gate pyright; \
	gate lint-imports --no-logo; \
	if [ -n "$$failed" ]; then echo "make check: refused by$$failed" >&2; exit 1; fi; \
	echo "make check: every gate passed"

fix: $(VENV)/.dev
	@$(py) -m ruff check --fix --quiet . || true
	@$(py) -m ruff format --quiet .
	@$(py) -m ruff check .

docs: $(VENV)/.dev
	@for page in configuration metrics admin commands; do $(py) -m docs.write_$$page || exit 1; done; $(py) -m docs.draw_fastopen

bench: $(VENV)/.dev
	@$(py) -m bench

sbom: $(VENV)/.runtime
	@$(py) tools/sbom.py dist

pyz: $(VENV)/.dev
	@tools/make-pyz dist/tfo-proxy.pyz

trust: $(VENV)/.dev
	@THOROUGH=1 $(py) -m pytest -s tests/trust/test_no_connection_lost.py tests/trust/test_short_sessions.py

soak: $(VENV)/.dev
	@$(py) -m bench soak --seconds $(SECONDS)

fuzz: $(VENV)/.dev
	@$(py) -m tests.fuzz --seconds $(FUZZ_SECONDS) $(if $(FUZZ_WITHIN),--within $(FUZZ_WITHIN))

faults: $(VENV)/.dev
	@$(py) -m tests.faults

environment: $(VENV)/.dev

lock:
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: $(py) -m pip install uv" >&2; exit 1; }
	$(compile) pyproject.toml --output-file requirements.lock
	$(compile) --group build --output-file requirements-build.lock
	$(compile) pyproject.toml --group dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
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
