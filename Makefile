# One folder, .venv, holds everything that these targets install.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
# The build of torch comes first and alone: any looser requirement may bring gigabytes of GPU libraries.
TORCH := $(shell grep '^torch==' constraints.txt)
PIP := $(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: demo test test-all check docs format clean

# china.jpg comes with scikit-learn (danielbuechele, CC BY 2.0): nothing is fetched once the packages are there.
demo: .venv/.demo
	@photo=$$($(BIN)/python -c "from importlib.resources import files; print(files('sklearn') / 'datasets/images/china.jpg')") && \
	HF_HUB_OFFLINE=1 $(BIN)/gen3r generate "$$photo" --camera orbit_left --seed 1 --overwrite --out outputs/demo
	@echo "Open outputs/demo/scene.html in a browser; preview.png is a still, and rgb.mp4 and depth.mp4 move."

# A few minutes on two cores.
test: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal -m "not nightly"

# Every test, those marked `nightly` too: long runs that a change rarely breaks.
test-all: .venv/.dev
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

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
