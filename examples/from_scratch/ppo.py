"""PPO on one page: a critic draws the score line. arXiv 1707.06347, equation 7; KL: arXiv 2402.03300, equation 2.

    python examples/from_scratch/ppo.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. Before every token a second one, the
critic, predicts the reward; a token is judged by what became of the prediction (GAE, arXiv 1506.02438, equation 16):

    r_t  = [1 on the last token of a right answer] - beta (log pi_old - log pi_ref)
    A_t  = d_t + gamma lam A_{t+1},   d_t = r_t + gamma V_{t+1} - V_t,   R_t = A_t + V_t
    loss = mean over all tokens of  - min(rho A, clip(rho, 1 - e, 1 + e) A) + 1/2 (V - R)^2,   rho = pi / pi_old

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
from transformers import AutoModelForCausalLM, AutoModelForTokenClassification, AutoTokenizer

TINY = str(Path(__file__).resolve().parents[2] / "src/scoreline/models/tiny")
DEFAULTS = {"model": TINY, "steps": 40, "prompts": 256, "mu": 4, "budget": 32, "seed": 0, "lr": 1e-4, "critic_lr": 3e-4}


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


def charged(rewards: Tensor, old: Tensor, ref: Tensor, mask: Tensor, *, beta: float = 0.05) -> Tensor:
    """[n] -> [n, t]: the reward on the last token, and on every token the price of leaving the reference."""
    last = torch.arange(mask.shape[1]) == mask.sum(1, keepdim=True) - 1
    return rewards[:, None] * last - beta * (old - ref) * mask


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """A_t [n, t], from the last token to the first; behind an answer V and A are zero."""
    value, advantage, out = torch.zeros(len(rewards)), torch.zeros(len(rewards)), torch.zeros_like(rewards)
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * value - values[:, t]
        advantage = (surprise + gamma * lam * advantage) * mask[:, t]
        value, out[:, t] = values[:, t] * mask[:, t], advantage
    return out


def loss(logp: Tensor, old: Tensor, values: Tensor, advantage: Tensor, returns: Tensor, mask: Tensor) -> Tensor:
    """The loss above, e = 0.2; all [n, t]. One half trains the policy, the other the critic."""
    rho = (logp - old).exp()
    gain = torch.minimum(rho * advantage, rho.clamp(0.8, 1.2) * advantage)
    return ((0.5 * (values - returns) ** 2 - gain) * mask).sum() / mask.sum()


def step(models: tuple[Any, Any, Any], optimizer: Any, samples: Samples, rewards: Tensor, mu: int) -> list[float]:
    """`mu` updates of policy and critic on the same answers. pi_old, A and R stand still meanwhile."""
    policy, reference, critic = models
    losses = []
    with torch.no_grad():
        old, ref, values = logprobs(policy, samples), logprobs(reference, samples), before(critic, samples)[..., 0]
        advantage = advantages(charged(rewards, old, ref, samples.mask), values, samples.mask)
    judged = advantage, advantage + values, samples.mask
    for _ in range(mu):
        optimizer.zero_grad()
        total = loss(logprobs(policy, samples), old, before(critic, samples)[..., 0], *judged)
        total.backward()
        for model in (policy, critic):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(total.item())
    return losses


def main() -> None:
    """Ask, sample, score, update; again and again."""
    parser = argparse.ArgumentParser(description="PPO on sums, on one page.")
    for name, value in DEFAULTS.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    critic = AutoModelForTokenClassification.from_pretrained(args.model, num_labels=1, dtype=torch.float32).eval()
    torch.nn.init.zeros_(critic.score.weight)  # a new head, without an opinion
    models = policy, copy.deepcopy(policy), critic
    groups = [{"params": policy.parameters()}, {"params": critic.parameters(), "lr": args.critic_lr}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=0.0)
    for number in range(1, args.steps + 1):
        asked = [question(rng) for _ in range(args.prompts)]
        prompts = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
        samples = sample(policy, prompts.input_ids, prompts.attention_mask, tokenizer.eos_token_id, args.budget)
        written = samples.tokens[:, -samples.mask.shape[1] :].where(samples.mask == 1, tokenizer.pad_token_id)
        answers = tokenizer.batch_decode(written, skip_special_tokens=True)
        rewards = torch.tensor([reward(answer, wanted) for answer, (_, wanted) in zip(answers, asked, strict=True)])
        losses = step(models, optimizer, samples, rewards, args.mu)
        length = samples.mask.sum() / len(asked)
        print(f"{number:4d}  reward {rewards.mean():.3f}  length {length:4.1f}  loss {losses[-1]:+.4f}", flush=True)
    print(f"for example: {asked[0][0]}{answers[0]}")


if __name__ == "__main__":
    main()
