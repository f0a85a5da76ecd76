"""Everything that a reward function can do wrong, and what the error says about it."""

from __future__ import annotations

import datetime
import os
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from scoreline.environments.rewards import RewardSpec, Scorer
from scoreline.errors import ConfigError, RewardError
from scoreline.types import Prompt

PROMPTS = (Prompt("train:7", "3+8=", {"answer": "11"}), Prompt("train:9", "1+1=", {"answer": "2"}))


def write(folder: Path, code: str, name: str = "mine.py") -> str:
    (folder / name).write_text(textwrap.dedent(code))
    return str(folder / name)


def fails(spec: RewardSpec, message: str, prompts: tuple[Prompt, ...] = PROMPTS) -> None:
    with Scorer([spec]) as scorer:
        scorer.check(prompts)
        with pytest.raises(RewardError, match=f"(?s){message}"):
            scorer.score(prompts, ["#11"] * len(prompts), [[1]] * len(prompts))


def fails_check(spec: RewardSpec, message: str, prompts: tuple[Prompt, ...] = PROMPTS) -> None:
    with Scorer([spec]) as scorer, pytest.raises(RewardError, match=f"(?s){message}"):
        scorer.check(prompts)


RETURNS = {
    "[1.0]": "'bad' must return a list with one value for each completion.*1 values for 2 completions",
    "[1, 2, 3]": "3 values for 2 completions",
    "1.0": "'bad' must return a list.*float 1.0",
    "None": "'bad' must return a list.*NoneType None",
    "'ab'": "'bad' must return a list.*str 'ab'",
    "{0: 1, 1: 2}": "'bad' must return a list.*dict",
    "[1.0, float('nan')]": r"'bad' returned no number for row 1 \(prompt 'train:9'\).*got: +nan.*a finite number",
    "[float('-inf'), 1.0]": r"'bad' returned no number for row 0 \(prompt 'train:7'\).*got: +-inf",
    "[1.0, '1.0']": r"'bad' returned no number for row 1 \(prompt 'train:9'\).*got: +str '1.0'",
    "[1.0, [1.0]]": r"row 1 \(prompt 'train:9'\).*list \[1.0\]",
    "[10**400, 1]": r"row 0 \(prompt 'train:7'\).*int 1000",
}


@pytest.mark.parametrize("value", RETURNS)
def test_a_wrong_return_value_here(value: str) -> None:
    def bad(completions: list[str]) -> Any:
        return eval(value)  # noqa: S307

    fails(RewardSpec(bad), RETURNS[value])


@pytest.mark.parametrize("value", ["[1.0]", "None", "[1.0, float('nan')]", "[1.0, '1.0']"])
def test_a_wrong_return_value_in_another_process(tmp_path: Path, value: str) -> None:
    source = write(tmp_path, f"def bad(completions): return {value}")
    fails(RewardSpec(f"{source}:bad"), RETURNS[value])


RAISING = """
    def helper(text):
        return int(text)
    def bad(completions, **columns):
        return [helper(text) for text in completions]
    async def later(completions):
        return [helper(text) for text in completions]
    def leave(completions):
        raise SystemExit(3)
"""


@pytest.mark.parametrize("name", ["bad", "later"])
def test_an_error_names_function_and_line(tmp_path: Path, name: str) -> None:
    source = write(tmp_path, RAISING)
    fails(
        RewardSpec(f"{source}:{name}"),
        rf"'{name}' raised an error.*ValueError: invalid literal for int\(\) with base 10: '#11'.*"
        r"mine.py:\d in .*helper\(text\).*mine.py:3 in helper: return int\(text\)\n",
    )


def test_an_error_of_a_callable_names_function_and_line() -> None:
    def bad(completions: list[str]) -> list[float]:
        raise KeyError("gold")

    fails(RewardSpec(bad), r"'bad' raised an error.*KeyError: 'gold'.*test_reward_faults.py:\d+ in bad: raise KeyError")


def test_leaving_is_an_error(tmp_path: Path) -> None:
    fails(RewardSpec(f"{write(tmp_path, RAISING)}:leave"), "'leave' raised an error.*SystemExit: 3")


