"""A saved step, looked at: the run's own numbers exactly, another objective's by hand, and every bad input."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

from scoreline.config.inspect import Place, inspect
from scoreline.config.launch import finetune, train
from scoreline.config.load import load
from scoreline.config.run import Run, SftRun
from scoreline.config.whatif import what_if
from scoreline.errors import CheckpointError, ConfigError, ScorelineError
from scoreline.objectives.objective import Objective
from scoreline.objectives.returns import ToGo
from scoreline.objectives.signal import Signal
from scoreline.objectives.zoo import ZOO, naive
from scoreline.reports.history import read_history

RECIPE = """
reward = [{function = "arithmetic_answer"}, {function = "format_match", weight = 0.1, options = {pattern = "[05]"}}]

[model]
device = "cpu"

[sampling]
max_completion_length = 16

[train]
steps = 3
prompts_per_step = 4
num_generations = 4
minibatches = 2
learning_rate = 1e-3

[eval]
before = false

[data]
size = 40
held_out = 0

[checkpoint]
every = 2

[watch]
completions_every = 1
completions_saved = "all"
"""

Trained = Callable[..., Path]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """`trained("ppo")` is the folder of a run of three steps; the same words give the same run."""
    root, made = tmp_path_factory.mktemp("inspected"), dict[tuple[str, ...], Path]()
    (root / "small.toml").write_text(RECIPE, encoding="utf-8")

    def run(*changes: str) -> Path:
        if changes not in made:
            said = [f"folder={root.as_posix()}", f"name=run-{len(made)}", *changes]
            made[changes] = train(load(Run, [root / "small.toml"], said))
        return made[changes]

    return run


def copy(run: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run, tmp_path / "copy"))


def metrics(run: Path, step: int) -> dict[str, Any]:
    return next(row for row in read_history(run).metrics if row["step"] == step)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_run_as_itself_is_itself(trained: Trained, step: int) -> None:
    found = what_if(trained("algorithm=grpo"), Place(step), name="grpo")
    assert found.what_if is not None
    assert found.what_if.settings == {}
    assert found.what_if.losses == found.losses
    assert found.what_if.coefficients.cosine == pytest.approx(1.0, abs=1e-12)
    assert found.what_if.coefficients.norm == found.what_if.coefficients.other
    assert any("those it used, exactly" in note for note in found.notes)
    for sample in found.samples:
        assert all(token.told == token.other for token in sample.tokens)


@pytest.mark.parametrize("name", ["grpo", "naive", "ppo"])
def test_the_losses_are_those_of_the_metrics(trained: Trained, name: str) -> None:
    run = trained(f"algorithm={name}")
    for step in (1, 2, 3):
        found, known = inspect(run, Place(step)), metrics(run, step)
        for part, loss in found.losses.items():
            assert loss == pytest.approx(known[f"loss/{part}"], rel=1e-5, abs=1e-6)


def test_a_changing_beta_is_the_steps_own(trained: Trained) -> None:
    run = trained("algorithm=grpo", "train.beta_schedule=linear")
    found = what_if(run, Place(3), name="grpo")
    assert found.beta == pytest.approx(0.04 / 3)
    assert found.what_if is not None
    assert found.what_if.losses == found.losses
    assert found.losses["kl"] == pytest.approx(metrics(run, 3)["loss/kl"], rel=1e-5)


def test_dr_grpo_on_a_grpo_run_by_hand(trained: Trained) -> None:
    found = what_if(trained("algorithm=grpo"), Place(2), name="dr_grpo")
    for sample in found.samples:
        group = [one.reward or 0.0 for one in found.samples if one.group == sample.group]
        gain = (sample.reward or 0.0) - sum(group) / len(group)
        for token in sample.tokens:
            assert token.other is not None
            assert token.other.advantage == pytest.approx(gain, abs=1e-6)
            assert token.other.weight == pytest.approx(1 / (8 * 16)), "two minibatches of 8 answers, 16 tokens at most"
            assert token.other.pull == 0.0
    assert found.what_if is not None
    assert 0 < found.what_if.coefficients.cosine < 1
    assert found.what_if.settings["objective.kl.beta"] == (0.04, None)
    assert found.what_if.settings["objective.credit.0.std"] == ("sample", "none")
    assert found.what_if.settings["objective.aggregate.type"] == ("SequenceMean", "FixedLength")


def test_a_change_alone_is_of_the_runs_own_objective(trained: Trained) -> None:
    found = what_if(trained("algorithm=grpo"), Place(2), changes=["objective.kl.beta=0.4"])
    assert found.what_if is not None
    assert found.what_if.name == "grpo with objective.kl.beta=0.4"
    assert found.what_if.settings == {"objective.kl.beta": (0.04, 0.4)}
    assert found.what_if.losses["kl"] == pytest.approx(10 * found.losses["kl"], rel=1e-5)
    assert found.what_if.losses["policy"] == found.losses["policy"]


def test_some_rows_are_compared_with_the_same_rows(trained: Trained) -> None:
    run = trained("algorithm=grpo", "watch.completions_saved=5")
    found = what_if(run, Place(2), name="dapo")
    assert len(found.samples) == 4, "one whole group"
    assert found.notes[0].startswith("4 of the step's 16 answers were saved")
    assert any(
        "of the saved rows alone; the run's own advantages, computed again, are those it used" in n for n in found.notes
    )
    weights = [token.told.weight for sample in found.samples for token in sample.tokens]
    assert sum(weights) == pytest.approx(1.0), "the four answers are all that there is"
    was = inspect(run, Place(2))
    assert sum(token.told.weight for sample in was.samples for token in sample.tokens) == pytest.approx(0.5)
    same = what_if(run, Place(2), name="grpo")
    assert any(note.startswith("Both sides have the run's weights") for note in same.notes)
    for one, other in zip(was.samples, same.samples, strict=True):
        assert [token.told for token in one.tokens] == [token.other for token in other.tokens]
    assert same.losses == was.losses


def test_a_batch_used_once_has_no_other_old_policy(trained: Trained) -> None:
    found = inspect(trained("algorithm=grpo", "train.minibatches=1"), Place(2))
    assert any("pi_old is pi" in note for note in found.notes)
    assert {token.ratio for sample in found.samples for token in sample.tokens} == {1.0}


def test_what_a_token_was_told_adds_up(trained: Trained) -> None:
    found = inspect(trained("algorithm=grpo"), Place(2))
    second = [token for sample in found.samples for token in sample.tokens if token.ratio != 1.0]
    assert second, "one of the two minibatches met a policy that had moved"
    for token in second:
        if not token.told.clipped:
            assert token.told.policy == pytest.approx(token.ratio * token.told.advantage, rel=1e-4, abs=1e-6)
        assert token.told.coefficient == pytest.approx(token.told.policy + token.told.pull, rel=1e-5, abs=1e-6)
        assert token.reference is not None
        pull = 0.04 * (torch.tensor(token.reference - token.now).exp() - 1)
        assert token.told.pull == pytest.approx(float(pull), rel=1e-3, abs=1e-6)
    rewarded = [token for sample in found.samples for token in sample.tokens if token.reward is not None]
    assert len(rewarded) == 16
    assert all(token.index == len(found.samples[i].tokens) - 1 for i, token in enumerate(rewarded))


def test_steps_end_where_they_end(trained: Trained) -> None:
    run = trained(
        "algorithm=grpo", "reward=[]", 'step_reward=["arithmetic_steps"]', 'eval.reward=["arithmetic_answer"]'
    )
    found = inspect(run)
    ends = 0
    for sample in found.samples:
        marked = [token.index for token in sample.tokens if token.ends is not None]
        assert marked == [step["end"] for step in sample.steps]
        assert all(sample.tokens[step["end"]].reward == pytest.approx(step["reward"]) for step in sample.steps)
        ends += len(marked)
    assert ends > 0


@pytest.mark.parametrize(
    ("algorithm", "name", "said"),
    [
        ("grpo", "ppo", r"V\(s_t\): the run's objective has no critic[\s\S]*train with a critic"),
        ("dapo", "grpo", r"log pi_ref: the run's objective has no KL[\s\S]*--compute lets the run's first model"),
        ("naive", "dapo", r"log pi_old: the run's objective compares with no pi_old[\s\S]*--compute takes the sampler"),
    ],
)
def test_a_column_that_was_not_saved_is_named(trained: Trained, algorithm: str, name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        what_if(trained(f"algorithm={algorithm}"), Place(2), name=name)


def test_the_reference_can_be_computed(trained: Trained) -> None:
    """A run without a KL, looked at as if it had one: the same numbers that a run with a KL of no weight saves."""
    quiet = inspect(trained("algorithm=dapo", "objective.kl.beta=0.0"), Place(2))
    found = what_if(trained("algorithm=dapo"), Place(2), changes=["objective.kl.beta=0.0"], compute=True)
    assert any("log pi_ref was computed now" in note for note in found.notes)
    for one, other in zip(found.samples, quiet.samples, strict=True):
        assert one.answer == other.answer
        for a, b in zip(one.tokens, other.tokens, strict=True):
            assert a.reference == pytest.approx(b.reference, abs=1e-5)


def test_the_samplers_record_stands_in_for_the_old_policy(trained: Trained) -> None:
    found = what_if(trained("algorithm=naive"), Place(2), name="dapo", compute=True)
    assert any("log pi_old is the sampler's record" in note for note in found.notes)
    assert all(token.old == token.sampler for sample in found.samples for token in sample.tokens)
    with pytest.raises(ConfigError, match="no critic"):
        what_if(trained("algorithm=naive"), Place(2), name="ppo", compute=True)


def test_a_critics_run_through_a_group(trained: Trained) -> None:
    found = what_if(trained("algorithm=ppo"), Place(2), name="grpo")
    assert any("grad V" in note for note in found.notes)
    assert found.samples[0].tokens[0].value is not None
    assert found.what_if is not None
    assert -1 < found.what_if.coefficients.cosine < 1


@pytest.mark.parametrize(
    ("step", "where"), [(1, "the run's first model, tiny"), (3, "checkpoint step-000002"), (2, "the run's first model")]
)
def test_the_gradients_of_the_nearest_weights(trained: Trained, step: int, where: str) -> None:
    found = what_if(trained("algorithm=grpo"), Place(step), name="grpo", weights=True)
    assert found.what_if is not None
    assert found.what_if.checkpoint is not None
    assert found.what_if.checkpoint.startswith(where)
    assert found.what_if.gradient is not None
    assert found.what_if.gradient.cosine == pytest.approx(1.0, abs=1e-6)
    other = what_if(trained("algorithm=grpo"), Place(step), name="dr_grpo", weights=True).what_if
    assert other is not None
    assert other.gradient is not None
    assert other.gradient.cosine < 1.0
    assert other.gradient.norm == pytest.approx(found.what_if.gradient.norm, rel=1e-5)


def test_an_unfinished_run_shows_what_it_has(trained: Trained, tmp_path: Path) -> None:
    run = copy(trained("algorithm=grpo"), tmp_path)
    (run / "summary.json").unlink()
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "rew')
    for name in ("step-000003.jsonl", "step-000003.safetensors"):
        (run / "completions" / name).unlink()
    assert inspect(run).step == 2


def damaged(run: Path, what: str) -> None:
    lines, tensors = (run / "completions" / f"step-000002.{kind}" for kind in ("jsonl", "safetensors"))
    rows = lines.read_text(encoding="utf-8").splitlines(keepends=True)
    if what == "missing tensors":
        tensors.unlink()
    elif what == "missing lines":
        lines.unlink()
    elif what == "torn tensors":
        tensors.write_bytes(tensors.read_bytes()[:100])
    elif what == "broken line":
        lines.write_text("".join([rows[0], "{]\n", *rows[2:]]), encoding="utf-8")
    elif what == "torn line":
        lines.write_text("".join(rows)[:-9], encoding="utf-8")
    elif what == "strange line":
        lines.write_text("".join([*rows[:3], '{"prompt": "3+8="}\n', *rows[4:]]), encoding="utf-8")
    elif what == "broken metrics":
        (run / "metrics.jsonl").write_text("nothing\n", encoding="utf-8")
    elif what == "another version":
        file = run / "config.resolved.toml"
        file.write_text(file.read_text(encoding="utf-8").replace("[train]", "[train]\nghost = 1"), encoding="utf-8")


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing tensors", r"kept no tensors of step 2[\s\S]*step 1, 3"),
        ("missing lines", r"answers of step 2 are missing"),
        ("torn tensors", r"step-000002.safetensors cannot be read"),
        ("broken line", r"step-000002.jsonl, line 2: broken"),
        ("torn line", r"do not belong together[\s\S]*15 lines"),
        ("strange line", r"line 4 without completion, reward"),
        ("broken metrics", r"metrics.jsonl, line 1: broken"),
        ("another version", r"cannot read the run's configuration[\s\S]*ghost"),
    ],
)
def test_damaged_runs_say_what_is_wrong(trained: Trained, tmp_path: Path, what: str, said: str) -> None:
    run = copy(trained("algorithm=grpo"), tmp_path)
    damaged(run, what)
    with pytest.raises(CheckpointError, match=said):
        inspect(run, Place(2))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place(9), r"no tensors of step 9[\s\S]*step 1, 2, 3"),
        (Place(2, 16), r"no such sample in step 2[\s\S]*16[\s\S]*0 to 15"),
        (Place(2, -1), r"no such sample"),
        (Place(2, 0, 99), r"no such token in sample 0[\s\S]*99"),
        (Place(2, None, 1), r"A token is one of a sample"),
    ],
)
def test_places_that_are_not_there(trained: Trained, place: Place, said: str) -> None:
    with pytest.raises(ScorelineError, match=said):
        inspect(trained("algorithm=grpo"), place)


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("gpro", [], "did you mean 'grpo'"),
        (None, ["train.steps=5"], r"changes the objective alone[\s\S]*train.steps=5"),
        (None, ["objective.kl.betta=1"], "did you mean 'beta'"),
        ("grpo", ["objective.kl.estimator=k1"], "carries no KL signal"),
    ],
)
def test_objectives_that_are_none(trained: Trained, name: str | None, changes: list[str], said: str) -> None:
    with pytest.raises(ScorelineError, match=said):
        what_if(trained("algorithm=grpo"), Place(2), name=name, changes=changes)


def test_a_group_of_one_is_refused(trained: Trained) -> None:
    run = trained("algorithm=naive", "train.num_generations=1", "train.minibatches=1")
    with pytest.raises(ConfigError, match="one answer to each"):
        what_if(run, name="dapo")


def test_folders_that_are_no_training_run(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="is not a run"):
        inspect(tmp_path)
    said = 'data={source="arithmetic-demonstrations", habits={rows=8}}'
    tuned = finetune(load(SftRun, [], ["model.path=tiny:init", f"folder={tmp_path.as_posix()}", "sft.steps=1", said]))
    with pytest.raises(CheckpointError, match="sampled no answers"):
        inspect(tuned)


@dataclass(frozen=True)
class Doubled:
    """A part of one's own: twice the reward to go."""

    formula: ClassVar[str] = "A = 2 R"
    source: ClassVar[str] = "here"

    def __call__(self, signal: Signal) -> Signal:
        carried = ToGo()(signal)
        return replace(carried, rewards=2 * carried.rewards)


def test_objectives_with_parts_of_ones_own(trained: Trained, tmp_path: Path) -> None:
    own = replace(naive, credit=(Doubled(),))
    recipe = load(Run, [trained("algorithm=naive") / "config.resolved.toml"], [f"folder={tmp_path.as_posix()}"])
    run = train(replace(recipe, algorithm="doubled", objective=own))
    with pytest.raises(CheckpointError, match=r"cannot read the run's configuration[\s\S]*objective=\.\.\."):
        inspect(run)
    found = what_if(run, Place(1), objective=own, other=ZOO["naive"], name="naive")
    assert found.objective == "doubled"
    assert found.what_if is not None
    assert found.what_if.coefficients.cosine == pytest.approx(1.0)
    assert found.what_if.coefficients.norm == pytest.approx(2 * found.what_if.coefficients.other)
    assert isinstance(own, Objective)
    json.dumps(found.only(0, None))


def test_naive_and_rloo_on_a_grpo_run_by_hand(trained: Trained) -> None:
    """REINFORCE tells each token the reward; RLOO what the answer, charged for its KL, has above the others' mean."""
    run = trained("algorithm=grpo")
    plain, charged = (what_if(run, Place(2), name=name) for name in ("naive", "rloo"))
    earned = {}
    for sample in charged.samples:
        kl = sum((token.old or 0.0) - (token.reference or 0.0) for token in sample.tokens)
        earned[sample.index] = (sample.reward or 0.0) - 0.05 * kl
    for one, other in zip(plain.samples, charged.samples, strict=True):
        rest = [earned[s.index] for s in charged.samples if s.group == one.group and s.index != one.index]
        gain = earned[one.index] - sum(rest) / len(rest)
        for a, b in zip(one.tokens, other.tokens, strict=True):
            assert a.other is not None
            assert b.other is not None
            assert a.other.coefficient == pytest.approx(one.reward or 0.0, abs=1e-6)
            assert b.other.coefficient == pytest.approx(gain, abs=1e-5)
            assert a.other.weight == b.other.weight == 1 / 8
