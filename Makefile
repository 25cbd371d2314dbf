# Two commands do all the set-up: `make demo` and `make test`.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
DETECTOR := benchmarks/specs/scenes_ssd.yaml
STAMP  := $(VENV)/.installed

# Correct outputs first, then from what takes seconds to what takes minutes.
BENCHMARKS := reference_outputs validate_startup inference_overhead export_speed training_step construction \
  summary_speed scale detection_export detection_postprocessing training_step_zoo detection_training_step \
  yolo_training_step exported_latency export_zoo serving.start serving.mlp serving.resnet18 serving.overload \
  serving.soak serving.idle

export ORT_DISABLE_TELEMETRY := 1

.PHONY: help setup demo demo-detect test lint protocol bench clean

help: ## what can be made
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

setup: $(STAMP) ## a virtual environment with everything in it

# Installed again only when what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "netspec needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
	  || { rm -rf $(VENV); $(PYTHON) -m virtualenv $(VENV); } \
	  || { rm -rf $(VENV); echo "no virtual environment could be made: install python3-venv (Debian) or virtualenv"; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(STAMP) ## validate, train, export, check and predict on handwritten digits (runs/demo)
	rm -rf runs/demo
	$(BIN)/netspec validate specs/digits/resnet.yaml
	$(BIN)/netspec summary specs/digits/resnet.yaml
	$(BIN)/netspec train specs/digits/resnet.yaml --out runs/demo
	$(BIN)/netspec export runs/demo --verify
	$(BIN)/netspec data specs/digits/resnet.yaml --out runs/demo/images --split test
	$(BIN)/netspec predict runs/demo/model.onnx $$(for class in runs/demo/images/*/; do ls $$class* | head -n 2; done)
	@echo "the report, with its pictures: runs/demo/report.md"

demo-detect: $(STAMP) ## the same for a detector, on scenes of handwritten digits (runs/demo-detect)
	rm -rf runs/demo-detect
	$(BIN)/netspec validate $(DETECTOR)
	$(BIN)/netspec train $(DETECTOR) --set train.epochs=4 --set train.evaluate=2 --out runs/demo-detect
	$(BIN)/netspec export runs/demo-detect --verify
	$(BIN)/netspec evaluate runs/demo-detect --model runs/demo-detect/model.onnx
	$(BIN)/netspec data $(DETECTOR) --out runs/demo-detect/scenes --limit 12
	$(BIN)/netspec predict runs/demo-detect/model.onnx runs/demo-detect/scenes/images/*.png --score 0.3 \
	  --draw runs/demo-detect/drawn
	@echo "what was found, drawn: runs/demo-detect/drawn; the report, with its pictures: runs/demo-detect/report.md"

test: lint ## lint, types, all tests
	$(BIN)/python -m pytest

lint: $(STAMP) ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The order is that of the imports: a file stands behind what it imports.
protocol: $(STAMP) ## the messages of the protocol, compiled
	$(BIN)/python -m grpc_tools.protoc -Iruntime/protocol --descriptor_set_out=runtime/protocol/inference.binpb \
	  model_config.proto inference.proto health.proto

bench: $(STAMP) ## the side-by-side measurements, written to benchmarks/results
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name || exit 1; done

clean: ## everything that was made
	rm -rf $(VENV) runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
