r"""The algorithms, each as a value; a variant is a visible `replace` of another.

naive -> actor_critic -> ppo_clip -> ppo          the critic's score line
                                \-> grpo -> rloo, dr_grpo, dapo      the group's score line
"""

from __future__ import annotations

from dataclasses import replace

from scoreline.objectives.aggregates import FixedLength, SequenceMean, SequenceSum, TokenMean
from scoreline.objectives.divergences import KL
from scoreline.objectives.groups import GroupNorm, LeaveOneOut
from scoreline.objectives.objective import Objective, Resample
from scoreline.objectives.ratios import Clip, LogProb
from scoreline.objectives.returns import GAE, ToGo, Total
from scoreline.objectives.values import LambdaReturn, ValueLoss

naive = Objective(credit=(ToGo(),), surrogate=LogProb(), aggregate=SequenceSum())
"""REINFORCE (Williams 1992): maximise E[r]. No score line."""

actor_critic = replace(naive, credit=(GAE(gamma=1.0, lam=1.0),), value=ValueLoss())
"""A_t = R_t - V(s_t): the critic predicts the score line."""

ppo_clip = replace(
    actor_critic,
    credit=(GAE(gamma=1.0, lam=0.95),),
    surrogate=Clip(low=0.2, high=0.2),
    aggregate=TokenMean(),
    value=ValueLoss(target=LambdaReturn(gamma=1.0, lam=0.95)),
)
"""PPO (1707.06347, equations 7 and 9): clip and min. epsilon 0.2 and lambda 0.95 are the paper's."""

ppo = replace(ppo_clip, kl=KL(beta=0.05, estimator="k1", into="reward"))
"""PPO held to a reference, as language models use it (DeepSeekMath 2402.03300, equations 1 and 2)."""

grpo = Objective(
    credit=(GroupNorm(std="sample", eps=1e-6), ToGo()),
    surrogate=Clip(low=0.2, high=0.2),
    aggregate=SequenceMean(),
    kl=KL(beta=0.04, estimator="k3", into="loss"),
)
"""GRPO (DeepSeekMath 2402.03300, equations 3 and 4): beta 0.04 is the paper's; it states no epsilon, 0.2 is PPO's."""

rloo = replace(
    grpo,
    credit=(Total(), LeaveOneOut(), ToGo()),
    surrogate=LogProb(),
    aggregate=SequenceSum(),
    kl=KL(beta=0.05, estimator="k1", into="reward"),
)
"""RLOO (2402.14740): REINFORCE on whole answers, the other answers' mean as score line, KL in the reward."""

dr_grpo = replace(grpo, credit=(GroupNorm(std="none"), ToGo()), aggregate=FixedLength(), kl=None)
"""Dr. GRPO (2503.20783): without the two biases, division by the std and by the answer's length; no KL."""

dapo = replace(grpo, surrogate=Clip(low=0.2, high=0.28), aggregate=TokenMean(), kl=None, resample=Resample())
"""DAPO (2503.14476): clip-higher, token mean, dynamic sampling, no KL. Its length penalty: reward `soft_overlong`."""

ZOO: dict[str, Objective] = {
    "naive": naive,
    "actor_critic": actor_critic,
    "ppo_clip": ppo_clip,
    "ppo": ppo,
    "grpo": grpo,
    "rloo": rloo,
    "dr_grpo": dr_grpo,
    "dapo": dapo,
}
