"""What an answer was told, in a few sentences."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING

from scoreline.reports.numerals import brief

if TYPE_CHECKING:
    from scoreline.objectives.objective import Objective
    from scoreline.reports.inspect.view import Sample, Token


def told(sample: Sample, saved: Sequence[Sample], objective: Objective) -> str:
    """Reward and score line; what its tokens were told; what the clip and the reference made of it."""
    own = [token for token in sample.tokens if token.own]
    if not own:
        return "It carries no loss: the token budget cut it off, and such answers are masked."
    if sample.reward is None:
        return "Nothing could score it, so it was told nothing." + _kept(own)
    return _earned(sample, saved, objective) + _advised(own) + _kept(own)


def _earned(sample: Sample, saved: Sequence[Sample], objective: Objective) -> str:
    """The reward beside what it is measured against."""
    reward = brief(sample.reward or 0.0)
    scores = [one.reward for one in saved if one.group == sample.group and one.reward is not None]
    if objective.grouped and len(scores) > 1:
        if min(scores) == max(scores):
            return f"It earned {reward}, as all {len(scores)} answers to its question did. "
        return (
            f"It earned {reward}; the {len(scores)} answers to its question earned {brief(fmean(scores))} on average. "
        )
    value = sample.tokens[0].value
    if objective.value is not None and value is not None:
        return f"It earned {reward}; the critic foresaw {brief(value)} before its first token. "
    return f"It earned {reward}, against no score line. "


def _advised(own: Sequence[Token]) -> str:
    """The advantages: one for all tokens, or from the lowest to the highest."""
    given = [token.told.advantage for token in own]
    low, high, count = min(given), max(given), len(given)
    if low == high == 0:
        return "Its tokens were told nothing: every advantage is 0."
    if high - low <= 1e-6 * max(abs(low), abs(high)):
        way = "likelier" if low > 0 else "less likely"
        return f"Each of its {_tokens(count)} was told {short(low)}: become {way}."
    up, down = sum(a > 0 for a in given), sum(a < 0 for a in given)
    return (
        f"Its {_tokens(count)} were told from {short(low)} to {short(high)}: "
        f"{up} to become likelier, {down} to become less likely."
    )


def _kept(own: Sequence[Token]) -> str:
    """What the clip took away, and what the reference added."""
    clipped, pulls = sum(token.told.clipped for token in own), [token.told.pull for token in own]
    words = f" The clip took the gradient of {clipped} of them away." if clipped else ""
    if any(pulls):
        size = fmean(abs(pull) for pull in pulls)
        back = sum(token.told.pull * token.told.policy < 0 for token in own)
        words += f" The pull to the reference is {size:.2g} in the mean"
        words += f", against the advice on {_tokens(back)}." if back else "."
    return words


def _tokens(count: int) -> str:
    return f"{count} token{'' if count == 1 else 's'}"


def short(value: float | None) -> str:
    """Three digits and a sign: +1.22, −0.0403; a dash for what is not known, 0 for zero."""
    if value is None:
        return "–"
    return "0" if value == 0 else f"{value:+.3g}".replace("-", "−")