HANGING = """
    import os, pathlib, subprocess, time
    pids = pathlib.Path(__file__).with_name("pids")
    def hang(completions):
        child = subprocess.Popen(["sleep", "600"])
        pids.write_text(f"{os.getpid()} {child.pid}")
        while True:
            pass
    def first(completions):
        if not pids.exists():
            pids.write_text("")
            time.sleep(600)
        return [1.0, 1.0]
    def die(completions):
        os._exit(7)
    def abort(completions):
        os.abort()
"""


def test_a_hang_is_killed_with_its_children(tmp_path: Path) -> None:
    source = write(tmp_path, HANGING)
    start = time.monotonic()
    fails(RewardSpec(f"{source}:hang", timeout_s=1.0), "'hang' did not answer within 1 s.*timeout_s")
    assert time.monotonic() - start < 30
    worker, child = map(int, (tmp_path / "pids").read_text().split())
    for _ in range(100):
        if not running(worker) and not running(child):
            return
        time.sleep(0.05)
    pytest.fail("still running")


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_after_a_hang_the_next_call_starts_afresh(tmp_path: Path) -> None:
    with Scorer([RewardSpec(f"{write(tmp_path, HANGING)}:first", timeout_s=1.0)]) as scorer:
        with pytest.raises(RewardError, match="'first' did not answer within 1 s"):
            scorer.score(PROMPTS, ["a", "b"], [[1], [1]])
        assert [reward.total for reward in scorer.score(PROMPTS, ["a", "b"], [[1], [1]])] == [1.0, 1.0]


def test_a_hang_of_a_callable_is_left_behind() -> None:
    def hang(completions: list[str]) -> list[float]:
        time.sleep(5)
        return [0.0, 0.0]

    fails(
        RewardSpec(hang, timeout_s=0.1),
        r"'hang' did not answer within 0.1 s.*move it into a file, where it can be killed",
    )


def test_a_pattern_that_never_ends_is_killed() -> None:
    prompts = (Prompt("train:0", "a"),)
    spec = RewardSpec("format_match", timeout_s=1.0, options={"pattern": r"^(a+)+$"})
    with Scorer([spec]) as scorer, pytest.raises(RewardError, match="'format_match' did not answer within 1 s"):
        scorer.score(prompts, ["a" * 40 + "b"], [[1]])


def test_a_dead_process_is_named(tmp_path: Path) -> None:
    source = write(tmp_path, HANGING)
    fails(RewardSpec(f"{source}:die"), "process of the reward function 'die' died.*exit code 7")
    fails(RewardSpec(f"{source}:abort"), "process of the reward function 'abort' died.*signal SIGABRT")


def test_a_module_that_hangs_when_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scoreline.environments.functions.START_TIMEOUT_S", 2.0)
    source = write(tmp_path, "import time\ntime.sleep(600)")
    fails_check(RewardSpec(f"{source}:f"), "'f' did not answer within 2 s.*where the module is imported")


def test_a_pattern_that_is_none() -> None:
    fails(RewardSpec("format_match", options={"pattern": "("}), "'format_match' raised an error.*error: missing")


IMPORTS = {
    "def score(completions): return []": r"'scor' cannot be imported.*has no 'scor'; did you mean 'score'",
    "scor = 3": "'scor' cannot be imported.*is no function but int",
    "import nothing_of_this_name": "'scor' cannot be imported.*ModuleNotFoundError: No module named 'nothing_of_this",
    "def scor(completions:": r"'scor' cannot be imported.*mine.py.*line 1.*SyntaxError",
    "1 / 0": "'scor' cannot be imported.*ZeroDivisionError.*mine.py:1 in <module>: 1 / 0",
    "raise SystemExit": "'scor' cannot be imported.*SystemExit",
}


@pytest.mark.parametrize("code", IMPORTS)
def test_a_function_that_cannot_be_imported(tmp_path: Path, code: str) -> None:
    fails_check(RewardSpec(f"{write(tmp_path, code)}:scor"), IMPORTS[code])


def test_a_package_that_does_not_exist() -> None:
    fails_check(RewardSpec("no_such_package.score"), f"'score' cannot be imported.*no_such_package.*{os.getcwd()}")


NAMES = {
    "exact_mach": "Unknown reward function.*exact_mach.*did you mean 'exact_match'",
    "models/reward": "Unknown reward function.*models/reward.*a reward model's folder",
    "": "Unknown reward function",
    "none.py:score": "file of a reward function does not exist.*none.py:score.*relative paths start at",
    "mine.py": "Which function of the file.*mine.py:FUNCTION",
}


@pytest.mark.parametrize("name", NAMES)
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(RewardError, match=f"(?s){NAMES[name]}"):
        Scorer([RewardSpec(name)])


def test_a_missing_column_is_found_before_the_first_step() -> None:
    prompts = (PROMPTS[0], Prompt("train:9", "1+1=", {"solution": "2"}))
    fails_check(
        RewardSpec("exact_match"),
        "'exact_match' wants 'answer', and prompt 'train:9' has no such column.*columns: solution.*data.columns",
        prompts,
    )


def test_a_missing_column_of_a_file(tmp_path: Path) -> None:
    source = write(tmp_path, "def mine(completions, gold, note=None): return []")
    fails_check(RewardSpec(f"{source}:mine"), "'mine' wants 'gold', and prompt 'train:7' has no such.*columns: answer")


def test_a_missing_option_is_found_before_the_first_step() -> None:
    fails_check(
        RewardSpec("soft_overlong", options={"buffer": 4}), "'soft_overlong' wants 'max_length'.*in the options"
    )


def test_an_unknown_option_is_found_before_the_first_step() -> None:
    spec = RewardSpec("numeric_match", options={"tolerence": 0.1})
    fails_check(spec, "'numeric_match' has no option 'tolerence'.*did you mean 'tolerance'")
    fails_check(RewardSpec(lambda completions: [], options={"a": 1}), "has no option 'a'.*no options")


def test_a_column_that_is_no_json(tmp_path: Path) -> None:
    source = write(tmp_path, "def mine(completions, **columns): return [0.0]")
    prompts = (Prompt("train:0", "a", {"day": datetime.date(2026, 1, 1)}),)
    fails_check(
        RewardSpec(f"{source}:mine"), "column 'day' cannot be sent to the reward function 'mine'.*date", prompts
    )


def test_no_reward_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"There is no reward(?s:.*)arithmetic_answer(?s:.*)arithmetic_steps"):
        Scorer([])


STEPS = (("3+8=11;", "#11"), ("#2",))
STEP_RETURNS = {
    "[[1.0, 0.0]]": "'bad' must return a list with one list for each completion.*1 lists for 2 completions",
    "1.0": "'bad' must return a list.*float 1.0",
    "[[1.0, 0.0], 1.0]": r"'bad' must return one value for each step, and did not for row 1 \(prompt 'train:9'\).*"
    "got: +float 1.0.*a list with a number or None for each step",
    "[None, [1.0]]": r"and did not for row 0 \(prompt 'train:7'\).*got: +NoneType None",
    "['ab', [1.0]]": r"and did not for row 0 \(prompt 'train:7'\).*got: +str 'ab'",
    "[[1.0, 0.0], [1.0, 2.0]]": r"and did not for row 1 \(prompt 'train:9'\).*got: +2 values for 1 steps",
    "[[1.0], [1.0]]": r"and did not for row 0 \(prompt 'train:7'\).*got: +1 values for 2 steps",
    "[[1.0, float('nan')], [0]]": r"returned no number for step 1 of row 0 \(prompt 'train:7'\).*got: +nan.*finite",
    "[[1.0, 0.0], [float('inf')]]": r"returned no number for step 0 of row 1 \(prompt 'train:9'\).*got: +inf",
    "[[1.0, '1'], [0]]": r"returned no number for step 1 of row 0 \(prompt 'train:7'\).*got: +str '1'",
    "[[1.0, [1.0]], [0]]": r"returned no number for step 1 of row 0 .*got: +list \[1.0\]",
}


def fails_for_steps(spec: RewardSpec, message: str) -> None:
    with Scorer([], steps=[spec]) as scorer:
        scorer.check(PROMPTS)
        with pytest.raises(RewardError, match=f"(?s){message}"):
            scorer.score(PROMPTS, ["3+8=11;#11", "#2"], [[1], [1]], STEPS)


@pytest.mark.parametrize("value", STEP_RETURNS)
def test_a_wrong_return_value_for_steps_here(value: str) -> None:
    def bad(steps: list[list[str]]) -> Any:
        return eval(value)  # noqa: S307

    fails_for_steps(RewardSpec(bad), f"The step reward function .*{STEP_RETURNS[value]}")


