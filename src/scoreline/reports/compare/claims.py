"""Claims that an experiment could refute, and the verdict of its interval.

d = mean over seeds of (arm - against), with the wider of both 95 % intervals [low, high], and a margin m >= 0

| expects | supported | refuted |
|---|---|---|
| more | low > m | high < m |
| less | high < -m | low > -m |
| same | -m <= low and high <= m | low > m or high < -m |

Anything else is undecided.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from scoreline.errors import ConfigError
from scoreline.reports.compare.statistics import Estimate

Verdict = Literal["supported", "refuted", "undecided"]

START = "start"
"""What an arm may be compared with instead of another arm: the model that it began with."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and the difference that would make it true: `arm` has more (less, the same) of `measure`.

    `against` is another arm, or "start": what the same runs measured before training. Left out it is the first arm.
    """

    text: str
    arm: str
    against: str | None = None
    measure: str = "final"
    expects: Literal["more", "less", "same"] = "more"
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.margin < math.inf:
            raise ConfigError("A claim's margin is a size.", got=self.margin, accepted="0 or more")
        if self.expects == "same" and self.margin == 0:
            raise ConfigError(
                "Nothing is ever exactly the same.",
                got=f'expects = "same" without a margin, in {self.text!r}',
                accepted="a margin above 0, within which a difference does not matter",
                todo="set margin, for example 0.02 of accuracy.",
            )


def verdict(claim: Claim, found: Estimate | None) -> tuple[Verdict, str]:
    """What the interval says of a claim, and why."""
    if found is None or found.bounds is None:
        return "undecided", "there are fewer than two seeds that both were measured with"
    low, high = found.bounds
    said = _decide(claim, low, high)
    missing = len(found.values) - found.count
    lost = f", {missing} of {len(found.values)} pairs are missing" if missing else ""
    return said, f"{found.mean:+.3g} [{low:+.3g}, {high:+.3g}] over {found.count} seeds{lost}; {_rule(claim)}"


def _decide(claim: Claim, low: float, high: float) -> Verdict:
    m = claim.margin
    yes, no = {
        "more": (low > m, high < m),
        "less": (high < -m, low > -m),
        "same": (-m <= low and high <= m, low > m or high < -m),
    }[claim.expects]
    return "supported" if yes else "refuted" if no else "undecided"


def _rule(claim: Claim) -> str:
    rules = {
        "more": f"above {claim.margin:g}",
        "less": f"below {-claim.margin or 0:g}",
        "same": f"within {claim.margin:g}",
    }
    return f"expected {rules[claim.expects]}"
