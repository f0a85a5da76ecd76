"""Process supervision on one page: steps are rewarded, not only answers. DeepSeekMath, arXiv 2402.03300, section 4.1.3.

    python examples/from_scratch/grpo_process.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. A step ends at `;` or where the answer
ends, and is rewarded on the token that ends it. With R all step rewards of the G answers to one question:

    r~   = (r - mean(R)) / (std(R) + 1e-6)                            each step, measured by all steps of the group
    A_it = sum of r~ over the steps of answer i that end at or after token t
    loss = (1/n) sum_i (1/|o_i|) sum_t [ - min(rho A, clip(rho, 1 - e, 1 + e) A) + beta (exp(-x) - 1 + x) ]
    rho  = pi / pi_old,   x = log pi - log pi_ref                     of each token (equations 3 and 4)

pi_old sampled the answers; pi_ref is the model before training. With one step an answer this is grpo.py.
Shapes: n answers, p prompt tokens, t answer tokens.
"""

from __future__ import annotations

import argparse
import copy
import random
import re
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, AutoTokenizer

TINY = str(Path(__file__).resolve().parents[2] / "src/scoreline/models/tiny")
DEFAULTS = {"model": TINY, "steps": 40, "prompts": 32, "group": 8, "mu": 4, "budget": 32, "seed": 0, "lr": 1e-4}
EQUATION = re.compile(r"(\d+)\+(\d+)=(\d+)")


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
    """1 when what stands behind the last `#` is the sum, else 0. Printed; the steps are what is trained on."""
    return float(answer.rpartition("#")[1:] == ("#", str(wanted)))


def step_reward(step: str, wanted: int) -> float:
    """1 when the step says something, and all of it is true: its equations, and the result behind a `#`; else 0."""
    checks = [int(a) + int(b) == int(c) for a, b, c in EQUATION.findall(step)]
    checks += [step.rpartition("#")[2] == str(wanted)] if "#" in step else []
    return float(bool(checks) and all(checks))


def placed(
    answers: list[str], wanted: list[int], written: Tensor, mask: Tensor, separator: int
) -> tuple[Tensor, Tensor]:
    """Rewards on the tokens that end steps, and 1 on those tokens: both [n, t]. The last step ends with the answer."""
    last = torch.arange(mask.shape[1]) == mask.sum(1, keepdim=True) - 1
    ends = ((written == separator) * mask).bool() | last
    rewards = torch.zeros(mask.shape)
    for row, (answer, total) in enumerate(zip(answers, wanted, strict=True)):
        at = ends[row].nonzero().flatten().tolist()
        for end, step in zip(at, answer.split(";"), strict=False):  # a `;` that is the last token has no step behind it
            rewards[row, end] = step_reward(step, total)
    return rewards, ends.long()


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


def logprobs(model: Any, samples: Samples) -> Tensor:
    """The answers' log pi(o_t | q, o_<t), [n, t]."""
    tokens, present, mask = samples
    at = (present.cumsum(1) - 1).clamp(min=0)
    logits: Tensor = model(tokens, attention_mask=present, position_ids=at, use_cache=False).logits
    before, written = logits[:, -1 - mask.shape[1] : -1], tokens[:, -mask.shape[1] :, None]
    return before.log_softmax(-1).gather(-1, written).squeeze(-1)


def advantages(rewards: Tensor, ends: Tensor, group: int) -> Tensor:
    """[n, t], [n, t] -> [n, t]: the equations of the head. Tokens behind the last step answer for nothing: 0."""
    r, on = rewards.view(-1, group * rewards.shape[1]), ends.view(-1, group * ends.shape[1])
    count = on.sum(1, keepdim=True)
    apart = (r - (r * on).sum(1, keepdim=True) / count) * on
    std = ((apart**2).sum(1, keepdim=True) / (count - 1).clamp(min=1)).sqrt()
    told = (apart / (std + 1e-6)).view_as(rewards)
    return told.flip(1).cumsum(1).flip(1)


def loss(
    logp: Tensor, old: Tensor, ref: Tensor, advantage: Tensor, mask: Tensor, *, clip: float = 0.2, beta: float = 0.04
) -> Tensor:
    """The loss above. All [n, t]."""
    rho, x = (logp - old).exp(), logp - ref
    gain = torch.minimum(rho * advantage, rho.clamp(1 - clip, 1 + clip) * advantage)
    kl = (-x).expm1() + x  # on every token, those behind the last step too
    return (((beta * kl - gain) * mask).sum(1) / mask.sum(1)).mean()


def step(
    policy: Any, reference: Any, optimizer: torch.optim.Optimizer, samples: Samples, advantage: Tensor, mu: int
) -> list[float]:
    """`mu` updates on the same answers. pi_old stands still meanwhile, and the clip says when they are used up."""
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
    """Ask, sample, score the steps, update; again and again."""
    parser = argparse.ArgumentParser(description="GRPO with process supervision on sums, on one page.")
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
        texts, wanted = [text for text, _ in asked], [total for _, total in asked]
        prompts = tokenizer(texts, padding=True, return_tensors="pt")
        samples = sample(policy, prompts.input_ids, prompts.attention_mask, tokenizer.eos_token_id, args.budget)
        written = samples.tokens[:, -samples.mask.shape[1] :].where(samples.mask == 1, tokenizer.pad_token_id)
        answers = tokenizer.batch_decode(written, skip_special_tokens=True)
        rewards, ends = placed(answers, wanted, written, samples.mask, tokenizer.get_vocab()[";"])
        losses = step(policy, reference, optimizer, samples, advantages(rewards, ends, args.group), args.mu)
        right = sum(map(reward, answers, wanted)) / len(asked)
        shown = f"reward {right:.3f}  step reward {rewards.sum() / ends.sum():.3f}  steps {ends.sum() / len(asked):.2f}"
        print(f"{number:4d}  {shown}  loss {losses[-1]:+.4f}", flush=True)
    print(f"for example: {asked[0][0]}{answers[0]}")


if __name__ == "__main__":
    main()
