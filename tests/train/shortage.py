"""One update in too little memory, for real: `shortage.py FOLDER UNIT SIZE EXTRA_MIB ANSWER_TOKENS`.

The address space is limited to what is mapped after an update of one row, and EXTRA_MIB more (below 0: no limit). What
the learner did, having begun with portions of SIZE UNITs, is in FOLDER: its weights, and result.json.
"""

from __future__ import annotations

import json
import re
import resource
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from scoreline.errors import MemoryLimitError
from scoreline.models.memory import available
from scoreline.objectives.zoo import grpo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.portions import Portion
from scoreline.types import Batch, Completion, Prompt, Reward, Rollout
from tests import parts


def learner(portion: Portion) -> LocalLearner:
    made = LocalLearner(parts.policy(), replace(grpo, kl=None), learning_rate=1e-3)
    made.portions.portion = portion
    return made


def batch(made: LocalLearner, tokens: int, questions: int = 2, answers: int = 8) -> Batch:
    """Answers of very different lengths."""
    generator = torch.Generator().manual_seed(0)
    rows = []
    for i in range(questions * answers):
        n = tokens - (i % answers) * tokens // (2 * answers)
        ids = torch.randint(3, 18, (n,), generator=generator).tolist()
        done = Completion(tuple(ids), (-1.0,) * n, "length")
        rows.append(Rollout(Prompt("q", "1"), (5, 6, 7, 8), done, "", Reward(float(i % 3)), i // answers))
    made_of = made.objective.estimate(collate(rows))
    return replace(made_of, weights=made.objective.aggregate(made_of.mask))


def mapped() -> int:
    return int(re.findall(r"VmSize:\s+(\d+)", Path("/proc/self/status").read_text())[0]) * 1024


def limited(extra: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (mapped() + extra * 2**20, resource.RLIM_INFINITY))


def go(unit: Any, size: int, extra: int, tokens: int) -> dict[str, Any]:
    """One annotation and one update; with `extra` below 0 in all the memory there is."""
    made = learner(Portion(size, unit))
    whole = batch(made, tokens)
    warm = LocalLearner(parts.policy(), made.objective, micro_batch_size=1)
    small = whole.rows(slice(0, 1))
    warm.update(small, Update())
    if extra >= 0:
        limited(extra)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        try:
            annotated = made.annotate(whole, frozenset({"logp_old"}))
            after_annotation = made.portions.portion
            made.portions.portion = Portion(size, unit)
            facts = made.update(whole, Update()).metrics
        except MemoryLimitError as error:
            return {"error": str(error), "said": [str(w.message) for w in said]}
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert annotated.logp_old is not None
    assert made.portions.portion is not None
    assert after_annotation is not None
    tensors = {name: p.detach() for name, p in made.policy.model.named_parameters()}
    save_file(tensors | {"logp_old": annotated.logp_old}, FOLDER / "weights.safetensors")
    return {
        "size": made.portions.portion.size,
        "annotated_with": after_annotation.size,
        "rows": facts["micro_batch_size"],
        "grad_norm": facts["grad_norm"],
        "free": available(torch.device("cpu")),
        "said": [str(w.message) for w in said],
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    FOLDER, given = Path(sys.argv[1]), sys.argv[2:]
    result = go(given[0], int(given[1]), int(given[2]), int(given[3]))
    (FOLDER / "result.json").write_text(json.dumps(result))
