# make demo            an X-ray of the built-in phantom; CT=path renders a CT of your own; METHOD=threshold does without
#                      the network
# make test            all tests
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
OUTPUT ?= output
CT ?= phantom:chest
METHOD ?= auto

.PHONY: demo test lint figures clean

demo: $(VENV)/ready
	@mkdir -p $(OUTPUT)
	@$(BIN)/deepdrr segment "$(CT)" --method $(METHOD) -o $(OUTPUT)/materials.seg.nrrd
	@$(BIN)/deepdrr render "$(CT)" --segmentation $(OUTPUT)/materials.seg.nrrd --view pa -o $(OUTPUT)/xray_pa.png
	@$(BIN)/deepdrr render "$(CT)" --segmentation $(OUTPUT)/materials.seg.nrrd --view lateral_left \
		-o $(OUTPUT)/xray_lateral.png
	@echo "Your X-rays: $(abspath $(OUTPUT))/xray_pa.png and $(abspath $(OUTPUT))/xray_lateral.png"

test: $(VENV)/ready-dev
	$(BIN)/python -m pytest -q -n $(JOBS)

lint: $(VENV)/ready-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean:
	rm -rf $(VENV) $(OUTPUT)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make PYTHON=python3.11 …"'
	$(PYTHON) -m venv $(VENV)

$(VENV)/ready: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --editable '.[networks]' --constraint constraints.txt
	@touch $@

$(VENV)/ready-dev: $(VENV)/ready
	$(PIP) install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@
