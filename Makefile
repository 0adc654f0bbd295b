# Two commands do everything on a fresh machine: `make demo` and `make test`. Each target does its own set-up.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
READY_DOCS := $(VENV)/.ready-docs
READY_ALL := $(VENV)/.ready-all
PHOTOS ?=
PORT ?=
PYTEST_ARGS ?=
# One more than the two cores that this is tuned for: some tests wait for servers and browsers.
JOBS ?= 3
# Whole files go to one worker, in the order that tests/conftest.py gives them: those that take longest first.
PARALLEL = -n $(JOBS) --dist loadfile --no-loadscope-reorder
# One room each, seconds of CPU each: what an edit breaks first. Whole families, servers, browsers and runs are left out.
FAST ?= test_house embedder/test_encode test_pooling inputs/test_bad_input encoders/test_pixels inputs/test_videos evaluation/test_instructions evaluation/test_evaluation evaluation/test_queries evaluation/test_metrics publishing/test_cards training/test_train_infonce
export GRADIO_ANALYTICS_ENABLED = False
# As it is, spaces and all: the shell that runs `demo` would split it.
export PHOTOS
# Tests start hundreds of processes; each would else compile the zoo again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test test-fast test-all bench docs lint format clean
.DEFAULT_GOAL := demo

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip setuptools
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all]'
	touch $@

$(READY_DOCS): $(READY)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,docs]'
	touch $@

# What computes encoders in place of torch is no part of `all`, and its tests are skipped without it.
$(READY_ALL): $(READY_DOCS)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[all,docs,openvino,onnx]'
	touch $@

demo: $(READY)  ## search photos by text in the browser: `make demo PHOTOS=~/Pictures`
	$(BIN)/zoo demo zoo-mini $(if $(PHOTOS),--photos "$$PHOTOS") $(if $(PORT),--port $(PORT))

test: $(READY) browser  ## everything but slow, gpu and hub tests, in three processes (JOBS=0: in one, without workers)
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

test-fast: $(READY)  ## the files named in FAST, in less than a minute: for the edit loop
	$(BIN)/python -m pytest $(PARALLEL) $(FAST:%=tests/%.py) $(PYTEST_ARGS)

test-all: $(READY_ALL) browser  ## slow tests too, the site, the notebooks and the backends among them
	$(BIN)/python -m pytest $(PARALLEL) -m 'not gpu and not hub' $(PYTEST_ARGS)

bench: $(READY)  ## speed and memory side by side with open_clip, transformers and sentence-transformers
	$(BIN)/python -m benchmarks

docs: $(READY_DOCS)  ## the site of docs/ in build/site: open build/site/index.html. Offline; a lost link is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet
	@echo "open build/site/index.html"

lint: $(READY)  ## style, spelling, and the words of the field
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/typos
	$(BIN)/python -m tests.words

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# The browser tests drive Debian's Chromium; where it cannot be installed they are skipped, saying so.
.PHONY: browser
browser:
	@command -v chromium >/dev/null || { [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null && \
	  apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core >/dev/null; } || \
	  echo "chromium is not here and cannot be installed: browser tests will be skipped"

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .ruff_cache
