"""vLLM workers that are at several units at once and take new weights between two tokens, and one that dies so."""

from __future__ import annotations

import time
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from tests import parts
from tests.cluster.killing import GENERATING, Killer, killing
from tests.cluster.small_run import completions, metrics
from tests.cluster.vllm_run import taught

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)"),
]
FULL = {"unit": 1, "at_once": 3, "in_flight": True, "rows": 2, "length": 40}
SMALL = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}


@pytest.fixture
def swift(tmp_path: Path) -> Path:
    """A model that is learned in 0.04 s, while its answers take 0.2 s: new weights find every worker at work."""
    parts.policy("llama", **SMALL, tie_word_embeddings=True, max_position_embeddings=256).save(tmp_path / "swift")
    return tmp_path / "swift"


def generating(run: Path) -> str:
    """Once three steps are over: no worker is at its probe any more."""
    until, file = time.monotonic() + 300.0, run / "metrics.jsonl"
    while time.monotonic() < until and (not file.is_file() or file.read_text(encoding="utf-8").count("\n") < 3):
        time.sleep(0.01)
    return GENERATING


def test_units_side_by_side_while_weights_come(cluster: str, swift: Path, tmp_path: Path) -> None:
    steps, bound = 16, 2
    with killing(Killer(lambda: generating(tmp_path / "recorded"), 1, lambda: 0.0)) as killer:
        run = taught(tmp_path, cluster, swift, "auto", steps, rollouts=2, max_staleness=bound, **FULL)
    rows = metrics(run)
    assert killer.killed
    assert sum(row["rollouts/restarts"] for row in rows) == 1, "once, though it was at several units"
    assert sum(row["rollouts/requeued"] for row in rows) % 4 == 0
    assert all(0 <= row["rollouts/utilisation"] <= 1 for row in rows)
    assert max(row["staleness/max"] for row in rows) <= bound
    assert sum(row["staleness/mixed"] for row in rows) > 0
    told = completions(run)
    assert [len(answers) for answers in told] == [8 * 4] * steps, "nothing is lost"
    for step, answer in ((step, answer) for step, answers in enumerate(told) for answer in answers):
        versions = answer.get("versions", [answer["version"]])
        assert all(a <= b for a, b in pairwise(versions))
        assert step - bound <= versions[0] <= versions[-1] <= step
