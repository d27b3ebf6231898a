# The two commands of the README are `make demo` and `make test`.
# Everything goes into .venv; nothing outside this folder is touched.

VENV := .venv
BIN := $(VENV)/bin

# The first Python of 3.11 or later; `make demo PYTHON=/path/to/python3` names another.
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
  if $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$p; break; fi; done)

DEMO := svc/nginx --port 30000 --dump examples/nginx-nodeport --via k8s-node1

.PHONY: help demo test lint check lab e2e fuzz fuzz-nft fuzz-paths fuzz-ipvs mutate bench docs manifests clean

help:
	@echo 'make demo    trace svc/nginx --port 30000 on a recorded cluster and show the answer'
	@echo 'make test    run the tests'
	@echo 'make check   ruff, mypy and the tests'
	@echo 'make lab     the tests that need root and network namespaces; none is skipped'
	@echo 'make e2e     a real etcd, kube-apiserver and kube-proxy in every mode over network namespaces (root; builds them once with go)'
	@echo 'make fuzz    N=2000 random rulesets and packets against the kernel (root); SEED=1, LAYOUTS=100 for routing'
	@echo 'make fuzz-nft  N=2000 the same with native nftables rulesets, a quarter of them between iptables rules of both backends'
	@echo 'make fuzz-paths  N=2000 real connections, there and back, in random clusters (root); SEED=1'
	@echo 'make fuzz-ipvs  N=500 random IPVS setups and connections in user-mode Linux'
	@echo 'make mutate  N=2000 damaged dumps through the whole pipeline'
	@echo 'make bench   time and memory on large dumps'
	@echo 'make docs    write docs/findings.md again from the findings themselves'
	@echo 'make clean   remove what these commands made'

# Status 1 is an answer too: something is not delivered, or a finding is an error. A program that broke off ends with 1
# as well, but then there is no document.
demo: $(VENV)/.installed
	@echo '$$ netk8s trace $(DEMO)'
	@$(BIN)/netk8s trace $(DEMO) || { [ $$? -eq 1 ] && $(BIN)/netk8s trace $(DEMO) -o json 2>/dev/null | grep -q outcomes; }

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest $(PYTEST_ARGS)

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

check: lint test

lab: $(VENV)/.installed-dev
	NETK8S_REQUIRE_LAB=1 $(BIN)/python -m pytest -m lab tests/lab $(PYTEST_ARGS)

# The first run builds the three programs (about 15 minutes on two cores); NETK8S_E2E_CACHE says where they are kept.
# IPVS mode runs in user-mode Linux (Debian: user-mode-linux kmod ipvsadm ipset) and takes four to eight minutes of the twenty.
e2e: $(VENV)/.installed-dev
	$(BIN)/python tests/e2e/build.py
	NETK8S_E2E=1 $(BIN)/python -m pytest tests/e2e $(PYTEST_ARGS)

# Both ask this machine's kernel, in network namespaces of their own; the machine's own network is not touched.
N ?= 2000
SEED ?= 1
LAYOUTS ?= 100
fuzz: $(VENV)/.installed-dev
	PYTHONPATH=tests $(BIN)/python -m lab.differential --pairs $(N) --seed $(SEED) $(FUZZ_ARGS)
	PYTHONPATH=tests $(BIN)/python -m lab.differential --layouts $(LAYOUTS) --seed $(SEED) $(FUZZ_ARGS)

fuzz-nft: $(VENV)/.installed-dev
	PYTHONPATH=tests $(BIN)/python -m lab.nft_differential --pairs $(N) --seed $(SEED) $(FUZZ_ARGS)
	PYTHONPATH=tests $(BIN)/python -m lab.nft_differential --mixed --pairs $$(($(N) / 4)) --seed $(SEED) $(FUZZ_ARGS)

fuzz-paths: $(VENV)/.installed-dev
	PYTHONPATH=tests $(BIN)/python -m lab.connections --connections $(N) --seed $(SEED) $(FUZZ_ARGS)

# A kernel of its own, as a process: this machine's may have no IPVS.
fuzz-ipvs: N = 500
fuzz-ipvs: $(VENV)/.installed-dev
	PYTHONPATH=tests $(BIN)/python -m lab.ipvs_differential --cases $(N) --seed $(SEED) $(FUZZ_ARGS)

# Damaged copies of recorded clusters through the whole pipeline: only errors with a message may come of them.
mutate: $(VENV)/.installed-dev
	$(BIN)/python tests/fuzz/mutate.py --count $(N)

bench: $(VENV)/.installed
	$(BIN)/python bench/run.py

# What `netk8s install` prints, from daemonset/ (needs kubectl).
manifests:
	for o in daemonset/overlays/*/; do kubectl kustomize $$o > src/netk8s/manifests/$$(basename $$o).yaml; done

docs: $(VENV)/.installed
	$(BIN)/python docs/generate_findings.py

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis bench/data dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@[ -n "$(PYTHON)" ] || { echo 'netk8s needs Python 3.11 or later and found none; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || { echo '$(PYTHON) cannot make an environment: install its venv package (Debian, Ubuntu: apt install python3-venv)' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Installed from this folder as it stands (-e), so an edit needs no second install; pyproject.toml alone does.
$(VENV)/.installed: pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	@$(BIN)/python -m compileall -q src
	@touch $@

# The probes are a part of their own, with scapy: the tests run them, netk8s itself never needs them.
$(VENV)/.installed-dev: pyproject.toml probes/pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]' -e ./probes
	@$(BIN)/python -m compileall -q src
	@touch $@ $(VENV)/.installed