@pytest.mark.parametrize("value", ["[[1.0, 0.0], 1.0]", "[[1.0], [1.0]]", "[[1.0, float('nan')], [0]]"])
def test_a_wrong_return_value_for_steps_in_another_process(tmp_path: Path, value: str) -> None:
    source = write(tmp_path, f"def bad(steps): return {value}")
    fails_for_steps(RewardSpec(f"{source}:bad"), STEP_RETURNS[value])


def test_a_wrong_return_value_of_a_judge_of_steps() -> None:
    scorer = Scorer([], judges={"prm": lambda steps: [[0.5]] * 2}, steps=[RewardSpec("prm")])
    with pytest.raises(RewardError, match=r"step reward function 'prm' .* row 0 \(prompt 'train:7'\)"):
        scorer.score(PROMPTS, ["3+8=11;#11", "#2"], [[1], [1]], STEPS)


def test_a_step_reward_that_raises_or_hangs_is_named(tmp_path: Path) -> None:
    code = "import time\ndef broken(steps): return [len(row).x for row in steps]\ndef hang(steps): time.sleep(600)"
    source = write(tmp_path, code)
    fails_for_steps(RewardSpec(f"{source}:broken"), "step reward function 'broken' raised an error.*mine.py:2 in")
    fails_for_steps(
        RewardSpec(f"{source}:hang", timeout_s=1.0),
        "step reward function 'hang' did not answer within 1 s.*the step reward's timeout_s",
    )


STEP_NAMES = {
    "arithmetic_step": "Unknown step reward function.*got: +arithmetic_step\n.*did you mean 'arithmetic_steps'",
    "arithmetic_answer": "Unknown step reward function.*arithmetic_answer, which is a reward function",
    "models/prm": "Unknown step reward function.*a process reward model's folder",
    "none.py:f": "file of a step reward function does not exist",
}


@pytest.mark.parametrize("name", STEP_NAMES)
def test_an_unknown_name_of_a_step_reward(name: str) -> None:
    with pytest.raises(RewardError, match=f"(?s){STEP_NAMES[name]}"):
        Scorer([], steps=[RewardSpec(name)])


def test_a_step_reward_is_no_reward_of_the_whole_answer() -> None:
    with pytest.raises(RewardError, match=r"(?s)Unknown reward function.*arithmetic_steps, which is a step reward fun"):
        Scorer([RewardSpec("arithmetic_steps")])


def test_a_step_reward_is_checked_before_the_first_step(tmp_path: Path) -> None:
    source = write(tmp_path, "def whole(completions): return []\ndef mine(steps, gold, scale=1): return []")
    messages = [
        (RewardSpec(f"{source}:whole"), "step reward function 'whole' takes no steps.*got: +completions"),
        (RewardSpec(f"{source}:mine"), "step reward function 'mine' wants 'gold', and prompt 'train:7' has no such"),
        (RewardSpec(f"{source}:nine"), "step reward function 'nine' cannot be imported"),
        (RewardSpec("arithmetic_steps", options={"mising": 0}), "has no option 'mising'.*accepted: missing.*'missing'"),
    ]
    for spec, message in messages:
        with Scorer([], steps=[spec]) as scorer, pytest.raises(RewardError, match=f"(?s){message}"):
            scorer.check(PROMPTS)


def test_an_answer_without_a_step_is_refused_where_it_must_not_be() -> None:
    long = " " * 90
    scorer = Scorer([], steps=[RewardSpec("arithmetic_steps")], none="error")
    with pytest.raises(RewardError, match=r"row 1 \(prompt 'train:9'\) has no step") as caught:
        scorer.score(PROMPTS, ["#11", long], [[1], [1]], [["#11"], []])
    assert "got:      '" + " " * 30 + " ... " in str(caught.value)
    assert long not in str(caught.value)


def test_the_steps_of_every_answer_are_needed() -> None:
    with Scorer([], steps=[RewardSpec("arithmetic_steps")]) as scorer, pytest.raises(ValueError, match="shorter"):
        scorer.score(PROMPTS, ["#11", "#2"], [[1], [1]])


@pytest.mark.parametrize("key", ["weight", "offset"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weight_and_offset_are_finite(key: str, value: float) -> None:
    with pytest.raises(ConfigError, match="weight and offset must be finite"):
        RewardSpec("exact_match", **{key: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("timeout", [0.0, -1.0, float("nan")])
def test_a_deadline_is_above_zero(timeout: float) -> None:
    with pytest.raises(ConfigError, match="timeout_s must be above 0"):
        RewardSpec("exact_match", timeout_s=timeout)
