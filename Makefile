# The two commands: `make nightly` and `make test`. Everything installs itself into .venv.
PYTHON ?= python3.11
VENV   ?= .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check

export PYTHONUNBUFFERED = 1

.PHONY: help nightly test test-all lint bench lock clean

help:
	@echo "make nightly   make the environment, run a night on real sample data, show its signals"
	@echo "make test      the tests (make test-all: the slow and the large ones too)"
	@echo "make lint      ruff, mypy --strict, import directions"
	@echo "make bench     the benchmarks (need LOOKBACK_REFERENCE_DATA)"
	@echo "make lock      pin the dependencies anew, with hashes and without addresses"

nightly: $(VENV)/.installed
	$(BIN)/lookback nightly

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup -m "not slow"

test-all: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist loadgroup

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.installed-dev
	$(BIN)/python -m benchmarks.files_night
	$(BIN)/python -m benchmarks.price_breaks
	$(BIN)/python -m benchmarks.weekly_windows
	$(BIN)/python -m benchmarks.stored_windows
	$(BIN)/python -m benchmarks.one_session
	$(BIN)/python -m benchmarks.window_factors
	$(BIN)/python -m benchmarks.point_in_time_join --full
	$(BIN)/python -m benchmarks.scoring
	$(BIN)/python -m benchmarks.lstm_peers
	$(BIN)/python -m benchmarks.training epoch
	$(BIN)/python -m benchmarks.training race
	$(BIN)/python -m benchmarks.backfill
	$(BIN)/python -m benchmarks.remote_sql
	$(BIN)/python -m benchmarks.ten_million
	$(BIN)/python -m benchmarks.published_load
	$(BIN)/python -m benchmarks.text_scoring
	$(BIN)/python -m benchmarks.device_epochs

# Each package is pinned with its hash; --no-deps because the locks hold all of them.
$(VENV)/.installed: requirements.lock pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "Python 3.11 is needed: $(PYTHON) not found; make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the pinned dependencies into $(VENV) (a few minutes, once)"
	@$(PIP) --no-deps --require-hashes -r requirements.lock
	@$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/.installed-dev: $(VENV)/.installed requirements-dev.lock
	@$(PIP) --no-deps --require-hashes -r requirements-dev.lock
	@touch $@

LOCK := uv pip compile pyproject.toml --quiet --generate-hashes --universal \
	--python-version 3.11 --no-header --no-annotate --no-emit-index-url --no-emit-find-links

lock:
	$(LOCK) --output-file requirements.lock
	$(LOCK) --extra dev --constraint requirements.lock --output-file requirements-dev.lock

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache
