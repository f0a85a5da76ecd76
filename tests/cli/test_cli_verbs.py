"""What the verbs print, and how they end."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from scoreline.backends.cluster.survey import Node
from scoreline.cli.insight import _print_nodes
from scoreline.config.load import ALGORITHMS, load
from scoreline.config.run import Run
from scoreline.objectives.explain import explain

Scoreline = Callable[..., Result]


def test_help_names_every_verb(scoreline: Scoreline) -> None:
    text = scoreline("--help").output
    assert all(
        f"\n  {verb} " in text for verb in ("train", "sft", "eval", "sample", "report", "explain", "export", "env")
    )


def test_help_needs_nothing_heavy() -> None:
    code = "import sys, scoreline.cli; print({'torch', 'transformers', 'pydantic', 'matplotlib'} & set(sys.modules))"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "set()"


def test_the_module_is_the_command() -> None:
    ended = subprocess.run([sys.executable, "-m", "scoreline", "explain", "gpro"], capture_output=True, text=True)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr.startswith('Unknown algorithm.\n  got:      algorithm = "gpro"')
    assert "did you mean 'grpo'?" in ended.stderr


@pytest.mark.parametrize("name", ALGORITHMS)
def test_explain_says_every_part_and_value(scoreline: Scoreline, name: str) -> None:
    text, facts = scoreline("explain", name).output, json.loads(scoreline("explain", name, "--json").output)
    assert text.startswith(f"{name}\nminimise  sum_it")
    assert facts["algorithm"] == name
    assert [part["part"] for part in facts["parts"]] == [part.part for part in explain(ALGORITHMS[name])]
    for part in facts["parts"]:
        assert part["source"] in text
        assert part["formula"] in text
        assert all(f"{address} = " in text for address in part["values"])


def test_explain_reads_recipes_and_changes(scoreline: Scoreline, recipe: Path) -> None:
    assert "objective.surrogate.high = 0.28" in scoreline("explain", recipe, "objective.surrogate.high=0.28").output
    assert "KL" not in scoreline("explain", "grpo", "objective.kl=none").output.split("minimise")[1].split("\n", 1)[1]


def test_what_explain_prints_is_a_recipe(scoreline: Scoreline) -> None:
    """Each printed line `address = value` is an override that changes nothing."""
    lines = scoreline("explain", "ppo").output.splitlines()
    said = [line.strip().replace(" = ", "=") for line in lines if line.strip().startswith("objective.")]
    assert len(said) > 10
    assert load(Run, [], ["algorithm=ppo", *said]) == load(Run, [], ["algorithm=ppo"])


def test_env(scoreline: Scoreline) -> None:
    facts = json.loads(scoreline("env", "--json").output)
    assert {"python", "torch", "transformers", "scoreline", "device", "threads", "system"} <= facts.keys()
    assert f"torch         {facts['torch']}\n" in scoreline("env").output
    assert re.match(r"\d+\.\d+|not installed: pip install 'scoreline\[ray\]'$", facts["ray"])


def test_env_of_a_cluster_that_does_not_answer(scoreline: Scoreline, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_AUTH_TOKEN", "known")
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    done = scoreline("env", "--address", "127.0.0.1:1")
    assert done.exit_code == 2
    assert re.search(r"Nothing answers at the address|ray is not installed", done.stderr)


def test_nodes_of_a_cluster(capsys: pytest.CaptureFixture[str]) -> None:
    same = {"ray": "2.60.0", "torch": "2.13.0"}
    _print_nodes([Node("10.0.0.1", 8, 0, 2**34, same), Node("10.0.0.2", 32, 8, 2**39, same | {"torch": "2.12.0"})])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "cluster       2 nodes, 40 CPUs, 8 GPUs"
    assert lines[2] == "  10.0.0.1            8 CPUs, 0 GPUs, 16.0 GiB for processes"
    assert lines[4].strip() == "torch 2.12.0, but 2.13.0 on 10.0.0.1"


def test_train_leaves_a_run(scoreline: Scoreline, trained: Path, recipe: Path) -> None:
    assert load(Run, [trained / "config.resolved.toml"]) == load(Run, [recipe])
    assert json.loads((trained / "summary.json").read_text(encoding="utf-8"))["steps"] == 2
    again = scoreline("train", recipe)
    assert again.exit_code == 2
    assert "A run of this name exists" in again.stderr
    assert "Traceback" not in again.output


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["name=../up"], "A run name is one plain folder name"),
        (["train.stepz=3"], "did you mean 'steps'?"),
        (["nothing.toml"], "There is no such recipe"),
        (["train.num_generations=1"], "at least two answers"),
        (["algorithm=ppo", "objective.value=none"], "GAE needs a critic"),
        (["objective.kl.estimator=k1"], "carries no KL signal"),
        (["reward=[]"], "There is no reward"),
        (["model.path=./nowhere"], "The model folder is missing"),
    ],
)
def test_train_refuses(scoreline: Scoreline, recipe: Path, arguments: list[str], said: str) -> None:
    result = scoreline("train", recipe, "name=refused", *arguments)
    assert result.exit_code == 2
    assert said in result.stderr
    assert result.stdout == ""
    assert not (recipe.parent / "runs" / "refused").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_ends_training_with_its_code(recipe: Path, tmp_path: Path, name: str, code: int) -> None:
    """The reward function, in its own process, stops the run that asked it."""
    (tmp_path / "stop.py").write_text(
        "import os, signal\n"
        "def stop(completions):\n"
        f"    os.kill(os.getppid(), signal.{name})\n"
        "    return [0.0 for _ in completions]\n"
    )
    reward = f'reward=["{(tmp_path / "stop.py").as_posix()}:stop"]'
    changes = (reward, f"folder={tmp_path.as_posix()}", "eval.before=false", "name=stopped")
    command = [sys.executable, "-m", "scoreline", "train", str(recipe), *changes]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == code
    assert "after step 1; a checkpoint is in" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert (tmp_path / "stopped" / "checkpoints" / "step-000001" / "hf").is_dir()


@pytest.mark.skipif(sys.platform == "win32", reason="no POSIX signals")
def test_sigterm_before_the_first_step_ends_at_once(recipe: Path, tmp_path: Path) -> None:
    """While answers are evaluated. The process of the reward function ends too."""
    (tmp_path / "stop.py").write_text(
        "import os, signal\n"
        "def stop(completions):\n"
        f"    open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "    os.kill(os.getppid(), signal.SIGTERM)\n"
        "    return [0.0 for _ in completions]\n"
    )
    reward = f'reward=["{(tmp_path / "stop.py").as_posix()}:stop"]'
    changes = (reward, f"folder={tmp_path.as_posix()}", "eval.before=true", "eval.prompts=4", "name=stopped")
    command = [sys.executable, "-m", "scoreline", "train", str(recipe), *changes]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 128 + signal.SIGTERM
    assert "Stopped by SIGTERM outside of a step" in ended.stderr
    assert "Traceback" not in ended.stderr
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_sft_makes_a_model_that_answers(scoreline: Scoreline, recipe: Path, tmp_path: Path) -> None:
    file = tmp_path / "sft.toml"
    file.write_text(
        '[data]\nsource = "arithmetic-demonstrations"\nhabits = {rows = 8}\n[sft]\nsteps = 1\nbatch_size = 4'
    )
    runs = f"folder={tmp_path.as_posix()}"
    assert scoreline("sft", file, "model.path=tiny:init", "model.device=cpu", runs).exit_code == 0
    answers = scoreline("sample", tmp_path / "sft", "3+8=", "-n", 2, "--max-completion-length", 4, "--json")
    assert len(json.loads(answers.output)["answers"]) == 2
    without = scoreline("eval", tmp_path / "sft")
    assert without.exit_code == 2
    assert "Evaluation needs held-out prompts and rewards" in without.stderr
    assert scoreline("eval", tmp_path / "sft", recipe).exit_code == 0


def test_eval_takes_the_runs_own_recipe(scoreline: Scoreline, trained: Path) -> None:
    scores = json.loads(scoreline("eval", trained, "--json").output)
    recorded = json.loads((trained / "summary.json").read_text(encoding="utf-8"))["eval"]["after"]
    assert {name: scores[name] for name in recorded} == recorded
    assert scoreline("eval", trained).output.startswith(f"greedy    {scores['greedy']['mean']:.3f} [")
    assert json.loads(scoreline("eval", trained, "eval.k=3", "--json").output)["k"] == 3


def test_sample_depends_on_the_seed_alone(scoreline: Scoreline, trained: Path) -> None:
    first, again = scoreline("sample", trained, "3+8="), scoreline("sample", trained, "3+8=")
    assert first.output == again.output
    assert first.output != scoreline("sample", trained, "3+8=", "--seed", 1).output
    greedy = json.loads(scoreline("sample", trained, "3+8=", "--temperature", 0, "--json").output)
    assert len(greedy["answers"]) == 4
    assert len(set(greedy["answers"])) == 1
    assert "chat template" in scoreline("sample", trained, "3+8=", "--chat").stderr


def test_report(scoreline: Scoreline, trained: Path, tmp_path: Path) -> None:
    (trained / "report.html").unlink()
    assert scoreline("report", trained).output.strip() == str(trained / "report.html")
    assert (trained / "report.html").is_file()
    nothing = scoreline("report", tmp_path)
    assert nothing.exit_code == 2
    assert "is not a run" in nothing.stderr
