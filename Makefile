# Every target sets up what it needs: the first call makes .venv and installs, later calls reuse it.
#   make demo    reports by the shipped model; phantoms -> training -> reports for unseen ones -> the exam
#                FILM="a.png b.png": the shipped model writes for the views of this study first
#   make test    all quick tests           make test-all   the slow ones too
#   make check   formatting, lint, types   make clean      what was built, not the data
#   make bench OUT=file.json               speed and memory beside a stock model of the same size, as ratios
PYTHON ?= python3
STUDIES ?= 2400
PRETRAIN ?= 600
STEPS ?= 600
OUT ?= runs/bench.json
DATA := data/phantom_demo_$(STUDIES)
RUN := runs/demo
BIN := .venv/bin
RADSCRIBE := $(BIN)/radscribe

.PHONY: demo test test-all check types bench clean

# Installed again only when pyproject.toml changes.
.venv/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

test: .venv/.installed
	$(BIN)/python -m pytest

test-all: .venv/.installed
	$(BIN)/python -m pytest -m "not gpu" --durations=10

check: .venv/.installed types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# mypy sees neither setuptools' editable hook nor a package whose root is the folder it stands in,
# so it reads a plain copy of the installed package.
types: .venv/.installed
	rm -rf build/typed build/lib build/bdist.*
	$(BIN)/python -m pip install --quiet --no-deps --upgrade --target build/typed .
	MYPYPATH=build/typed $(BIN)/mypy -p radscribe

# Phantoms are drawn once; training and what follows runs anew each time.
demo: .venv/.installed $(DATA)/dataset_dict.json
	@echo; echo "The shipped model, which has learnt from real films (IU X-ray), writes at once. Not a diagnosis."
ifdef FILM
	$(RADSCRIBE) generate $(FILM)
else
	@echo "These two are phantoms, drawings that it has never learnt from: its words for them mean nothing."
	for film in $$(ls $(DATA)/images/* | head -2); do $(RADSCRIBE) generate $$film; done
endif
	@echo; echo "Now a model learns phantoms from nothing and is examined on unseen ones."
	rm -rf $(RUN)
	$(RADSCRIBE) train mcsam_phantom --set dataset=$(DATA) --set output_dir=$(RUN) \
		--set pretrain_steps=$(PRETRAIN) --set max_steps=$(STEPS) --set eval_steps=$(STEPS) --set warmup_steps=40
	$(RADSCRIBE) generate --dataset $(DATA) --split test --model $(RUN) --out $(RUN)/reports.jsonl
	$(RADSCRIBE) generate --dataset $(DATA) --split test --model $(RUN) --shuffle-images 1 --out $(RUN)/shuffled.jsonl
	$(RADSCRIBE) evaluate $(RUN)/reports.jsonl --references $(DATA) --split test \
		--control $(RUN)/shuffled.jsonl --sheet $(RUN)/reports.png --html $(RUN)/evaluation.html

# Drawn anew where the generator has changed since: older reports could not be read back.
$(DATA)/dataset_dict.json: $(wildcard training/readers/phantom*.py) | .venv/.installed
	rm -rf $(DATA)
	$(RADSCRIBE) prepare phantom $(DATA) --studies $(STUDIES) --seed 1

# All of it takes hours on a CPU; BENCH="--sets iu --batches 1" and the like cut it down, see `bench.py --help`.
bench: .venv/.installed
	$(BIN)/python -m tests.benchmarks.bench --out $(OUT) $(BENCH)

clean:
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache
