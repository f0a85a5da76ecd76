"""PPO on one page: a critic draws the score line. arXiv 1707.06347, equation 7; KL as in arXiv 2402.03300, equation 2.

    python examples/from_scratch/ppo.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. A second one, the critic, predicts the
reward before every token; a token is judged by what became of the prediction (GAE, arXiv 1506.02438, equation 16):

    r_t  = [1 on the last token of a right answer] - beta (log pi_old - log pi_ref)
    A_t  = d_t + gamma lam A_{t+1},   d_t = r_t + gamma V_{t+1} - V_t,   R_t = A_t + V_t
    loss = mean over all tokens of   - min(rho A, clip(rho, 1 - e, 1 + e) A)  +  1/2 (V - R)^2,   rho = pi / pi_old

pi_old sampled the answers; pi_ref is the model before training. Shapes: n answers, p prompt tokens, t answer tokens.
"""

from __future__ import annotations

import argparse
import copy
import random
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer

TINY = Path(__file__).resolve().parents[2] / "src" / "scoreline" / "models" / "tiny"


class Samples(NamedTuple):
    """Answers to questions. `tokens` [n, p + t]; `present` [n, p + t] is False on padding; `width` is p."""

    tokens: Tensor
    present: Tensor
    width: int

    @property
    def mask(self) -> Tensor:
        """[n, t]: the tokens that the model wrote, its end token included."""
        return self.present[:, self.width :]


def question(rng: random.Random) -> tuple[str, int]:
    """`("3+8+12=", 23)`."""
    terms = [rng.randint(1, 20) for _ in range(3)]
    return "+".join(map(str, terms)) + "=", sum(terms)


def reward(answer: str, wanted: int) -> float:
    """1 when what stands behind the last `#` is the sum, else 0. How the model got there is its own affair."""
    return float(answer.rpartition("#")[2] == str(wanted) and "#" in answer)


@torch.no_grad()
def sample(model: Any, tokens: Tensor, present: Tensor, eos: int, budget: int) -> Samples:
    """o_t ~ pi(. | q, o_<t), token by token, until every answer has ended or the budget is spent."""
    width, fresh, cache = tokens.shape[1], tokens, None
    running = torch.ones(len(tokens), dtype=torch.bool)
    for _ in range(budget):
        places = (present.long().cumsum(1) - 1).clamp(min=0)[:, -fresh.shape[1] :]
        out = model(fresh, attention_mask=present.long(), position_ids=places, past_key_values=cache, use_cache=True)
        cache, fresh = out.past_key_values, torch.multinomial(out.logits[:, -1].softmax(-1), 1)
        tokens, present = torch.cat([tokens, fresh], 1), torch.cat([present, running[:, None]], 1)
        running = running & (fresh[:, 0] != eos)
        if not running.any():
            break
    return Samples(tokens, present, width)


def logprobs(model: Any, samples: Samples) -> Tensor:
    """log pi(o_t | q, o_<t) of the answers' tokens, [n, t]. The logits before a token are those that predict it."""
    tokens, present, width = samples
    places = (present.long().cumsum(1) - 1).clamp(min=0)
    logits = model(tokens, attention_mask=present.long(), position_ids=places, use_cache=False).logits
    return logits[:, width - 1 : -1].log_softmax(-1).gather(-1, tokens[:, width:, None]).squeeze(-1)


class Critic(nn.Module):
    """V(s_t) [n, t]: the policy's body with a number for a head, zero at first."""

    def __init__(self, policy: Any) -> None:
        super().__init__()
        self.body = copy.deepcopy(policy.base_model)
        self.head = nn.Linear(policy.config.hidden_size, 1)
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)

    def forward(self, samples: Samples) -> Tensor:
        tokens, present, width = samples
        states = self.body(tokens, attention_mask=present.long(), position_ids=positions(present), use_cache=False)
        values: Tensor = self.head(states.last_hidden_state[:, width - 1 : -1]).squeeze(-1)
        return values * samples.mask


