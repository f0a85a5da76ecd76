"""Iterative RL on one page: judge and reference follow the policy. DeepSeekMath, arXiv 2402.03300, Algorithm 1.

    python examples/from_scratch/iterative.py --rounds 4 --steps 5

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. What scores its answers is no checker
but a learned judge, a copy of the model with a linear head. The checker only teaches the judge. In each round:

    pi_ref <- pi
    M steps of GRPO, with r_i = judge(question, answer i) and A_i = (r_i - mean(r)) / (std(r) + 1e-6):
        loss = (1/n) sum_i (1/|o_i|) sum_t [ - min(rho A, clip(rho, 1 - e, 1 + e) A) + beta (exp(-x) - 1 + x) ]
    the judge learns on:  loss = mean of - log sigmoid(r(right) - r(wrong))
        over pairs of the round's own answers; 10 % of the training set are pairs of earlier rounds

rho = pi / pi_old, x = log pi - log pi_ref of each token. Shapes: n answers, p prompt tokens, t answer tokens.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

TINY = str(Path(__file__).resolve().parents[2] / "src/scoreline/models/tiny")
DEFAULTS = {"model": TINY, "rounds": 4, "steps": 5, "prompts": 32, "group": 8, "mu": 4, "budget": 32, "seed": 0}
RATES = {"lr": 1e-4, "judge_lr": 3e-4, "replay": 0.1}
EPOCHS, BATCH = 3, 32  # the judge's passes over a training set, and pairs of one update

Answer = tuple[str, str, float]  # question, answer, and the truth: 1 or 0
Pair = tuple[str, str]  # a question with a right answer, the same question with a wrong one


class Samples(NamedTuple):
    """Answers to questions."""

    tokens: Tensor  # [n, p + t], questions padded on the left, answers on the right
    present: Tensor  # [n, p + t], 1 on tokens and 0 on padding
    mask: Tensor  # [n, t], 1 on the tokens that the model wrote, its end token included


def question(rng: random.Random) -> tuple[str, int]:
    """`("3+8+12=", 23)`."""
    terms = [rng.randint(1, 20) for _ in range(3)]
    return "+".join(map(str, terms)) + "=", sum(terms)


def reward(answer: str, wanted: int) -> float:
    """1 when what stands behind the last `#` is the sum, else 0: the truth, which only the judge is told."""
    return float(answer.rpartition("#")[1:] == ("#", str(wanted)))


@torch.no_grad()
def sample(model: Any, tokens: Tensor, present: Tensor, eos: int, budget: int) -> Samples:
    """o_t ~ pi(. | q, o_<t), token by token, until every answer has ended or the budget is spent."""
    width, fresh, cache = tokens.shape[1], tokens, None
    running = torch.ones_like(tokens[:, :1])
    while running.any() and tokens.shape[1] < width + budget:
        at = (present.cumsum(1) - 1).clamp(min=0)[:, -fresh.shape[1] :]
        out = model(fresh, attention_mask=present, position_ids=at, past_key_values=cache, use_cache=True)
        cache, fresh = out.past_key_values, torch.multinomial(out.logits[:, -1].softmax(-1), 1)
        tokens, present = torch.cat([tokens, fresh], 1), torch.cat([present, running], 1)
        running = running * (fresh != eos)
    return Samples(tokens, present, present[:, width:])


def ask(model: Any, tokenizer: Any, asked: list[tuple[str, int]], budget: int) -> tuple[list[Answer], Samples]:
    """One answer to each question."""
    read = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
    samples = sample(model, read.input_ids, read.attention_mask, tokenizer.eos_token_id, budget)
    written = samples.tokens[:, -samples.mask.shape[1] :].where(samples.mask == 1, tokenizer.pad_token_id)
    texts = tokenizer.batch_decode(written, skip_special_tokens=True)
    return [(text, answer, reward(answer, total)) for (text, total), answer in zip(asked, texts, strict=True)], samples


def logprobs(model: Any, samples: Samples) -> Tensor:
    """The answers' log pi(o_t | q, o_<t), [n, t]."""
    tokens, present, mask = samples
    at = (present.cumsum(1) - 1).clamp(min=0)
    logits: Tensor = model(tokens, attention_mask=present, position_ids=at, use_cache=False).logits
    before, written = logits[:, -1 - mask.shape[1] : -1], tokens[:, -mask.shape[1] :, None]
    return before.log_softmax(-1).gather(-1, written).squeeze(-1)


def advantages(rewards: Tensor, group: int) -> Tensor:
    """[n] -> [n]: what an answer earned above its group's mean, in units of the group's (sample) std."""
    r = rewards.view(-1, group)
    return ((r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6)).flatten()


def loss(
    logp: Tensor, old: Tensor, ref: Tensor, advantage: Tensor, mask: Tensor, *, clip: float = 0.2, beta: float = 0.04
) -> Tensor:
    """The policy's loss above. All [n, t] but `advantage` [n]."""
    a, rho, x = advantage[:, None], (logp - old).exp(), logp - ref
    gain = torch.minimum(rho * a, rho.clamp(1 - clip, 1 + clip) * a)
    return (((beta * ((-x).expm1() + x) - gain) * mask).sum(1) / mask.sum(1)).mean()


