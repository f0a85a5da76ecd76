"""Small runs with vLLM workers, on the tests' cluster."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from scoreline.backends.vllm import Vllm
from scoreline.config.launch import train
from scoreline.environments.rewards import RewardSpec
from scoreline.models.adapters import Lora
from scoreline.models.policy import Model
from tests.cluster.small_run import on, recorded

SHAPE = {"hidden_size": 256, "intermediate_size": 4096, "num_hidden_layers": 4, "num_attention_heads": 4}
STEPS = 6


def taught(
    folder: Path, address: str, model: Path, transfer: Any, steps: int = STEPS, lora: Lora | None = None, **told: Any
) -> Path:
    """Some steps of GRPO towards answers with a 7; two steps between probes, where weights do not come in flight."""
    probed = 0 if told.get("in_flight") else 2
    engine = Vllm(context=64, memory=0.002, rows=told.pop("rows", 32), eager=True, probe_every=probed)
    length = told.pop("length", 12)
    runtime = on(address, **{"unit": 2, "transfer": transfer, "timeout": 60} | told)
    run = recorded(folder, runtime, engine=engine)
    reward = (RewardSpec("format_match", options={"pattern": r"[\s\S]*7[\s\S]*"}),)
    return train(
        replace(
            run,
            model=Model(path=str(model), device="cpu", lora=lora),
            reward=reward,
            train=replace(run.train, steps=steps, minibatches=1, num_generations=4),
            sampling=replace(run.sampling, max_completion_length=length),
            eval=replace(run.eval, prompts=4, k=1),
        )
    )
