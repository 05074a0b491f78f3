# One folder, .venv, holds everything that these targets install.
PYTHON ?= python3.11
BIN := .venv/bin
# The build of torch comes first and alone: any looser requirement may bring gigabytes of GPU libraries.
TORCH := $(shell grep '^torch==' constraints.txt)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test check docs format clean

demo: .venv/.demo  ## A photo becomes a scene, offline
	@$(BIN)/python examples/00_photo_to_scene.py outputs/demo

test: .venv/.dev
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: .venv/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-cache
	$(BIN)/pyright
	$(BIN)/mkdocs build --strict --quiet

docs: .venv/.dev
	$(BIN)/mkdocs serve

format: .venv/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

.venv/.torch: constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) $(TORCH)
	touch $@

.venv/.demo: .venv/.torch pyproject.toml
	$(PIP) -e '.[demo]'
	touch $@

.venv/.dev: .venv/.torch pyproject.toml
	$(PIP) -e '.[dev]'
	touch $@ .venv/.demo

clean:
	rm -rf .venv outputs site build .pytest_cache .ruff_cache .hypothesis
