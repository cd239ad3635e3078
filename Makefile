# Every command a person or CI runs; each one sets up what it needs first.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
ARTIFACT ?= runs/demo/artifact
export BENTOML_DO_NOT_TRACK := True
# idle threads that spin starve their neighbours
export OMP_WAIT_POLICY := passive
.DEFAULT_GOAL := help
.PHONY: help setup lock proto demo serve monitoring bench-training bench-serving check format test test-slow system-packages

help:  ## this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 18

setup: .venv/installed  ## one .venv with everything; reinstalls only when the lock changed

.venv/installed: requirements/dev.lock
	@sh requirements/install.sh $(PYTHON)
	@touch $@

lock:  ## resolve requirements/*.in into hash-locked requirements/*.lock
	@for name in dev training serving saelens evidently; do \
	  constraint=$$([ $$name = dev ] || echo "-c requirements/dev.lock"); \
	  $(BIN)/uv pip compile -q --universal --python-version 3.11 --generate-hashes --no-header --no-annotate \
	    $$constraint requirements/$$name.in -o requirements/$$name.lock; done

proto: setup  ## make the gRPC stubs from their .proto files
	@$(BIN)/python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. --grpc_python_out=. $$(git ls-files '*.proto')

demo: setup  ## the whole product on the built-in corpus, then a running server (DEMO_EXIT=1 stops it)
	@$(BIN)/python -m training demo --out runs/demo

serve: setup  ## serve ARTIFACT over HTTP on port 3000
	@KOINE_ARTIFACT=$(ARTIFACT) $(BIN)/bentoml serve service.app:ConceptService --port $${PORT:-3000}

monitoring: setup  ## service, drift worker, Prometheus: traffic drifts, the alarm rings and ends, pictures (DEMO_EXIT=1 stops it)
	@test -d runs/demo/artifact || DEMO_EXIT=1 $(BIN)/python -m training demo --out runs/demo
	@$(BIN)/python -m monitoring.tour

bench-training: setup  ## measure training against its baselines; results into benchmarks/
	@$(BIN)/python -m benchmarks.training

bench-serving: setup  ## measure the service against its baselines; results into benchmarks/
	@$(BIN)/python -m benchmarks.serving

check: setup  ## format, lint, types, import contracts, docs, known vulnerabilities
	@$(BIN)/ruff format --check . && $(BIN)/ruff check . && $(BIN)/pyright && $(BIN)/lint-imports && \
	$(BIN)/pytest -q tests/test_docs.py && $(BIN)/python requirements/audit.py requirements/serving.lock

format: setup  ## put the code into the project's format
	@$(BIN)/ruff check --fix-only -q . ; $(BIN)/ruff format -q .

system-packages:
	@sh tests/system_packages.sh

test: setup system-packages  ## all tests but the slow ones
	@OMP_NUM_THREADS=1 $(BIN)/pytest -n logical --dist loadfile -m "not slow"

test-slow: setup system-packages  ## the tests marked slow
	@$(BIN)/pytest -m slow