def step(policy: Any, reference: Any, optimizer: Any, samples: Samples, rewards: Tensor, group: int, mu: int) -> None:
    """`mu` updates on the same answers. pi_old stands still meanwhile, and the clip says when they are used up."""
    advantage = advantages(rewards, group)
    with torch.no_grad():
        old, ref = logprobs(policy, samples), logprobs(reference, samples)
    for _ in range(mu):
        optimizer.zero_grad()
        loss(logprobs(policy, samples), old, ref, advantage, samples.mask).backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()


def scores(judge: Any, tokenizer: Any, texts: list[str]) -> Tensor:
    """r(q, o) of each text, [n]: a linear head on the state after the last token."""
    read = tokenizer(texts, padding=True, padding_side="right", return_tensors="pt")
    logits: Tensor = judge(read.input_ids, attention_mask=read.attention_mask).logits
    return logits[:, 0]


def preference_loss(right: Tensor, wrong: Tensor) -> Tensor:
    """- log sigmoid(r(right) - r(wrong)): Bradley and Terry's probability that the right answer is preferred."""
    return -logsigmoid(right - wrong).mean()


def pairs(answered: list[Answer]) -> list[Pair]:
    """A right answer and a wrong one to the same question, as far as they go."""
    sides: dict[str, tuple[list[str], list[str]]] = {}
    for asked, answer, truth in answered:
        sides.setdefault(asked, ([], []))[0 if truth else 1].append(asked + answer)
    return [pair for right, wrong in sides.values() for pair in zip(right, wrong, strict=False)]


def with_replay(fresh: list[Pair], history: list[Pair], share: float, rng: random.Random) -> list[Pair]:
    """A training set of the judge, shuffled: all fresh pairs, and as many old ones as make up `share` of the whole."""
    old = rng.sample(history, min(len(history), round(len(fresh) * share / (1 - share))))
    return rng.sample(fresh + old, len(fresh) + len(old))


def train_judge(judge: Any, optimizer: Any, tokenizer: Any, rows: list[Pair]) -> None:
    """Some passes over the pairs. Its optimiser remembers earlier rounds: the judge goes on learning."""
    for start in [start for _ in range(EPOCHS) for start in range(0, len(rows), BATCH)]:
        right, wrong = zip(*rows[start : start + BATCH], strict=True)
        optimizer.zero_grad()
        preference_loss(*scores(judge, tokenizer, [*right, *wrong]).chunk(2)).backward()
        optimizer.step()


@torch.no_grad()
def accuracy(judge: Any, tokenizer: Any, rows: list[Pair]) -> float:
    """The share of pairs that the judge orders rightly; nan of none."""
    texts = [text for side in zip(*rows, strict=True) for text in side]
    right, wrong = scores(judge, tokenizer, texts).chunk(2) if rows else (torch.empty(0), torch.empty(0))
    return (right > wrong).float().mean().item()


def main() -> None:
    """Algorithm 1."""
    parser = argparse.ArgumentParser(description="Iterative GRPO with a learned judge on sums, on one page.")
    for name, value in {**DEFAULTS, **RATES}.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    judge = AutoModelForSequenceClassification.from_pretrained(args.model, num_labels=1, dtype=torch.float32).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0)
    judge_optimizer = torch.optim.AdamW(judge.parameters(), lr=args.judge_lr, weight_decay=0.0)

    def asked(prompts: int) -> list[tuple[str, int]]:
        return [pair for pair in (question(rng) for _ in range(prompts)) for _ in range(args.group)]

    history = pairs(ask(policy, tokenizer, asked(args.steps * args.prompts), args.budget)[0])
    train_judge(judge, judge_optimizer, tokenizer, history)
    for number in range(1, args.rounds + 1):
        reference, seen = copy.deepcopy(policy), []
        for k in range(1, args.steps + 1):
            answered, samples = ask(policy, tokenizer, asked(args.prompts), args.budget)
            with torch.no_grad():
                judged = scores(judge, tokenizer, [text + answer for text, answer, _ in answered])
            step(policy, reference, optimizer, samples, judged, args.group, args.mu)
            seen += answered
            truth = sum(right for _, _, right in answered) / len(answered)
            print(f"round {number} step {k:2d}  judged {judged.mean():+.2f}  reward {truth:.3f}", flush=True)
        fresh = pairs(seen)
        before = accuracy(judge, tokenizer, fresh)
        train_judge(judge, judge_optimizer, tokenizer, with_replay(fresh, history, args.replay, rng))
        after = accuracy(judge, tokenizer, fresh)
        print(
            f"round {number} judge    right on {before:.3f} of {len(fresh)} pairs, {after:.3f} once it has learned them"
        )
        history += fresh
    print(f"for example: {answered[0][0]}{answered[0][1]}")


if __name__ == "__main__":
    main()
