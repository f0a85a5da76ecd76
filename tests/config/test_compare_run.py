"""Comparisons that are really made: several small runs in processes, interrupted, resumed, failing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from scoreline.config.compare.files import Files, locked
from scoreline.config.compare.launch import compare, compare_found
from scoreline.config.compare.processes import last_lines
from scoreline.config.compare.recipe import Comparison, read
from scoreline.errors import CheckpointError, ConfigError, ScorelineError
from scoreline.reports.compare.comparison import read as comparison_of
from tests import parts

STUDY = """
title = "Small"
folder = "{folder}"
recipe = ["small.toml"]
set = ["train.learning_rate=1e-4", "eval.prompts=6", "eval.every=2", "checkpoint.every=1"]
seeds = [0, 1]
jobs = 2
[budget]
tokens = {tokens}
[[arm]]
name = "naive"
set = ["algorithm=naive"]
[[arm]]
name = "grpo"
[[claim]]
text = "GRPO sees more"
arm = "grpo"
"""

STOPS = """
import os, signal
def stop(completions):
    raise ValueError("no such luck")
"""


def study(root: Path, *, tokens: int = 120, text: str = STUDY) -> Path:
    parts.recipe(root)
    (root / "study.toml").write_text(text.format(folder=root.as_posix(), tokens=tokens), encoding="utf-8")
    return root / "study.toml"


def numbers(folder: Path) -> dict[str, Any]:
    """What a comparison found, without what a clock, a meter or other seeds said."""
    found = comparison_of(folder)
    aside = ("seconds_per_step", "memory_mb", "gain_hard", "gain_middle", "gain_easy")
    return {
        arm["name"]: {name: told["values"] for name, told in arm["measures"].items() if name not in aside}
        for arm in found["arms"]
    }


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that nothing disturbed."""
    told = read(study(tmp_path_factory.mktemp("whole")))
    done = compare(told)
    assert done.failed == ()
    return done.folder


def test_a_comparison_leaves_runs_numbers_and_a_page(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sorted(path.name for path in (whole / "runs").iterdir()) == ["grpo-0", "grpo-1", "naive-0", "naive-1"]
    found = comparison_of(whole)
    assert found["budget"] == {"kind": "tokens", "amount": 120}
    assert [run["failed"] for arm in found["arms"] for run in arm["runs"]] == [None] * 4
    assert all(run["tokens"] >= 120 for arm in found["arms"] for run in arm["runs"])
    measures = found["arms"][1]["measures"]
    assert {"final", "area", "before", "greedy", "length", "entropy", "clip", "kl", "parameters"} <= measures.keys()
    assert measures["gain_hard"]["values"] != [None, None]
    assert found["arms"][0]["measures"]["before"] == measures["before"], "one starting model, the same luck"
    assert {row["key"] for row in found["settings"]} >= {"algorithm", "objective.kl"}
    assert "train.steps" not in {row["key"] for row in found["settings"]}
    assert found["claims"][0]["verdict"] in ("supported", "refuted", "undecided")
    assert (whole / "comparison.html").is_file()
    assert (whole / "logs" / "grpo-0.txt").read_text(encoding="utf-8").count("held-out at step") >= 2


def test_what_is_there_is_kept(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = {path: path.stat().st_mtime_ns for path in whole.glob("runs/*/metrics.jsonl")}
    numbers_before = numbers(whole)
    compare(read(whole / "comparison.toml"))
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert numbers(whole) == numbers_before
    said = capsys.readouterr().out
    assert "4 of 4 runs are there already" in said
    assert "GRPO sees more" in said


def test_interrupted_and_resumed_is_never_interrupted(whole: Path, tmp_path: Path) -> None:
    file, runs = study(tmp_path, text=STUDY.replace("seeds = [0, 1]", "seeds = [0]")), tmp_path / "study" / "runs"
    command = [sys.executable, "-m", "scoreline", "compare", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 120
    while not list(runs.glob("*/checkpoints/step-*")) and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "the same command goes on" in said
    assert "Traceback" not in said
    assert not (tmp_path / "study" / "comparison.json").exists()
    assert len(list(runs.glob("*/summary.json"))) < 2
    ended = subprocess.run(command, capture_output=True, text=True, timeout=240)
    assert ended.returncode == 0, ended.stderr
    first = {arm: {name: values[:1] for name, values in told.items()} for arm, told in numbers(whole).items()}
    assert numbers(tmp_path / "study") == first
    logs = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "study" / "logs").glob("*-?.txt"))
    assert "resuming" in logs
    assert "run 2/2" in ended.stdout


def test_a_failing_arm_does_not_stop_the_others(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rewards.py").write_text(STOPS, encoding="utf-8")
    truth = ("set = [", "set = ['eval.reward=[\"arithmetic_answer\"]', ")
    bad = f"set = ['reward=[\"{(tmp_path / 'rewards.py').as_posix()}:stop\"]', 'algorithm=naive']"
    text = STUDY.replace(*truth, 1).replace('set = ["algorithm=naive"]', bad).replace("seeds = [0, 1]", "seeds = [0]")
    done = compare(read(study(tmp_path, tokens=40, text=text)))
    assert [ended.trial.name for ended in done.failed] == ["naive-0"]
    found = comparison_of(done.folder)
    [naive, grpo] = found["arms"]
    assert "no such luck" in naive["runs"][0]["failed"]
    assert naive["measures"] == {}
    assert grpo["runs"][0]["failed"] is None
    assert found["claims"][0]["verdict"] == "undecided"
    assert "no such luck" in capsys.readouterr().out
    only_bad = read(study(tmp_path, tokens=40, text=text), ["name=alone"])
    with pytest.raises(ScorelineError, match=r"No run came to its end[\s\S]*no such luck"):
        compare(only_bad, only=["naive"])


def test_runs_of_another_recipe_are_refused_or_made_again(whole: Path) -> None:
    file = whole.parent / "study.toml"
    other = read(file, ["train.learning_rate=1e-5"])
    with pytest.raises(ConfigError, match=r"made by another recipe[\s\S]*train.learning_rate[\s\S]*--overwrite"):
        compare(other)
    with pytest.raises(ConfigError, match=r"no such arm[\s\S]*'grpo'"):
        compare(read(file), only=["gpro"])


@pytest.fixture
def moved(whole: Path, tmp_path: Path) -> Path:
    """The same comparison elsewhere, with everything that it left."""
    shutil.copytree(whole, tmp_path / "study")
    return study(tmp_path)


def test_overwrite_makes_again_what_it_is_told(moved: Path) -> None:
    before = {path.parent.name: path.stat().st_mtime_ns for path in moved.parent.glob("study/runs/*/summary.json")}
    done = compare(read(moved, ["seeds=[0]", "train.max_grad_norm=2.0"]), overwrite=True, only=["naive"])
    after = {path.parent.name: path.stat().st_mtime_ns for path in done.folder.glob("runs/*/summary.json")}
    assert [name for name in before if before[name] != after[name]] == ["naive-0"]
    [naive, grpo] = comparison_of(done.folder)["arms"]
    assert naive["runs"][0]["failed"] is None
    assert grpo["runs"][0]["failed"] == "made by another recipe: train.max_grad_norm"


def test_a_probe_is_measured_once(moved: Path) -> None:
    told = read(moved, ["seeds=[0]", "probe.batches=4", "probe.prompts=2"])
    done = compare(told, only=["naive"])
    measured = done.folder / "runs" / "naive-0" / "probe.json"
    assert json.loads(measured.read_text(encoding="utf-8"))["batches"] == 4
    assert comparison_of(done.folder)["arms"][0]["measures"]["kl"]["values"][0] >= 0
    assert not (done.folder / "runs" / "grpo-0" / "probe.json").exists()
    before = measured.stat().st_mtime_ns
    compare(told, only=["naive"])
    assert measured.stat().st_mtime_ns == before


def test_finished_runs_are_compared_without_training(whole: Path, tmp_path: Path) -> None:
    folders = [whole / "runs" / name for name in ("naive-0", "grpo-0", "grpo-1", "naive-1")]
    done = compare_found(folders, root=str(tmp_path), name="found")
    found = comparison_of(done.folder)
    assert [arm["name"] for arm in found["arms"]] == ["naive", "grpo"]
    assert found["seeds"] == [0, 1]
    assert [len(arm["runs"]) for arm in found["arms"]] == [2, 2]
    finals = found["arms"][0]["measures"]["final"]["values"]
    assert finals == pytest.approx(comparison_of(whole)["arms"][0]["measures"]["final"]["values"], abs=0.3)
    with pytest.raises(ConfigError, match="nothing to compare"):
        compare_found(folders[1:3], root=str(tmp_path))
    with pytest.raises(CheckpointError, match="is not a run"):
        compare_found([folders[0], tmp_path], root=str(tmp_path))


def test_two_at_work_on_one_comparison_are_one_too_many(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(CheckpointError, match="Somebody is at work"), locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_the_end_of_a_log_is_for_people(tmp_path: Path) -> None:
    log = tmp_path / "log.txt"
    log.write_bytes(b"x" * 9000 + b"\n\nfirst\n\x1b[31mlast\xff\n")
    assert last_lines(log).endswith("first / ␛[31mlast�")
    log.write_bytes(b"")
    assert last_lines(log) == "it said nothing"


def test_files_know_what_is_to_do(whole: Path) -> None:
    from scoreline.config.compare.trials import trials

    [trial, *_] = trials(read(whole.parent / "study.toml"), whole)
    assert Files(whole).stages(trial) == []
    assert Files(whole, "batches = 2\n").stages(trial) == ["probe"]
    assert isinstance(read(whole / "comparison.toml"), Comparison)
    assert os.path.isdir(trial.folder)
    assert json.loads((trial.folder / "summary.json").read_text())["tokens"] >= 120
