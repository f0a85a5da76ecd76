"""vLLM workers that are at several units at once and take new weights between two tokens, and one that dies so."""

from __future__ import annotations

from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path

import pytest

from tests.cluster.killing import GENERATING, Killer, killing
from tests.cluster.small_run import completions, metrics
from tests.cluster.vllm_run import taught

pytestmark = [
    pytest.mark.ray,
    pytest.mark.timeout(600),
    pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed (make test-vllm)"),
]
# Three answers in flight: workers are slower than the learner, and new weights find them at it.
FULL = {"unit": 1, "at_once": 3, "in_flight": True, "rows": 3, "length": 40}


def test_units_side_by_side_while_weights_come(cluster: str, model: Path, tmp_path: Path) -> None:
    steps, bound = 8, 2
    with killing(Killer(lambda: GENERATING, 1, lambda: 8.0)) as killer:
        run = taught(tmp_path, cluster, model, "auto", steps, rollouts=2, max_staleness=bound, **FULL)
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
