"""What vLLM is told of a model and of the machine, and what it must be told again when weights change."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from scoreline.models.policy import Policy

CPU_BLOCK = 32
"""Tokens a block of the cache, the least that answers can share; vLLM's own choice for CPUs, 128, is a long prompt."""

QUIET = {"VLLM_LOGGING_LEVEL": "ERROR", **({"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {})}
"""Unless the environment says otherwise: errors only, and process groups of one that listen on no outer network."""

ENVIRONMENT = {"VLLM_ENABLE_V1_MULTIPROCESSING": "0", "VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1"}


def describe_model(policy: Policy, folder: Path) -> None:
    """config.json and the tokenizer: what vLLM reads of a model whose weights come from the learner."""
    config = policy.model.config
    config.architectures = config.architectures or [type(policy.model).__name__]
    config.save_pretrained(folder)
    policy.text.tokenizer.save_pretrained(folder)


def room(policy: Policy, memory: float) -> dict[str, Any]:
    """How much memory vLLM takes, and in which pieces."""
    if policy.device.type != "cpu":
        return {"gpu_memory_utilization": memory}
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {"kv_cache_memory_bytes": int(memory * machine), "block_size": CPU_BLOCK}


def repack_heads(model: Any) -> None:
    """Renew what an output head keeps of its weights.

    A head that is tied to the embedding gets no weights of its own when they are reloaded, and on a CPU it computes
    with a packed copy, which would stay that of the old weights.
    """
    from vllm.model_executor.layers.vocab_parallel_embedding import ParallelLMHead

    for module in model.modules():
        if isinstance(module, ParallelLMHead):
            module.quant_method.process_weights_after_loading(module)
