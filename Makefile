# Everything lives in .venv; a stamp in it says what is installed already, so a second call starts at once.

PYTHON ?= python3
BIN := .venv/bin
CODE := $(wildcard bridge tests benchmarks tools)
# On a terminal pip shows its progress; a log gets what went wrong alone.
PIP := $(BIN)/python -m pip $(shell [ -t 2 ] || echo -qq) --disable-pip-version-check

# What is installed here is what locks/ names, to the hash; the package itself keeps ranges.
LOCKED = $(PIP) install --require-hashes --requirement locks/$(1).txt && \
	$(PIP) install --no-deps --no-build-isolation --editable .
LOCK = .venv/lock/bin/pip-compile --quiet --no-header --no-annotate --no-emit-options --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links --generate-hashes --allow-unsafe --strip-extras \
	--build-deps-for editable $(ARGS)

# Tests of what has no network, no process and no event loop, and of the house's own rules.
PURE := $(wildcard tests/wire tests/media tests/test_*_table.py) tests/test_config.py tests/test_editor_rules.py \
	tests/test_house_rules.py tests/test_layers.py tests/test_locks.py

# Several processes run the tests, a file in one of them, the longest files first; browsers and networks share one
# (tests/conftest.py). What is fast waits more than it computes, so that more processes are of use.
PROCESSES = 3
PARALLEL = $(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder

# Real calls are held to real time, and a machine that is busy with something else fails them: what failed has one more
# chance, with the machine for itself.
AGAIN := $(BIN)/pytest --last-failed --last-failed-no-failures none

# What neither takes seconds nor needs more than Python and its packages.
FAST := not alone and not browser and not slow and not foreign

# The same tests of the compiled form: its folder comes before the checkout's own modules.
IN_C := PYTHONSAFEPATH=1 PYTHONPATH=build/compiled/site:.
OF_C := -o "pythonpath=build/compiled/site ." -m "$(FAST)"
COMPILED_TESTS := tests/test_compiled.py tests/media tests/session tests/webrtc tests/wire \
	tests/end_to_end/test_websocket.py tests/end_to_end/test_call.py

# Compiled bytecode is kept: hundreds of processes that the tests start import the same modules.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
# What nobody here wrote: Firefox, GStreamer's webrtcbin (system's Python), a TURN server, proxies, Prometheus, Redis, systemd's
# tools, what gives the peers a network and a loudspeaker of their own, and authorities that they trust; and what the Go
# baseline of the benchmark of sessions is built from.
FOREIGN := firefox-esr pulseaudio iproute2 nftables libnss3-tools coturn nginx caddy socat prometheus redis-server systemd python3-gi \
	gir1.2-gstreamer-1.0 gir1.2-gst-plugins-base-1.0 gir1.2-gst-plugins-bad-1.0 gstreamer1.0-nice \
	gstreamer1.0-plugins-base gstreamer1.0-plugins-good gstreamer1.0-plugins-bad curl \
	golang-go golang-github-pion-webrtc.v3-dev golang-github-gorilla-websocket-dev libopus-dev pkg-config

# Each has a Python of its own, made from tests/frameworks/requirements/.
FRAMEWORKS := ag2 litellm pipecat semantic_kernel

.PHONY: help run install quick check test compiled nightly frameworks soak lint lock audit docs reference dist chromium node foreign clean

help: ## show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## /{printf "make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

run: .venv/speaking ## install what is needed, and serve with the embedded engine (ARGS="--port 9000 ...")
	@exec $(BIN)/bridge serve $(ARGS)

install: .venv/installed ## install the package without the engine's models, into .venv

quick: .venv/testable ## the pure tests, after each change: half a minute
	HYPOTHESIS_PROFILE=quick $(PARALLEL) -m "not slow and not long and not alone" $(PURE)

check: PROCESSES = 5
check: .venv/testable lint ## format, lint, types and what is neither slow nor foreign: before each commit
	HYPOTHESIS_PROFILE=check $(PARALLEL) --one-loop -m "$(FAST)" || $(AGAIN)

test: .venv/testable .venv/frameworks/agents/installed .venv/frameworks/deploy/installed chromium node foreign lint ## everything that CI runs
	$(PARALLEL) -m "not alone and not frameworks" || $(AGAIN)
	$(BIN)/pytest -m alone || $(AGAIN)
	@$(MAKE) --no-print-directory compiled

nightly: .venv/testable ## 20,000 generated cases for each parser, and a million guided by coverage; an hour or two
	HYPOTHESIS_PROFILE=nightly $(BIN)/pytest -m hypothesis
	$(BIN)/python -m tests.fuzz all --runs 1000000 --seed $$(date +%s)

frameworks: .venv/testable $(FRAMEWORKS:%=.venv/frameworks/%/installed) node ## more frameworks for agents; 2 GB, minutes
	$(BIN)/pytest -m frameworks || $(AGAIN)

soak: .venv/testable ## 20 calls for an hour: nothing may grow (ARGS="--minutes 10 ...")
	$(BIN)/python -m benchmarks soak --json benchmarks/soak.json $(ARGS)

audit: .venv/speaking .venv/audit/bin/pip-audit ## check the installed packages for known advisories (needs the network)
	$(BIN)/python -m pip freeze --exclude-editable >.venv/audit/installed.txt
	.venv/audit/bin/pip-audit --strict --no-deps --disable-pip --requirement .venv/audit/installed.txt

lock: .venv/lock/bin/pip-compile ## renew locks/ after dependencies have changed (ARGS=--upgrade: the newest versions)
	@mkdir -p locks
	$(LOCK) --output-file locks/install.txt pyproject.toml
	$(LOCK) --extra local --constraint locks/install.txt --output-file locks/local.txt pyproject.toml
	$(LOCK) --extra test --constraint locks/local.txt --output-file locks/test.txt pyproject.toml

dist: .venv/testable ## build the sdist, and from it the wheel, into dist/ (COMPILED=1: with the hot path in C, for this Python)
	HATCH_BUILD_HOOK_ENABLE_CUSTOM=$(COMPILED) $(BIN)/python -m build --no-isolation

compiled: .venv/testable build/compiled/installed ## run the tests that CI runs with the hot path compiled
	$(IN_C) $(PARALLEL) $(OF_C) $(COMPILED_TESTS) || $(IN_C) $(AGAIN) $(OF_C)

docs: .venv/testable ## build the documentation as a site, into build/site; broken links are errors
	$(BIN)/mkdocs build --strict

reference: .venv/testable ## regenerate the reference pages from the code, and the path of a packet from a running bridge
	$(BIN)/python -m tools.reference
	$(BIN)/python -m tools.packet_path

lint: .venv/testable
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy $(CODE)

clean: ## remove .venv and every cache
	rm -rf .venv build dist .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find $(CODE) -name __pycache__ -prune -exec rm -rf {} +

.venv/bin/pip:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || { \
		echo "bridge needs Python 3.11 to 3.13, and $(PYTHON) is not: make PYTHON=python3.13 ..." >&2; exit 1; }
	@$(PYTHON) -m venv .venv

.venv/installed: pyproject.toml locks/install.txt | .venv/bin/pip
	@echo "Installing bridge into .venv; about a minute, this once." >&2
	@$(call LOCKED,install)
	@touch $@

.venv/speaking: pyproject.toml locks/local.txt | .venv/bin/pip
	@echo "Installing bridge and its engine's models into .venv; about two minutes, this once." >&2
	@$(call LOCKED,local)
	@touch $@ .venv/installed

.venv/testable: pyproject.toml locks/test.txt | .venv/bin/pip
	@echo "Installing bridge and its test tools into .venv; about a minute, this once." >&2
	@$(call LOCKED,test)
	@touch $@ .venv/speaking .venv/installed

# Frameworks for agents, and what judges the Helm chart, in a Python of their own: what they pin would rule out what
# others need.
.venv/frameworks/%/installed: tests/frameworks/requirements/%.txt | .venv/bin/pip
	@echo "Installing $* for the tests into .venv/frameworks/$*; up to two minutes, this once." >&2
	@$(PYTHON) -m venv .venv/frameworks/$*
	@.venv/frameworks/$*/bin/python -m pip $(shell [ -t 2 ] || echo -qq) --disable-pip-version-check install -r $<
	@touch $@

# Beside the checkout's own modules, which stay as they are: pure Python.
build/compiled/installed: pyproject.toml tools/compile.py $(shell find bridge -name '*.py') | .venv/testable
	@echo "Compiling the hot path; about a minute." >&2
	@rm -rf build/compiled
	@HATCH_BUILD_HOOK_ENABLE_CUSTOM=1 $(BIN)/python -m build --no-isolation --wheel --outdir build/compiled >/dev/null
	@$(PIP) install --no-deps --no-compile --target build/compiled/site build/compiled/*.whl
	@touch $@

# In places of their own, so that they change nothing of what they look at. The lowest Python makes the locks: what it
# needs, the others can take.
.venv/lock/bin/pip-compile:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' || { \
		echo "Locks are made by Python 3.11, and $(PYTHON) is not: make lock PYTHON=python3.11" >&2; exit 1; }
	@$(PYTHON) -m venv .venv/lock
	@.venv/lock/bin/python -m pip -qq --disable-pip-version-check install 'pip-tools>=7.5,<8'

.venv/audit/bin/pip-audit: | .venv/bin/pip
	@$(PYTHON) -m venv .venv/audit
	@.venv/audit/bin/python -m pip -qq --disable-pip-version-check install 'pip-audit>=2.9,<3'

# The browser tests drive the system's Chromium.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || { \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "The browser tests need Chromium, and only root can install it here: sudo apt-get install chromium" >&2; \
			echo "Everything else runs without it: make check" >&2; \
			exit 1; \
		fi; \
		echo "Installing Chromium for the browser tests." >&2; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium >/dev/null; }

# The tests of the JavaScript SDKs run them in Node; their packages are installed by the tests themselves.
node:
	@command -v npm >/dev/null || { \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "The tests of the JavaScript SDKs need Node.js 20 or newer with npm." >&2; \
			echo "Everything else runs without it: make check" >&2; \
			exit 1; \
		fi; \
		echo "Installing Node.js for the tests of the JavaScript SDKs." >&2; \
		apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends nodejs npm >/dev/null; }

# The foreign peers that come as packages of the system; those that run in Node are installed by the tests themselves.
foreign:
	@missing=$$(for name in $(FOREIGN); do \
		dpkg-query -W -f '$${Status}' $$name 2>/dev/null | grep -q 'ok installed' || echo $$name; done); \
	[ -z "$$missing" ] || { \
		if [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null; then \
			echo "The tests with foreign peers need these: sudo apt-get install" $$missing >&2; \
			echo "Everything else runs without them: make check" >&2; \
			exit 1; \
		fi; \
		echo "Installing foreign peers for the tests:" $$missing >&2; \
		apt-get update -qq && \
			DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $$missing >/dev/null; }
