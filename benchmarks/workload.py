"""What is measured: model, questions, answers, budget. Both sides get the same one."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import count, islice
from pathlib import Path
from typing import Any, Literal

from scoreline.environments.prompts import Data, load
from scoreline.models.loading import load_tokenizer, resolve
from scoreline.models.text import Text
from scoreline.rollout.collect import order
from scoreline.types import Prompt

Row = dict[str, Any]
Precision = Literal["fp32", "bf16"]
TrlMode = Literal["amp", "fp32", "bf16"]

SEED = 0
PROMPT_TOKENS = range(65, 97)
"""The lengths of the real model's questions, chat template included."""

VOWELS = f"{Path(__file__).resolve().parent / 'rewards.py'}:share_of_vowels"
"""The reward of models that cannot do sums."""

STORIES = (
    "A baker fills {a} trays with {b} rolls each before the shop opens. During the morning {c} rolls are sold and the "
    "others are packed into bags of four. How many bags does the baker fill, and how many rolls are left over?",
    "A bus leaves the harbour with {a} passengers. At each of the next {b} stops two people get off and five people "
    "get on, and at the last stop {c} people get off. How many passengers are on the bus after the last stop?",
    "Mara saves {a} coins in the first week and {b} coins more in every week that follows. After six weeks she buys a "
    "kite for {c} coins and gives half of what is left to her brother. How many coins does Mara keep for herself?",
    "A gardener plants {a} rows of {b} tulips. In spring {c} of the tulips do not come up, and a neighbour brings "
    "twelve new ones to fill the gaps. How many tulips stand in the garden, and how many gaps are there still?",
)
"""Word problems for a machine without GSM8K. Their answers are not needed: the reward reads the text alone."""


@dataclass(frozen=True)
class Workload:
    """A GRPO step: `prompts` questions, `answers` to each, `budget` tokens an answer, one optimiser update.

    `fixed_length`: no answer ends before its budget, so that both sides sample the same number of tokens.
    `micro_batch` and `trl_micro_batch` rows go through the model at once in training. `wish` stands behind every
    question.
    """

    name: str
    model: str
    prompts: int
    answers: int
    budget: int
    micro_batch: int
    trl_micro_batch: int
    learning_rate: float
    reward: str
    fixed_length: bool
    wish: str = ""

    @property
    def rows(self) -> int:
        """Answers of one step."""
        return self.prompts * self.answers

    @property
    def title(self) -> str:
        """One line that names it."""
        return f"{self.name}: {self.prompts} prompts x {self.answers} answers, budget {self.budget} tokens"


@dataclass(frozen=True)
class Setup:
    """A workload and how each side computes it, for `warmup` steps that do not count and `steps` that do."""

    workload: Workload
    questions: tuple[Row, ...]
    steps: int
    warmup: int
    beta: float
    precision: Precision
    trl: TrlMode
    device: str = "cpu"
    compile: bool = False

    @property
    def rounds(self) -> int:
        """Steps in all."""
        return self.warmup + self.steps

    def write(self, folder: Path) -> Path:
        """The questions as a file, so that Scoreline reads them as it reads any."""
        path = folder / "questions.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in self.questions), encoding="utf-8")
        return path

    def served(self) -> list[Row]:
        """The questions in the order in which Scoreline's collector asks them."""
        return [self.questions[i] for i in order(SEED, 0, len(self.questions))]


def tiny(model: str | None, prompts: int) -> Workload:
    """The embedded model and its sums. Answers end when the model ends them."""
    path, rows = resolve(model or "tiny"), prompts * 8  # TRL is slower with more than 64 rows at once, ours is faster
    return Workload("tiny", path, prompts, 8, 32, rows, min(64, rows), 1e-4, "arithmetic_answer", fixed_length=False)


def smollm2(model: str | None, prompts: int) -> Workload:
    """SmolLM2-135M-Instruct and word problems; every answer takes its whole budget."""
    path = model or os.environ.get("SCORELINE_SMOLLM2")
    if path is None:
        raise SystemExit("Where is SmolLM2-135M-Instruct? Give --model FOLDER or set SCORELINE_SMOLLM2.")
    return Workload("smollm2", resolve(path), prompts, 8, 64, 8, 8, 1e-5, VOWELS, fixed_length=True)


def uneven(model: str | None, prompts: int) -> Workload:
    """The same model and problems, answers up to 256 tokens that end at will.

    Asked to be brief, the model answers at temperature 1 in anything from 20 tokens to all of the budget; asked for
    nothing, it fills the budget in more than half of its answers, and the lengths would hardly differ.
    """
    work = smollm2(model, prompts)
    return replace(work, name="uneven", budget=256, fixed_length=False, wish=" Answer in one or two sentences.")


WORKLOADS = {"tiny": tiny, "smollm2": smollm2, "uneven": uneven}


def questions(workload: Workload, number: int, gsm8k: str | None) -> tuple[Row, ...]:
    """The rows that both sides are given: enough for one epoch, which is all that is run."""
    if workload.name == "tiny":
        rows = [{"prompt": p.content, **p.columns} for p in load(Data(source="arithmetic", held_out=0)).train]
    else:
        rows = list(islice(fitting(workload.model, gsm8k, workload.wish), number))
    if len(rows) < number:
        raise SystemExit(f"There are {len(rows)} questions and {number} are needed: lower --steps or --prompts.")
    return tuple(rows[:number])


def fitting(model: str, gsm8k: str | None, wish: str) -> Iterator[Row]:
    """Word problems with as many tokens as `PROMPT_TOKENS` allows, as one user message each."""
    text = Text(load_tokenizer(model))
    for number, story in enumerate(stories(gsm8k)):
        turn = {"role": "user", "content": story + wish}
        if len(text.encode(Prompt(str(number), (turn,)))) in PROMPT_TOKENS:
            yield {"prompt": [turn]}


def stories(gsm8k: str | None) -> Iterator[str]:
    """GSM8K's questions where a folder is given, else the built-in ones with other numbers each time."""
    if gsm8k is not None:
        rows = load(Data(source=f"gsm8k:{gsm8k}", held_out=0, limit=1000)).train
        yield from (str(prompt.content) for prompt in rows)
        return
    for i in islice(count(), 1000):
        yield STORIES[i % len(STORIES)].format(a=12 + i, b=5 + i % 7, c=3 + i % 9)
