"""A run that is killed in every phase and resumed is, bit by bit, the run that was never stopped."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scoreline.models.heads import Kind
from scoreline.models.judges import make_judge
from tests import parts

ROOT = Path(__file__).parents[2]
# Calls are counted anew in every process. Checkpoints are written after steps 2, 4 and 6.
KILLS = [("generation", 25), ("scoring", 5), ("update", 5), ("checkpoint", 1)]


def go(model: Path, folder: Path, algorithm: str, *kill: object) -> int:
    told = [sys.executable, str(ROOT / "tests/faults/victim.py"), str(model), str(folder), algorithm, *map(str, kill)]
    done = subprocess.run(told, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode


def lines(path: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    return [{k: v for k, v in row.items() if not k.startswith("time/") and k != "seconds"} for row in rows]


def rounds(path: Path) -> list[dict[str, Any]]:
    rows = lines(path) if path.exists() else []
    return [{**row, "metrics": {k: v for k, v in row["metrics"].items() if k != "judge/seconds"}} for row in rows]


def left(folder: Path) -> dict[str, Any]:
    """Everything a run leaves that does not say how long it took."""
    run = folder / "victim"
    last = run / "checkpoints" / "step-000006"
    files = [
        "hf/model.safetensors",
        "hf/adapter_model.safetensors",
        "optimizer.safetensors",
        "critic.safetensors",
        "rng.safetensors",
    ]
    files += ["reference.safetensors", "judge/hf/model.safetensors", "judge/optimizer.safetensors"]
    files += ["judge/history.jsonl"]
    sums = {f: hashlib.sha256((last / f).read_bytes()).hexdigest() for f in files if (last / f).exists()}
    state = json.loads((last / "state.json").read_text())
    return {
        "metrics": lines(run / "metrics.jsonl"),
        "evaluation": lines(run / "evaluation.jsonl"),
        "completions": {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (run / "completions").iterdir()},
        "weights": sums,
        "rounds": rounds(run / "rounds.jsonl"),
        "state": {k: v for k, v in state.items() if k not in ("wall_s", "trained_s")},
    }


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of Unix")
@pytest.mark.parametrize("algorithm", ["naive", "ppo", "grpo"])
def test_killed_and_resumed_is_never_stopped(tmp_path: Path, algorithm: str) -> None:
    model = tmp_path / "model"
    parts.policy().save(model)
    assert go(model, tmp_path / "whole", algorithm) == 0
    for phase, number in KILLS:
        assert go(model, tmp_path / "killed", algorithm, phase, number) == -signal.SIGKILL, f"{phase} was not reached"
        run = tmp_path / "killed" / "victim" / "checkpoints"
        assert not list(run.glob("step-*/.tmp*"))
    assert go(model, tmp_path / "killed", algorithm) == 0
    whole, killed = left(tmp_path / "whole"), left(tmp_path / "killed")
    for part in whole:
        assert killed[part] == whole[part], part


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of Unix")
@pytest.mark.parametrize("algorithm", ["compiled", "adapted"])
def test_killed_on_other_paths_and_resumed_is_never_stopped(tmp_path: Path, algorithm: str) -> None:
    if algorithm == "compiled" and not (shutil.which("g++") or shutil.which("clang++")):
        pytest.skip("no C++ compiler to compile layers with")
    model = tmp_path / "model"
    parts.policy().save(model)
    assert go(model, tmp_path / "whole", algorithm) == 0
    for phase, number in [("generation", 25), ("checkpoint", 2)]:
        assert go(model, tmp_path / "killed", algorithm, phase, number) == -signal.SIGKILL, f"{phase} was not reached"
    assert go(model, tmp_path / "killed", algorithm) == 0
    whole, killed = left(tmp_path / "whole"), left(tmp_path / "killed")
    for part in whole:
        assert killed[part] == whole[part], part


ROUND_KILLS = [
    ("judging", 3),
    ("generation", 25),
    ("learning to judge", 2),
    ("update", 3),
    ("remembering", 2),
    ("checkpoint", 1),
]


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is a signal of Unix")
@pytest.mark.parametrize(("algorithm", "kind"), [("iterative", "outcome"), ("stepwise", "process")])
def test_killed_inside_rounds_and_resumed_is_never_stopped(tmp_path: Path, algorithm: str, kind: Kind) -> None:
    model = tmp_path / "model"
    parts.policy().save(model)
    make_judge(kind, str(model), seed=1).save(model / kind)
    assert go(model, tmp_path / "whole", algorithm) == 0
    for phase, number in ROUND_KILLS:
        assert go(model, tmp_path / "killed", algorithm, phase, number) == -signal.SIGKILL, f"{phase} was not reached"
    assert go(model, tmp_path / "killed", algorithm) == 0
    whole, killed = left(tmp_path / "whole"), left(tmp_path / "killed")
    assert len(whole["rounds"]) == 3
    assert whole["rounds"][-1]["metrics"]["judge/replayed"] > 0
    assert "judge/hf/model.safetensors" in whole["weights"]
    assert "reference.safetensors" in whole["weights"]
    for part in whole:
        assert killed[part] == whole[part], part
