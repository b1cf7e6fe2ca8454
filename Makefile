# Two commands do all: `make run` executes every notebook and leaves a report, `make test` checks everything.
# Only Python 3.11 or newer is needed. The first call makes .venv and installs into it; after that nothing asks the network.

PROFILE ?= cpu
PYTHON ?= python3
# PyPI's torch for Linux brings gigabytes of CUDA; this index has the same version for the CPU. TORCH_INDEX=https://pypi.org/simple for a GPU.
TORCH_INDEX ?= https://download.pytorch.org/whl/cpu

BIN := .venv/bin
READY := .venv/.ready
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: help run test lint lab notebooks bench clean

help:  ## Say what there is.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /  make \1\t/' | expand -t 18
	@echo "  PROFILE=smoke|cpu|gpu|gpu+smollm2|gpu+miniature chooses how much is trained and where (now: $(PROFILE))."

run: $(READY)  ## Execute all notebooks; the result is runs/PROFILE/report/index.html.
	$(BIN)/python -m r1lib report --profile $(PROFILE)

test: $(READY)  ## Run the tests, which execute the notebooks in profile smoke.
	$(BIN)/python -m pytest

lint: $(READY)  ## Check the style of code and notebooks.
	$(BIN)/ruff check .

lab: $(READY)  ## Open the notebooks in JupyterLab.
	$(BIN)/jupyter lab --LabApp.news_url=None --LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate notebooks/00_start_here.ipynb

notebooks: $(READY)  ## Execute all notebooks in profile cpu and keep their outputs in notebooks/.
	$(BIN)/python -m r1lib report --profile cpu --store

bench: $(READY)  ## Measure our engine beside transformers and TRL on this machine: benchmarks/README.md.
	$(BIN)/python -m benchmarks cpu

clean:  ## Remove .venv, caches and everything in runs/; data, notebooks and their outputs stay.
	rm -rf .venv runs .pytest_cache .ruff_cache .hypothesis *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} + -o -name .ipynb_checkpoints -prune -exec rm -rf {} +

# torch comes first, from its own index; where that index cannot be reached, the second line takes torch from the usual one.
# The .pth file makes r1lib importable in the environment, wherever a notebook or a command is started.
$(READY): requirements.txt
	@$(PYTHON) -c 'import sys; v = sys.version_info; sys.exit(0 if v >= (3, 11) else "r1lib needs Python 3.11 or newer, $(PYTHON) is %d.%d: make PYTHON=python3.11" % v[:2])'
	@echo "Installing requirements.txt into .venv: one to a few minutes, once."
	@$(PYTHON) -m venv .venv
	@$(PIP) --no-deps --retries 1 --timeout 20 --index-url $(TORCH_INDEX) $$(grep '^torch==' requirements.txt) || true
	@$(PIP) -r requirements.txt
	@$(BIN)/python -c 'import os, site; open(os.path.join(site.getsitepackages()[0], "r1lib.pth"), "w").write(os.getcwd() + "\n")'
	@touch $(READY)
