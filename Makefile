# The commands of the README: `make demo` and `make test`. Each sets up what it needs; `make` alone lists them all.
SHELL := /bin/bash
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check
FROUROS := build/frouros

.DEFAULT_GOAL := help
.PHONY: help demo demo-kafka test lint types setup soak-simulation bench-throughput bench-detection bench-learning bench-poison bench-recovery chaos chaos-full chaos-short soak lock release clean need-kafka

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: setup ## a year of real flights through the engine, in one process; the report is build/demo/report.html
	@$(BIN)/tidegate demo --out build/demo

demo-kafka: setup need-kafka ## the same on a real Apache Kafka
	@$(BIN)/tidegate demo --kafka --out build/demo-kafka

test: setup need-kafka lint types ## lint, types and all tests, in two processes (JOBS); PYTEST_ARGS="-k join" runs some
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(or $(JOBS),2) --dist loadfile $(PYTEST_ARGS)

lint: setup ## ruff: rules and format
	@$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## mypy, strict
	@$(BIN)/mypy

soak-simulation: setup ## simulated runs with faults for SECONDS (an hour), or RUNS of them, from seed FIRST on
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.simulation --seconds $(or $(SECONDS),3600) --first $(or $(FIRST),200) $(and $(RUNS),--runs $(RUNS))

bench-throughput: setup need-kafka ## a million events: replay and Kafka beside a bare consumer; build/throughput.json
	@$(BIN)/python -m benchmarks.throughput --out build/throughput.json $(BENCH_ARGS)

bench-detection: setup $(FROUROS) ## false alarms and delays beside River, Frouros, KS and PSI; build/detection.json (BENCH_ARGS=--quick)
	@PYTHONPATH=$(FROUROS) OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.detection --out build/detection.json $(BENCH_ARGS)

bench-learning: setup ## accuracy, trials, bandits, attacks, freshness beside single River models; build/learning.json (BENCH_ARGS=--quick)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.learning --out build/learning.json $(BENCH_ARGS)

# Frouros pins a NumPy older than River needs, but works with newer ones: it goes into a folder of its own, unpinned.
$(FROUROS): $(VENV)/installed
	@$(PIP) install --no-deps --target $@ frouros==0.9.0 'tqdm>=4.66'
	@touch $@

setup: $(VENV)/installed ## the development environment in .venv, as locked in requirements-dev.txt

$(VENV)/installed: pyproject.toml requirements-dev.txt
	@command -v $(PYTHON) >/dev/null || { echo "missing: $(PYTHON) (Python 3.11 to 3.13; set PYTHON=...)"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info < (3, 14)))' || { echo "missing: Python 3.11 to 3.13 ($(PYTHON) is $$($(PYTHON) -V 2>&1); set PYTHON=...)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) 2>/dev/null || { rm -rf $(VENV); echo "missing: the venv module (Debian: apt-get install python3-venv)"; exit 1; }
	@echo "setting up $(VENV) (once)"
	@# uv installs in a tenth of pip's time; where it cannot (an index that only pip knows of), pip does.
	@$(PIP) install uv && $(BIN)/uv pip install --quiet --python $(BIN)/python -r requirements-dev.txt 2>/dev/null || $(PIP) install -r requirements-dev.txt
	@$(PIP) install --no-deps --no-build-isolation --editable .
	@touch $@

need-kafka:
	@test -n "$$KAFKA_BOOTSTRAP_SERVERS" || docker info >/dev/null 2>&1 || { \
	  command -v java >/dev/null || { echo "missing: java 17 or later (or a Docker engine, or KAFKA_BOOTSTRAP_SERVERS) to run Apache Kafka"; exit 1; }; \
	  command -v mvn >/dev/null || { echo "missing: mvn (Maven, to fetch Apache Kafka; or a Docker engine, or KAFKA_BOOTSTRAP_SERVERS)"; exit 1; }; }

bench-poison: setup ## what each kind of bad input costs at 1 in 1,000, and all of it; build/poison.json (BENCH_ARGS=--quick)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.poison --out build/poison.json $(BENCH_ARGS)

bench-recovery: setup need-kafka ## a million pending predictions after kill -9 and SIGTERM, on Kafka; build/recovery.json (BENCH_ARGS=--quick)
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m benchmarks.recovery --out build/recovery.json $(BENCH_ARGS)

chaos: setup need-kafka ## 20 kills, 5 zombies, 3 broker kills on a real Apache Kafka, compared with the embedded run; about 20 minutes
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.chaos --kills 20 --zombies 5 --brokers 3 $(CHAOS_ARGS)

chaos-short: setup need-kafka ## the form of it that `make test` has: one fault of each kind, and the judge judged by planted faults; three minutes
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest tests/chaos $(PYTEST_ARGS)

chaos-full: setup need-kafka ## 100 kills, 30 zombies, 20 broker kills over three seeds; hours
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.chaos --kills 100 --zombies 30 --brokers 20 --stops 10 --joins 10 --seed 1 2 3 --workers 2 3 $(CHAOS_ARGS)

soak: setup need-kafka ## an hour on a real Apache Kafka, a fault every minute: the memory of a worker that is spared; build/soak.json
	@OPENBLAS_NUM_THREADS=1 $(BIN)/python -m tests.chaos.soak $(SOAK_ARGS)

lock: setup ## requirements-dev.txt anew from pyproject.toml
	@$(PIP) install uv
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --no-header --no-annotate --no-emit-index-url --extra dev --no-emit-package tidegate -o requirements-dev.txt pyproject.toml

release: setup ## the package, an audit of its dependencies and a bill of materials (CycloneDX); build/release/
	@rm -rf build/release && mkdir -p build/release
	@test -x build/audit/bin/pip-audit || { $(PYTHON) -m venv build/audit && build/audit/bin/python -m pip --quiet --disable-pip-version-check install 'pip-audit>=2.9,<3' 'cyclonedx-bom>=7,<8'; }
	@$(PIP) wheel --no-deps --no-build-isolation --wheel-dir build/release .
	@build/audit/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible --of JSON -o build/release/sbom.json $(BIN)/python
	@build/audit/bin/pip-audit --strict --progress-spinner off --no-deps --disable-pip --requirement requirements-dev.txt

clean: ## remove everything that make has built
	rm -rf build $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis tidegate.egg-info
