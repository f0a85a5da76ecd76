from pathlib import Path
g = Path("grpo.py").read_text()
def between(a, b): return g[g.index(a):g.index(b)]
head_imports = between("from __future__", "import copy") 
samples = between("TINY =", "def question")
task = between("def question", "@torch.no_grad()\ndef sample")
sampling = between("@torch.no_grad()\ndef sample", "def advantages")
NAIVE_DOC = '''"""Naive reinforcement on one page: make likely what was rewarded. REINFORCE, Williams 1992.

    python examples/from_scratch/naive.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. A right answer earns 1, a wrong one 0:

    loss = -(1/n) sum_i r_i sum_t log pi(o_it | q_i, o_i,<t)

Its gradient is that of -E[r]. There is no score line: every right answer is pushed up as much as every other, whether
the question was easy or hard, and a wrong one is pushed nowhere. An answer is used once, by the model that wrote it.
Shapes: n answers, p prompt tokens, t answer tokens.
"""

'''
NAIVE_MATH = '''def advantages(rewards: Tensor) -> Tensor:
    """[n] -> [n]: the bare reward. The other pages put a score line here."""
    return rewards


def loss(logp: Tensor, advantage: Tensor, mask: Tensor) -> Tensor:
    """The loss above. `logp` and `mask` [n, t], `advantage` [n]: every token answers for the whole answer's reward."""
    return -(advantage * (logp * mask).sum(1)).mean()


def step(policy: Any, optimizer: torch.optim.Optimizer, samples: Samples, rewards: Tensor) -> float:
    """One update. The answers are stale after it: log pi is no longer that of the model that wrote them."""
    optimizer.zero_grad()
    value = loss(logprobs(policy, samples), advantages(rewards), samples.mask)
    value.backward()
    torch.nn.utils.clip_grad_norm_(policy.parameters(), 1.0)
    optimizer.step()
    return value.item()


'''
main = g[g.index("def main"):]
nm = (main.replace("GRPO on sums", "Naive reinforcement on sums")
  .replace('{"steps": 40, "prompts": 32, "group": 8, "mu": 4, "budget": 32, "seed": 0}', '{"steps": 40, "prompts": 256, "budget": 32, "seed": 0}')
  .replace("    reference = copy.deepcopy(policy)\n", "")
  .replace("asked = [pair for pair in (question(rng) for _ in range(args.prompts)) for _ in range(args.group)]", "asked = [question(rng) for _ in range(args.prompts)]")
  .replace("losses = step(policy, reference, optimizer, samples, rewards, args.group, args.mu)", "value = step(policy, optimizer, samples, rewards)")
  .replace("losses[-1]", "value"))
Path("naive.py").write_text(NAIVE_DOC + head_imports + between("import random", "TINY") + samples + task + sampling + NAIVE_MATH + nm)

PPO_DOC = '''"""PPO on one page: a critic draws the score line. arXiv 1707.06347, equation 7; KL as in arXiv 2402.03300, equation 2.

    python examples/from_scratch/ppo.py --steps 40

A model is asked sums such as 3+8+12= and writes `#23`, or `3+8=11;11+12=23#23`. A second one, the critic, predicts the
reward before every token; a token is judged by what became of the prediction (GAE, arXiv 1506.02438, equation 16):

    r_t  = [1 on the last token of a right answer] - beta (log pi_old - log pi_ref)
    A_t  = d_t + gamma lam A_{t+1},   d_t = r_t + gamma V_{t+1} - V_t,   R_t = A_t + V_t
    loss = mean over all tokens of   - min(rho A, clip(rho, 1 - e, 1 + e) A)  +  1/2 (V - R)^2,   rho = pi / pi_old

pi_old sampled the answers; pi_ref is the model before training. Shapes: n answers, p prompt tokens, t answer tokens.
"""

'''
PPO_MATH = '''class Critic(nn.Module):
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


'''
print(len(g.splitlines()))
pm = (main.replace("GRPO on sums", "PPO on sums")
  .replace('"prompts": 32, "group": 8, ', '"prompts": 256, ')
  .replace("asked = [pair for pair in (question(rng) for _ in range(args.prompts)) for _ in range(args.group)]", "asked = [question(rng) for _ in range(args.prompts)]")
  .replace("    reference = copy.deepcopy(policy)\n", "    reference, critic = copy.deepcopy(policy), Critic(policy)\n")
  .replace("optimizer = torch.optim.AdamW(policy.parameters(), lr=args.lr, weight_decay=0.0)",
   'groups = [{"params": policy.parameters()}, {"params": critic.parameters(), "lr": args.critic_lr}]\n    optimizer = torch.optim.AdamW(groups, lr=args.lr, weight_decay=0.0)')
  .replace('''default=1e-4)\n''', '''default=1e-4)\n    parser.add_argument("--critic-lr", type=float, default=3e-4)\n''')
  .replace("step(policy, reference, optimizer, samples, rewards, args.group, args.mu)", "step(policy, reference, critic, optimizer, samples, rewards, args.mu)"))
ps = PPO_DOC + head_imports + between("import copy", "TINY").replace("from torch import Tensor", "from torch import Tensor, nn") + samples + task + sampling + PPO_MATH + pm
Path("ppo.py").write_text(ps)
