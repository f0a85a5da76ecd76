"""How our step grows: seconds and memory against model size, group size, answer length and vocabulary.

python benchmarks/sweep.py --json figures.json
python benchmarks/sweep.py --axes vocabulary --steps 5

Llamas with random weights; one thing changes at a time, all else is as in `BASE`. Every point is a process of its own,
so that its peak memory is its own. Answers take their whole budget.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from command import child, common, prepare, write

PROMPTS = 4
PROMPT_TOKENS = 32


@dataclass(frozen=True)
class Point:
    """A Llama, and the answers of a step: `PROMPTS` questions with this many answers of this many tokens."""

    layers: int = 6
    width: int = 256
    vocabulary: int = 4096
    answers: int = 8
    budget: int = 32


BASE = Point()
SIZES = ((4, 128), (6, 256), (8, 512), (12, 768))
AXES: dict[str, tuple[Point, ...]] = {
    "model size": tuple(replace(BASE, layers=layers, width=width) for layers, width in SIZES),
    "group size": tuple(replace(BASE, answers=answers) for answers in (2, 8, 32)),
    "answer length": tuple(replace(BASE, budget=budget) for budget in (16, 32, 128, 256)),
    "vocabulary": tuple(replace(BASE, vocabulary=vocabulary) for vocabulary in (1024, 4096, 16384, 65536)),
}
SMALL = {"model size": "parameters", "group size": "answers", "answer length": "budget", "vocabulary": "vocabulary"}
"""What stands in the first column of each axis."""


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    common(parser)
    add = parser.add_argument
    add("--axes", nargs="+", choices=tuple(AXES), default=list(AXES))
    add("--steps", type=int, default=3, help="timed steps of a point")
    add("--warmup", type=int, default=2, help="steps before them")
    add("--micro-batch", type=int, default=8, help="rows that go through the model at once in training")
    add("--point", help="measure this one (JSON) and print what it took")
    return parser.parse_args(argv)


def make_llama(point: Point, folder: Path, seed: int = 0) -> int:
    """A folder with a Llama of random weights and a tokenizer of as many words; gives its number of parameters."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=point.vocabulary,
        hidden_size=point.width,
        intermediate_size=4 * point.width,
        num_hidden_layers=point.layers,
        num_attention_heads=point.width // 64,
        num_key_value_heads=point.width // 64,
        max_position_embeddings=PROMPT_TOKENS + point.budget,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=0,
        pad_token_id=0,
    )
    model = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    words = Tokenizer(models.WordLevel({word(i): i for i in range(point.vocabulary)}, unk_token=word(1)))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=words, eos_token=word(0), pad_token=word(0)).save_pretrained(folder)
    return sum(parameter.numel() for parameter in model.parameters())


def word(number: int) -> str:
    """A word of the vocabulary; some have vowels, so that rewards differ."""
    return f"{'aeioubcdfg'[number % 10]}{number}"


def measured(args: argparse.Namespace) -> dict[str, float]:
    """One point in this process."""
    from machine import device
    from turns import alone
    from workload import VOWELS, Setup, Workload

    point = Point(**json.loads(args.point))
    asked = (
        " ".join(word(1 + (i * 7 + j) % (point.vocabulary - 1)) for j in range(PROMPT_TOKENS)) for i in range(1000)
    )
    number = PROMPTS * (args.warmup + args.steps)
    rows = tuple({"prompt": text} for _, text in zip(range(number), asked, strict=False))
    with tempfile.TemporaryDirectory() as name:
        parameters = make_llama(point, Path(name))
        shape = (PROMPTS, point.answers, point.budget, args.micro_batch, args.micro_batch)
        work = Workload("llama", name, *shape, 1e-5, VOWELS, fixed_length=True)
        setup = Setup(work, rows, args.steps, args.warmup, 0.0, args.precision, "amp", device(args.device))
        return {"parameters": parameters, **alone(setup, "ours")}


def curve(args: argparse.Namespace, axis: str) -> list[dict[str, Any]]:
    """Every point of an axis in a process of its own."""
    told = {**vars(args), "axes": None, "json": None}
    return [{**asdict(point), **child(__file__, {**told, "point": json.dumps(asdict(point))})} for point in AXES[axis]]


def table(axis: str, points: Sequence[dict[str, Any]]) -> str:
    """Seconds, memory above the imports' and tokens a second."""
    head = [
        f"| {axis} | seconds a step | sampled tokens a second | peak MB | above imports, MB |",
        "|--:|--:|--:|--:|--:|",
    ]
    rows = (
        f"| {p[SMALL[axis]]:,.0f} | {p['seconds']:.3f} | {p['tokens'] / p['seconds']:.0f} | {peak(p):.0f} "
        f"| {p['peak'] - p['start']:.0f} |"
        for p in points
    )
    return "\n".join([f"### {axis}", "", *head, *rows])


def peak(point: dict[str, Any]) -> float:
    """Of the device that computed, where it has memory of its own."""
    return float(point.get("device_peak", point["peak"]))


def main(argv: Sequence[str] | None = None) -> None:
    """Measure, print, write."""
    args = arguments(argv)
    prepare(args.threads)
    if args.point:
        print(json.dumps(measured(args)))
        return
    curves = {}
    for axis in args.axes:
        curves[axis] = curve(args, axis)
        print(f"{table(axis, curves[axis])}\n", flush=True)
    import machine

    where = machine.machine(machine.device(args.device))
    asked = {name: getattr(args, name) for name in ("precision", "steps", "warmup", "micro_batch")}
    asked |= {"prompts": PROMPTS, "prompt_tokens": PROMPT_TOKENS, "base": asdict(BASE)}
    write(args.json, {"kind": "sweep", "arguments": asked, "machine": where, "curves": curves})


if __name__ == "__main__":
    main()
