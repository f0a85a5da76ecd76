"""Scoring: what functions get, where they run, and how their values add up."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scoreline.environments.rewards import RewardSpec, Scorer, total
from scoreline.errors import RewardError
from scoreline.types import Prompt, Reward

PROMPTS = (Prompt("train:0", "3+8=", {"answer": "11"}), Prompt("train:1", "1+1=", {"answer": "2", "extra": 5}))
IDS = ((1, 2), (3,))


def write(folder: Path, code: str, name: str = "mine.py") -> str:
    (folder / name).write_text(textwrap.dedent(code))
    return str(folder / name)


def score(*specs: RewardSpec, completions: tuple[str, str] = ("#11", "#3"), **judges: Any) -> list[Reward]:
    with Scorer(specs, judges=judges) as scorer:
        scorer.check(PROMPTS)
        return scorer.score(PROMPTS, completions, IDS)


def totals(*specs: RewardSpec, **judges: Any) -> list[float | None]:
    return [reward.total for reward in score(*specs, **judges)]


def test_a_built_in_by_name() -> None:
    assert score(RewardSpec("arithmetic_answer")) == [
        Reward(1.0, {"arithmetic_answer": 1.0}),
        Reward(0.0, {"arithmetic_answer": 0.0}),
    ]


def test_weights_add_up_and_parts_stay_as_they_were() -> None:
    rewards = score(
        RewardSpec("arithmetic_answer", weight=2.0),
        RewardSpec("format_match", weight=0.5, options={"pattern": "#"}),
        RewardSpec("format_match", weight=-1.0, options={"pattern": "3$"}),
    )
    assert rewards[0] == Reward(2.5, {"arithmetic_answer": 1.0, "format_match": 1.0, "format_match-2": 0.0})
    assert rewards[1] == Reward(-0.5, {"arithmetic_answer": 0.0, "format_match": 1.0, "format_match-2": 1.0})


def test_marks_out_of_100_are_a_weight_and_an_offset() -> None:
    right, wrong = score(RewardSpec("arithmetic_answer", weight=30.0, offset=60.0))
    assert (right.total, wrong.total) == (90.0, 60.0)
    assert (right.parts, wrong.parts) == ({"arithmetic_answer": 1.0}, {"arithmetic_answer": 0.0})


def test_an_answer_without_a_score_has_no_offset_either() -> None:
    assert totals(RewardSpec(lambda completions: [0.5, None], offset=60.0)) == [60.5, None]


def test_rewards_end_long_before_sums_of_them_do() -> None:
    assert totals(RewardSpec(lambda completions: [1e30, -1e30])) == [1e30, -1e30]
    for spec in (
        RewardSpec(lambda completions: [1.0, 1e200]),
        RewardSpec(lambda completions: [0.0, 1.0], weight=1e200),
    ):
        with pytest.raises(RewardError, match=r"too large[\s\S]*got:      1e\+200, of .* = (1e\+200|1)\n[\s\S]*1e\+30"):
            totals(spec)


def test_none_is_left_out_of_the_total() -> None:
    specs = (RewardSpec(lambda completions: [None, None]), RewardSpec(lambda completions: [0.5, None], weight=2.0))
    assert totals(*specs) == [1.0, None]


@given(st.dictionaries(st.sampled_from("abc"), st.none() | st.floats(-10, 10)))
def test_total_is_the_weighted_and_shifted_sum_of_the_numbers(parts: dict[str, float | None]) -> None:
    told = {"a": (1.0, 0.0), "b": (-2.0, 3.0), "c": (0.0, -0.5)}
    specs = {name: RewardSpec(name, weight=weight, offset=offset) for name, (weight, offset) in told.items()}
    numbers = {name: part for name, part in parts.items() if part is not None}
    expected = sum(told[name][0] * part + told[name][1] for name, part in numbers.items()) if numbers else None
    assert total(parts, specs) == expected


def test_functions_get_trl_arguments() -> None:
    seen: dict[str, Any] = {}

    def spy(prompts: Any, completions: Any, completion_ids: Any, **columns: Any) -> list[float]:
        seen.update(prompts=prompts, completions=completions, completion_ids=completion_ids, **columns)
        return [0.0, 0.0]

    score(RewardSpec(spy, options={"power": 2}))
    assert callable(seen.pop("log_metric"))
    assert callable(seen.pop("log_extra"))
    assert seen == {
        "prompts": ["3+8=", "1+1="],
        "completions": ["#11", "#3"],
        "completion_ids": [[1, 2], [3]],
        "answer": ["11", "2"],
        "extra": [None, 5],
        "power": 2,
    }


def test_messages_are_answered_by_messages() -> None:
    seen: list[Any] = []

    def spy(prompts: Any, completions: Any) -> list[float]:
        seen.extend([prompts, completions])
        return [1.0]

    turn = {"role": "user", "content": "3+8?"}
    with Scorer([RewardSpec(spy)]) as scorer:
        scorer.score([Prompt("train:0", (turn,))], ["11"], [[1]])
    assert seen == [[[turn]], [[{"role": "assistant", "content": "11"}]]]


CORRECT = """
    import os
    from neighbour import SCALE
    calls = 0
    def correct(completions, answer):
        global calls
        calls += 1
        print("this is no protocol", flush=True)
        os.system("echo nor is this")
        return [SCALE * (text == "#" + right) for text, right in zip(completions, answer)]
    def where(completions):
        return [os.getpid(), calls]
    async def slow(completions, **columns):
        return [len(text) for text in completions]
    class Grader:
        @staticmethod
        def grade(completions):
            return [True, False]