def charged(rewards: Tensor, old: Tensor, ref: Tensor, mask: Tensor, *, beta: float = 0.05) -> Tensor:
    """[n] -> [n, t]: the reward on the last token, and on every token the price of leaving the reference."""
    last = torch.arange(mask.shape[1]) == mask.sum(1, keepdim=True) - 1
    return rewards[:, None] * last - beta * (old - ref) * mask


def advantages(rewards: Tensor, values: Tensor, mask: Tensor, *, gamma: float = 1.0, lam: float = 0.95) -> Tensor:
    """A_t [n, t], from the last token to the first. Nothing comes after an answer: V and A are zero there."""
    value = advantage = torch.zeros(len(rewards))
    out = torch.zeros_like(rewards)
    for t in reversed(range(rewards.shape[1])):
        surprise = rewards[:, t] + gamma * value - values[:, t]
        advantage = (surprise + gamma * lam * advantage) * mask[:, t]
        value, out[:, t] = values[:, t] * mask[:, t], advantage
    return out


def loss(
    logp: Tensor, old: Tensor, values: Tensor, advantage: Tensor, returns: Tensor, mask: Tensor, *, clip: float = 0.2
) -> Tensor:
    """The loss above; all [n, t]. Its two halves train two models and never meet."""
    rho = (logp - old).exp()
    gain = torch.minimum(rho * advantage, rho.clamp(1 - clip, 1 + clip) * advantage)
    return ((0.5 * (values - returns) ** 2 - gain) * mask).sum() / mask.sum()


def step(
    policy: Any, reference: Any, critic: Critic, optimizer: torch.optim.Optimizer, samples: Samples, rewards: Tensor,
    mu: int,
) -> list[float]:
    """mu updates on the same answers. pi_old, A and R stand still meanwhile."""
    with torch.no_grad():
        old, ref, values = logprobs(policy, samples), logprobs(reference, samples), critic(samples)
        advantage = advantages(charged(rewards, old, ref, samples.mask), values, samples.mask)
    losses = []
    for _ in range(mu):
        optimizer.zero_grad()
        now = logprobs(policy, samples), old, critic(samples)
        value = loss(*now, advantage, advantage + values, samples.mask)
        value.backward()
        for model in (policy, critic):
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(value.item())
    return losses


def main() -> None:
    """Sample, score, update; again and again."""
    parser = argparse.ArgumentParser(description="PPO on sums, on one page.")
    parser.add_argument("--model", default=str(TINY), help="a Hugging Face folder")
    for name, value in {"steps": 40, "prompts": 256, "mu": 4, "budget": 32, "seed": 0}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--lr", type=float, default=1e-4)
    parser.add_argument("--critic-lr", type=float, default=3e-4)
    args = parser.parse_args()
    torch.manual_seed(args.seed)
    rng = random.Random(args.seed)
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    policy = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    reference, critic = copy.deepcopy(policy), Critic(policy)
    groups = [{"params": policy.parameters()}, {"params": critic.parameters(), "lr": args.critic_lr}]
    optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=0.0)
    for number in range(1, args.steps + 1):
        asked = [question(rng) for _ in range(args.prompts)]
        encoded = tokenizer([text for text, _ in asked], padding=True, return_tensors="pt")
        prompts, present = encoded["input_ids"], encoded["attention_mask"].bool()
        samples = sample(policy, prompts, present, tokenizer.eos_token_id, args.budget)
        rows = [row[own].tolist() for row, own in zip(samples.tokens[:, samples.width :], samples.mask, strict=True)]
        answers = [tokenizer.decode(row, skip_special_tokens=True) for row in rows]
        rewards = torch.tensor([reward(answer, wanted) for answer, (_, wanted) in zip(answers, asked, strict=True)])
        losses = step(policy, reference, critic, optimizer, samples, rewards, args.mu)
        length = samples.mask.sum(1).float().mean()
        print(f"step {number:3d}  reward {rewards.mean():.3f}  length {length:4.1f}  loss {losses[-1]:+.4f}", flush=True)
    print(f"for example: {asked[0][0]}{answers[0]}")


if __name__ == "__main__":
    main()
