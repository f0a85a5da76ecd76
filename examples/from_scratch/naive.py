"""Naive reinforcement on one page: make likely what was rewarded. REINFORCE, Williams 1992.

    python examples/from_scratch/naive.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. A right answer earns 1, a wrong one 0:

    loss = -(1/n) sum_i r_i sum_t log pi(o_it | q_i, o_i,<t)

Its gradient is that of -E[r]. There is no score line: every right answer is pushed up as much as every other, whether
its question was easy or hard, and a wrong one is left alone. An answer is used once, by the model that wrote it.
Shapes: n answers, p prompt tokens, t answer tokens.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

TINY = str(Path(__file__).resolve().parents[2] / "src/scoreline/models/tiny")
DEFAULTS = {"model": TINY, "steps": 40, "prompts": 256, "budget": 32, "seed": 0, "lr": 1e-4}


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
    """1 when what stands behind the last `#` is the sum, else 0. How the model got there is its own affair."""
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


def before(model: Any, samples: Samples) -> Tensor:
    """What a model says before it sees each token of the answers: [n, t, v]."""
    tokens, present, mask = samples
    at = (present.cumsum(1) - 1).clamp(min=0)
    logits: Tensor = model(tokens, attention_mask=present, position_ids=at, use_cache=False).logits
    return logits[:, -1 - mask.shape[1] : -1]


def logprobs(model: Any, samples: Samples) -> Tensor:
    """The answers' log pi(o_t | q, o_<t), [n, t]."""
    written = samples.tokens[:, -samples.mask.shape[1] :, None]
    return before(model, samples).log_softmax(-1).gather(-1, written).squeeze(-1)


def advantages(rewards: Tensor) -> Tensor:
    """[n] -> [n]: the bare reward. The other pages put a score line here."""
    return rewards


def loss(logp: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """The loss above. `logp` and `mask` [n, t], `advantage` [n]: every token answers for the whole answer's reward."""
    return -(advantage * (logp * mask).sum(1)).mean()


def step(policy: Any, optimizer: torch.optim.Optimizer, samples: Samples, rewards: Tensor) -> list[float]:
    """One update. The answers are stale after it: log pi is no longer that of the model that wrote them."""
    optimizer.zero_grad()
    value = loss(logprobs(policy, samples), advantages(rewards), samples.mask)
    value.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return [value.item()]


def main() -> None:
    """Ask, sample, score, update; again and again."""
    parser = argparse.ArgumentParser(description="Naive reinforcement on sums, on one page.")
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0)
    for number in range(1, args.steps + 1):
        asked = [question(rng) for _ in range(args.prompts)]
        prompts = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
        samples = sample(policy, prompts.input_ids, prompts.attention_mask, tokenizer.eos_token_id, args.budget)
        written = samples.tokens[:, -samples.mask.shape[1] :].where(samples.mask == 1, tokenizer.pad_token_id)
        answers = tokenizer.batch_decode(written, skip_special_tokens=True)
        rewards = torch.tensor([reward(answer, wanted) for answer, (_, wanted) in zip(answers, asked, strict=True)])
        losses = step(policy, optimizer, samples, rewards)
        length = samples.mask.sum() / len(asked)
        print(f"{number:4d}  reward {rewards.mean():.3f}  length {length:4.1f}  loss {losses[-1]:+.4f}", flush=True)
    print(f"for example: {asked[0][0]}{answers[0]}")


if __name__ == "__main__":
    main()
