# Everything runs from .venv in this folder; 'make setup' makes it, and is quick once it is there.
PYTHON ?= python3
# Without a GPU, PyPI's torch brings 3 GB of CUDA along: make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO := demo_out
# The suite runs in two processes; one thread each keeps them from fighting over the cores.
TEST_ENV := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1
TEST_ARGS ?= -n 2

.PHONY: help setup demo test check bench tune-bench docs calibrate-noises bench-noise calibrate-trust bench-saliency evidence evidence-fpl evidence-model evidence-inverse evidence-local-mean evidence-other evidence-range evidence-training clean

help:
	@echo "make setup   install medfpl and its development tools into .venv"
	@echo "make demo    denoise sample images into $(DEMO)/"
	@echo "make test    run the tests"
	@echo "make check   lint, format, types, import directions: what CI checks besides the tests"
	@echo "make bench   measure start-up and the speed of every method"
	@echo "make bench-train  time a training step: with the loss, without it, and a textbook version"
	@echo "make docs    write the pages that are made from the code"
	@echo "make tune-bench STORE=FOLDER   choose the settings that 'medfpl bench' gives each method"
	@echo "make calibrate-noises DATA=FOLDER, make bench-noise   write docs/evidence/noise-*.md"
	@echo "make evidence-fpl STORE=STORE   train with and without the feature preserving loss, write docs/evidence/"
	@echo "make evidence [IMAGES=FOLDER]   run the whole benchmark, for hours, and write docs/evidence/benchmark.md"
	@echo "make evidence-model STORE=STORE   the shipped model on real noisy CT, clean images, beyond its training: docs/evidence"
	@echo "make evidence-inverse STORE=STORE   stripes and motion blur: where they are found, where wrongly: docs/evidence"
	@echo "make evidence-local-mean STORE=STORE   what giving local means back costs, and what comes back: docs/evidence"
	@echo "make evidence-other   the shipped model on images that public packages bring (pip, npm, apt-get): docs/evidence"
	@echo "make evidence-range STORE=STORE   the shipped model with other HU as 0 and 1: docs/evidence"
	@echo "make evidence-training STORE=STORE   what 'medfpl train --minutes 20' gives: docs/evidence"
	@echo "make calibrate-trust STORE=FOLDER   thresholds of the trust measure and docs/evidence/trust.md; make bench-saliency"
	@echo "make clean   remove what these targets made, but .venv"

setup: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "medfpl needs Python 3.11 or newer: make setup PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) "pip>=25.1"
	$(BIN)/python -m pip install --quiet $(PIP_ARGS) -c constraints.txt --editable . --group dev
	touch $@

demo: setup
	$(BIN)/python scripts/demo.py $(DEMO)

test: setup
	$(TEST_ENV) $(BIN)/python -m pytest $(TEST_ARGS)

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(TEST_ENV) $(BIN)/python -m pytest tests/test_imports.py tests/cli/test_docs.py

bench: setup
	$(BIN)/python scripts/bench_speed.py

bench-train: setup
	$(BIN)/python scripts/bench_train.py

# On the validation patients of a store that 'medfpl prepare' made.
STORE ?= store

tune-bench: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/tune_bench.py $(STORE)

docs: setup
	$(BIN)/python scripts/cli_docs.py docs/cli.md
	$(BIN)/python scripts/noise_docs.py docs/noises.md --pictures

# Real images with a manifest.csv (see scripts/calibrate_noises.py).
DATA ?= ../shared/data

calibrate-noises: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/calibrate_noises.py $(DATA) docs/evidence/noise-calibration.md

# TorchIO and MONAI live in an environment of their own that also sees ours, so that neither brings another torch.
BENCH_VENV := .venv-bench

bench-noise: setup
	test -x $(BENCH_VENV)/bin/python || $(BIN)/python -m venv --without-pip $(BENCH_VENV)
	$(BIN)/python -c 'import site, sys; print(*sys.argv[1:], *site.getsitepackages(), sep="\n")' $(CURDIR) \
		> $$($(BENCH_VENV)/bin/python -c 'import site; print(site.getsitepackages()[0])')/medfpl.pth
	-$(BIN)/python -m pip --python $(BENCH_VENV)/bin/python install --quiet $(PIP_ARGS) --no-deps --group bench
	$(BENCH_VENV)/bin/python scripts/bench_noises.py docs/evidence/noise-speed.md

# Networks with and without the loss, and what each form of it sees: about an hour on two cores. RUNS is gone on with.
RUNS ?= runs/evidence-fpl

evidence-fpl: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_fpl.py $(STORE) $(RUNS)
	$(BIN)/python scripts/picture_fpl.py $(RUNS) docs/images/feature-maps.png

# Images that no model was trained on (a prepared store, a folder); without them only the sample data are used.
IMAGES ?=

evidence: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_benchmark.py docs/evidence $(IMAGES)

evidence-model: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_model.py $(STORE) docs/evidence

evidence-inverse: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_inverse.py $(STORE) docs/evidence

evidence-local-mean: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_local_mean.py $(STORE) docs/evidence

# Needs npm and apt-get, and 60 MB of downloads; nothing of them is installed or run.
evidence-other: setup
	$(BIN)/python scripts/other_sources.py runs/other
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_other.py runs/other runs/evidence-other docs/evidence

evidence-range: setup
	OMP_NUM_THREADS=1 $(BIN)/python scripts/evidence_range.py $(STORE) docs/evidence

evidence-training: setup
	$(BIN)/python scripts/evidence_training.py $(STORE) docs/evidence

# A prepared store, whose validation patients are added to the phantoms. The phantoms alone set no thresholds: then
# both files go to $(DEMO), for a look.
calibrate-trust: setup
	mkdir -p $(DEMO)
	OMP_NUM_THREADS=1 $(BIN)/python scripts/calibrate_trust.py $(if $(wildcard $(STORE)/store.json),\
		docs/evidence/trust.md medfpl/saliency/trust.json --data $(STORE) --limit 6,\
		$(DEMO)/trust.md $(DEMO)/trust.json)

bench-saliency: setup
	$(BIN)/python scripts/bench_saliency.py

clean:
	rm -rf $(DEMO) build dist .pytest_cache .ruff_cache .mypy_cache .hypothesis
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -exec rm -rf {} +