"""


@pytest.fixture
def correct(tmp_path: Path) -> str:
    write(tmp_path, "SCALE = 3", "neighbour.py")
    return write(tmp_path, CORRECT)


def test_a_function_of_a_file(correct: str) -> None:
    assert score(RewardSpec(f"{correct}:correct")) == [Reward(3.0, {"correct": 3.0}), Reward(0.0, {"correct": 0.0})]


def test_an_async_function_of_a_file(correct: str) -> None:
    assert totals(RewardSpec(f"{correct}:slow")) == [3.0, 2.0]


def test_a_method_of_a_file(correct: str) -> None:
    assert score(RewardSpec(f"{correct}:Grader.grade"))[0] == Reward(1.0, {"grade": 1.0})


def test_a_function_of_a_package(correct: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert totals(RewardSpec("mine.correct")) == [3.0, 0.0]


def test_an_imported_callable_runs_in_its_own_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "import os\ndef pid(completions): return [os.getpid()] * 2", "pid_reward.py")
    monkeypatch.syspath_prepend(tmp_path)
    function = importlib.import_module("pid_reward").pid
    (first, _) = totals(RewardSpec(function))
    assert first != os.getpid()


def test_the_process_is_kept_between_calls_and_ends_with_the_scorer(correct: str) -> None:
    with Scorer([RewardSpec(f"{correct}:where")]) as scorer:
        pids = {scorer.score(PROMPTS, ("a", "b"), IDS)[0].total for _ in range(3)}
        assert len(pids) == 1
        pid = pids.pop()
        assert pid
        os.kill(int(pid), 0)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid), 0)


def test_a_closed_scorer_starts_again(correct: str) -> None:
    scorer = Scorer([RewardSpec(f"{correct}:correct")])
    first = scorer.score(PROMPTS, ("#11", "#3"), IDS)
    scorer.close()
    assert scorer.score(PROMPTS, ("#11", "#3"), IDS) == first
    scorer.close()


def test_what_a_function_prints_goes_to_standard_error(correct: str, capfd: pytest.CaptureFixture[str]) -> None:
    totals(RewardSpec(f"{correct}:correct"))
    out, err = capfd.readouterr()
    assert out == ""
    assert err == "this is no protocol\nnor is this\n"


def test_a_callable_that_cannot_be_imported_runs_here() -> None:
    threads: list[threading.Thread] = []

    async def here(completions: list[str]) -> list[float]:
        threads.append(threading.current_thread())
        return [1.0, 2.0]

    assert totals(RewardSpec(here)) == [1.0, 2.0]
    assert threads[0].daemon


def test_a_callable_object() -> None:
    class Judge:
        def __call__(self, completions: list[str]) -> list[float]:
            return [1.0, 1.0]

    assert score(RewardSpec(Judge()))[0] == Reward(1.0, {"Judge": 1.0})


def test_a_judge_by_the_name_that_the_caller_gives() -> None:
    with Scorer([RewardSpec("models/rm")], judges={"models/rm": lambda completions: [0.25, 0.75]}) as scorer:
        scorer.check(PROMPTS)
        assert scorer.names == ("rm",)
        assert scorer.score(PROMPTS, ("a", "b"), IDS)[1] == Reward(0.75, {"rm": 0.75})


def test_log_metric_and_log_extra_reach_the_scorer(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        """
        def logging(completions, log_metric, log_extra):
            log_metric("share", 1)
            log_extra("seen", completions)
            return [0, 0]
        """,
    )
    with Scorer([RewardSpec(f"{source}:logging")]) as scorer:
        scorer.check(PROMPTS)
        scorer.score(PROMPTS, ("a", "b"), IDS)
        assert scorer.logged == {"share": 1.0}
        assert scorer.extra == {"seen": ["a", "b"]}


def test_numbers_of_other_kinds_are_numbers() -> None:
    class Scalar:
        def __float__(self) -> float:
            return 0.5

    functions: list[Callable[..., Any]] = [
        lambda completions: (True, False),
        lambda completions: iter([1, 0]),
        lambda completions: [Scalar(), Scalar()],
    ]
    assert [totals(RewardSpec(function)) for function in functions] == [[1.0, 0.0], [1.0, 0.0], [0.5, 0.5]]


def test_no_answers_no_rewards() -> None:
    with Scorer([RewardSpec("exact_match")]) as scorer:
        assert scorer.score([], [], []) == []


def test_a_large_step_passes_the_pipe(correct: str) -> None:
    prompts, completions = [PROMPTS[0]] * 2000, ["\u00e9" * 500] * 2000
    with Scorer([RewardSpec(f"{correct}:slow")]) as scorer:
        rewards = scorer.score(prompts, completions, [[1]] * 2000)
    assert {reward.total for reward in rewards} == {500.0}


def test_the_worker_ends_with_its_parent(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        """
        import os, pathlib, time
        def hang(completions):
            pathlib.Path(__file__).with_name("pid").write_text(str(os.getpid()))
            time.sleep(600)
        """,
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import sys; from scoreline.environments.rewards import *;"
            "Scorer([RewardSpec(sys.argv[1])]).score([Prompt('a', 'a')], ['a'], [[1]])",
            f"{source}:hang",
        ],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    pid = tmp_path / "pid"
    wait_until(lambda: pid.exists() and bool(pid.read_text()))
    parent.kill()
    parent.wait()
    wait_until(lambda: not alive(int(pid.read_text())))


def wait_until(condition: Callable[[], bool]) -> None:
    pause = threading.Event()
    for _ in range(600):
        if condition():
            return
        pause.wait(0.05)
    pytest.fail("not within 30 s")


def alive(pid: int) -> bool:
    """Whether the process runs; one that ended and was not yet collected does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_importing_the_folder_loads_nothing_heavy() -> None:
    code = (
        "import sys, scoreline.environments.rewards, scoreline.environments.examples, scoreline.environments.worker;"
        "print(sorted({'torch', 'numpy', 'transformers', 'pyarrow', 'datasets', 'pydantic'} & set(sys.modules)))"
    )
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
    assert result.stdout.strip() == "[]"
