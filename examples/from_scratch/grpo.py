"""GRPO on one page: the group draws the score line. DeepSeekMath, arXiv 2402.03300, equations 3 and 4.

    python examples/from_scratch/grpo.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. Each question is asked G times, and an
answer is judged by the others:

    A_i  = (r_i - mean(r)) / (std(r) + 1e-6)                          over the G answers to one question
    loss = (1/n) sum_i (1/|o_i|) sum_t [ - min(rho A, clip(rho, 1 - e, 1 + e) A) + beta (exp(-x) - 1 + x) ]
    rho  = pi / pi_old,   x = log pi - log pi_ref                     of each token

pi_old sampled the answers; pi_ref is the model before training. Shapes: n answers, p prompt tokens, t answer tokens.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

TINY = str(Path(__file__).resolve().parents[2] / "src/scoreline/models/tiny")
DEFAULTS = {"model": TINY, "steps": 40, "prompts": 32, "group": 8, "mu": 4, "budget": 32, "seed": 0, "lr": 1e-4}


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


def advantages(rewards: Tensor, group: int) -> Tensor:
    """[n] -> [n]: what an answer earned above its group's mean, in units of the group's (sample) std."""
    r = rewards.view(-1, group)
    return ((r - r.mean(1, keepdim=True)) / (r.std(1, keepdim=True) + 1e-6)).flatten()


def loss(
    logp: Tensor, old: Tensor, ref: Tensor, advantage: Tensor, mask: Tensor, *, clip: float = 0.2, beta: float = 0.04
) -> Tensor:
    """The loss above. All [n, t] but `advantage` [n]: every token of an answer shares its advantage."""
    a, rho, x = advantage[:, None], (logp - old).exp(), logp - ref
    gain = torch.minimum(rho * a, rho.clamp(1 - clip, 1 + clip) * a)  # nothing is gained by moving beyond the clip
    kl = (-x).expm1() + x  # k3: never negative, zero where both models agree
    return (((beta * kl - gain) * mask).sum(1) / mask.sum(1)).mean()


def step(
    policy: Any,
    reference: Any,
    optimizer: torch.optim.Optimizer,
    samples: Samples,
    rewards: Tensor,
    group: int,
    mu: int,
) -> list[float]:
    """`mu` updates on the same answers. pi_old stands still meanwhile, and the clip says when they are used up."""
    advantage = advantages(rewards, group)
    losses = []
    with torch.no_grad():
        old, ref = logprobs(policy, samples), logprobs(reference, samples)
    for _ in range(mu):
        optimizer.zero_grad()
        value = loss(logprobs(policy, samples), old, ref, advantage, samples.mask)
        value.backward()
        torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
    return losses


def main() -> None:
    """Ask, sample, score, update; again and again."""
    parser = argparse.ArgumentParser(description="GRPO on sums, on one page.")
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    reference = copy.deepcopy(policy)
    optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0)
    for number in range(1, args.steps + 1):
        asked = [pair for pair in (question(rng) for _ in range(args.prompts)) for _ in range(args.group)]
        prompts = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
        samples = sample(policy, prompts.input_ids, prompts.attention_mask, tokenizer.eos_token_id, args.budget)
        written = samples.tokens[:, -samples.mask.shape[1] :].where(samples.mask == 1, tokenizer.pad_token_id)
        answers = tokenizer.batch_decode(written, skip_special_tokens=True)
        rewards = torch.tensor([reward(answer, wanted) for answer, (_, wanted) in zip(answers, asked, strict=True)])
        losses = step(policy, reference, optimizer, samples, rewards, args.group, args.mu)
        length = samples.mask.sum() / len(asked)
        print(f"{number:4d}  reward {rewards.mean():.3f}  length {length:4.1f}  loss {losses[-1]:+.4f}", flush=True)
    print(f"for example: {asked[0][0]}{answers[0]}")


if __name__ == "__main__":
    main()
