# Everything a user or a contributor runs. `make help` lists it.
#
# The environment is made on the first call and reused until requirements.lock changes:
#   PYTHON=...  interpreter to make it from (default: a working Python 3.11, else 3.12)
#   VENV=...    where it is (default: .venv)
#   ARGS=...    more arguments for the command that runs

VENV ?= .venv
INTEROP_VENV ?= .venv-interop
PEERS_VENV ?= .venv-peers
TORCH_VENV ?= .venv-torch
PYTHON ?=
# LeRobot wants Python 3.12.
PEERS_PYTHON ?= $(shell .ci/venv --find 3.12)
ARGS ?=

BIN := $(VENV)/bin
CODE := jaxpolicy launch configs benchmarks tests
# They have targets of their own.
BESIDE_TORCH := benchmarks/training_steps.py benchmarks/reinforcement.py
PEERS_TESTS := tests/interop/lerobot_test.py tests/interop/robomimic_test.py
# Workers share the machine; see tests/conftest.py for what each of them may use.
PYTEST_FLAGS := -n auto --maxprocesses=4 --dist=worksteal
UV_COMPILE := uv pip compile --quiet --universal --generate-hashes --no-header --no-annotate

.DEFAULT_GOAL := help
.PHONY: help demo test test-interrupt test-interop test-peers lint bench bench-loader bench-reinforcement \
	bench-training lock clean distclean venv venv-interop venv-peers venv-torch

help:  ## print this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-20s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: venv  ## collect, train, evaluate, export and verify a vision policy: runs/lift_demo
	$(BIN)/python -m launch.pipeline --config=configs/lift_demo.py --workdir=runs/lift_demo $(ARGS)

test: venv  ## the test suite
	$(BIN)/python -m pytest $(PYTEST_FLAGS) $(ARGS)

test-interrupt: venv  ## stop every stage at random moments, and compare what comes of it: an hour
	$(BIN)/python -m tests.launch.interrupting $(ARGS)

test-interop: venv-interop  ## tests that need TensorFlow or Gymnasium-Robotics, in an environment of its own
	$(INTEROP_VENV)/bin/python -m pytest tests/interop -n 0 $(ARGS)

test-peers: venv-peers  ## LeRobot and robomimic read what we write, in an environment of its own
	$(PEERS_VENV)/bin/python -m pytest -n 0 -rs $(PEERS_TESTS) $(ARGS)

lint: venv  ## ruff and mypy
	$(BIN)/ruff check $(wildcard $(CODE))
	$(BIN)/mypy $(wildcard jaxpolicy launch configs)

bench: venv bench-training bench-reinforcement  ## the benchmarks, one after the other
	@set -e; for file in $(filter-out $(BESIDE_TORCH),$(wildcard benchmarks/*.py)); do \
		echo "== $$file"; $(BIN)/python $$file $(ARGS); done

bench-training: venv venv-torch  ## training steps and sampling beside PyTorch's, on one thread
	$(BIN)/python -m benchmarks.training_steps --torch_python=$(TORCH_VENV)/bin/python $(ARGS)

bench-reinforcement: venv venv-torch  ## steps per CPU-second beside Stable-Baselines3's PPO
	$(BIN)/python -m benchmarks.reinforcement --torch_python=$(TORCH_VENV)/bin/python $(ARGS)

bench-loader: venv venv-peers  ## our loader beside LeRobot's and tf.data, on the same episodes
	$(BIN)/python benchmarks/loader.py --peers --peers_python=$(PEERS_VENV)/bin/python $(ARGS)

lock:  ## pin requirements anew from pyproject.toml (needs uv)
	$(UV_COMPILE) --python-version 3.11 --extra all --extra test --extra lint pyproject.toml \
		-o requirements.lock
	$(UV_COMPILE) --python-version 3.11 --extra all --extra test --extra tflite-loops \
		--extra interop pyproject.toml -o requirements-interop.lock
	$(UV_COMPILE) --python-version 3.12 --extra peers --extra lerobot --extra hdf5 --extra test \
		--no-emit-package egl-probe pyproject.toml -o requirements-peers.lock

clean:  ## remove caches and build outputs; keeps environments and runs
	rm -rf build dist *.egg-info .cache .pytest_cache .mypy_cache .ruff_cache
	find $(wildcard $(CODE)) -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean  ## clean, and remove the environments
	rm -rf .venv .venv312 $(VENV) $(INTEROP_VENV) $(PEERS_VENV) $(TORCH_VENV)

venv:
	@PYTHON="$(PYTHON)" .ci/venv "$(VENV)" requirements.lock

venv-interop:
	@PYTHON="$(PYTHON)" .ci/venv "$(INTEROP_VENV)" requirements-interop.lock

venv-peers:
	@test -n "$(PEERS_PYTHON)" || { echo "error: no working Python 3.12 was found, which LeRobot needs" >&2; exit 1; }
	@PYTHON="$(PEERS_PYTHON)" .ci/venv "$(PEERS_VENV)" requirements-peers.lock

venv-torch: $(TORCH_VENV)/.stamp

# No hashes: which build of PyTorch there is depends on the machine. One without CUDA is enough
# and ten times smaller, so it is asked for first.
$(TORCH_VENV)/.stamp: requirements-torch.lock
	@python="$(PYTHON)"; "$${python:-$$(.ci/venv --find 3.11 3.12)}" -m venv --clear $(TORCH_VENV)
	@sed 's/^torch==.*/&+cpu/' $< >$(TORCH_VENV)/cpu.txt
	@pip="$(TORCH_VENV)/bin/python -m pip install --quiet --disable-pip-version-check"; \
		$$pip --no-deps -r $(TORCH_VENV)/cpu.txt 2>$(TORCH_VENV)/cpu.log || $$pip -r $<
	@touch $@
