"""How noisy a policy gradient is: gradients g_1 .. g_B of B batches that the same policy answered, and nothing updated.

tr Cov(g) = mean_{a != b} |g_a - g_b|^2 / 2        |E g|^2 = mean_{a != b} g_a . g_b

Both are unbiased: tr Cov is (sum |g_b|^2 - B |mean|^2) / (B - 1), and |E g|^2 is |mean|^2 - tr Cov / B. They ask of the
gradients for nothing but products, so B x B numbers are enough for all that is said here, bootstrap included.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import pad

from scoreline.errors import ConfigError
from scoreline.rollout.sampling import uniforms

MOST = 1 << 20
"""Numbers that are kept of one gradient: all of them in a small model, in a larger one so many signed sums of them."""

AT_ONCE = 1 << 16
"""Weights whose gradients are multiplied at once, in fp64."""


@dataclass(frozen=True)
class Noise:
    """What gradients at the same weights have in common, and what they have not.

    `variance` is tr Cov(g) and `signal` |E g|^2; the signal may come out below 0, where so few batches cannot tell the
    mean from zero. `ratio` = variance / signal, inf without a signal, with a 95 % bootstrap interval over batches, does
    not depend on the gradient's scale: so many batches together have as much signal as noise, which is the simple noise
    scale of McCandlish et al. (1812.06162, equation 2.9) counted in batches. `cosine` is the mean cosine of a gradient
    with the sum of the others.
    """

    variance: float
    signal: float
    ratio: float
    ratio_low: float
    ratio_high: float
    cosine: float
    batches: int

    def larger(self, times: float) -> Noise:
        """The same of batches so many times as large, by formula: tr Cov falls with their size, E g stays.

        cosine = S / sqrt((S + V) (S + V / (B - 1))), from the expected lengths.
        """
        variance, signal, others = self.variance / times, max(self.signal, 0.0), max(self.batches - 1, 1)
        lengths = math.sqrt((signal + variance) * (signal + variance / others))
        low, high = self.ratio_low / times, self.ratio_high / times
        cosine = signal / lengths if lengths else 0.0
        return replace(self, variance=variance, ratio=self.ratio / times, ratio_low=low, ratio_high=high, cosine=cosine)


@dataclass(frozen=True)
class Times:
    """How many times as large a number is, with its 95 % bootstrap interval over the batches that both saw."""

    times: float
    low: float
    high: float


def flattened(gradient: Sequence[Tensor], most: int = MOST, seed: int = 0) -> Float[Tensor, " w"]:
    """A gradient as one row of at most `most` numbers, on the CPU.

    A longer one becomes s_j = sum_k sign_(j + k most) g_(j + k most) with random signs that the seed alone decides, so
    that E[s . s'] = g . g' (Alon, Matias and Szegedy 1996). The error of a product is about |g| |g'| / sqrt(most).
    """
    whole = torch.cat([part.detach().reshape(-1).float().cpu() for part in gradient])
    if len(whole) <= most:
        return whole
    coins = torch.randint(2, whole.shape, generator=torch.Generator().manual_seed(seed), dtype=torch.int8)
    signed = whole * (2 * coins - 1)
    return pad(signed, (0, -len(whole) % most)).view(-1, most).sum(0)


def products(gradients: Sequence[Float[Tensor, " w"]]) -> Float[Tensor, "b b"]:
    """g_a . g_b for all pairs of gradients, in fp64."""
    total = torch.zeros(len(gradients), len(gradients), dtype=torch.float64)
    for part in zip(*(gradient.split(AT_ONCE) for gradient in gradients), strict=True):
        rows = torch.stack(part).double()
        total += rows @ rows.T
    return total


def gradient_noise(of: Float[Tensor, "b b"], *, draws: int = 2000, seed: int = 0) -> Noise:
    """The noise of gradients, from their `products`."""
    variance, signal = estimates(of, taken(len(of), draws, seed))
    ratio = _ratio(variance, signal)
    known = (float(variance[0]), float(signal[0]), float(ratio[0]), *_span(ratio[1:]))
    return Noise(*known, cosine(of), len(of))


def versus(
    of: Float[Tensor, "b b"], other: Float[Tensor, "b b"], *, draws: int = 2000, seed: int = 0
) -> tuple[Times, Times]:
    """Variance and ratio, as multiples of those of other gradients on the same batches: both are drawn together."""
    counted = taken(len(of), draws, seed)
    mine, theirs = estimates(of, counted), estimates(other, counted)
    return _times(mine[0], theirs[0]), _times(_ratio(*mine), _ratio(*theirs))


def estimates(
    of: Float[Tensor, "b b"], counted: Float[Tensor, "k b"]
) -> tuple[Float[Tensor, " k"], Float[Tensor, " k"]]:
    """tr Cov(g) and |E g|^2, for each row of `counted` with gradient b taken counted_b times.

    Only pairs of different gradients count. One that was drawn twice is no pair with itself: it would have no noise.
    """
    lengths = of.diagonal()
    drawn = counted.sum(1, keepdim=True)
    pairs = (counted * (drawn - counted)).sum(1)
    signal = ((counted @ (of - lengths.diag())) * counted).sum(1) / pairs
    square = (counted * (drawn - counted) * lengths).sum(1) / pairs
    return square - signal, signal


def cosine(of: Float[Tensor, "b b"]) -> float:
    """The mean of cos(g_b, sum of the others); 0 for a gradient of zero."""
    lengths, sums = of.diagonal(), of.sum(1)
    others = (of.sum() - 2 * sums + lengths).clamp(min=0)
    scale = (lengths * others).sqrt()
    return float(torch.where(scale > 0, (sums - lengths) / scale, 0.0).mean())


def taken(batches: int, draws: int, seed: int) -> Float[Tensor, "k b"]:
    """How often each batch counts: once in the first row, then as often as it is drawn when as many are drawn with
    repetition (Efron 1979). A draw of one batch alone is left out.
    """
    if batches < 4:
        raise ConfigError(
            "The noise of a gradient is a difference between batches.",
            got=f"{batches} batches",
            accepted="at least 4; with 32 the interval is useful",
            todo="ask for more batches.",
        )
    picks = (uniforms((seed, -3, batches), draws * batches) * batches).astype(int).reshape(draws, batches)
    counted = (picks[:, :, None] == np.arange(batches)).sum(1)
    each = np.ones((1, batches))
    return torch.from_numpy(np.concatenate([each, counted[counted.max(1) < batches]]))


def _ratio(variance: Tensor, signal: Tensor) -> Tensor:
    return torch.where(signal > 0, variance / signal, torch.inf)


def _times(one: Tensor, other: Tensor) -> Times:
    quotient = one / other
    return Times(float(quotient[0]), *_span(quotient[1:]))


def _span(drawn: Tensor) -> tuple[float, float]:
    """The middle 95 %, without interpolation: some draws may be infinite, and those of inf / inf say nothing."""
    known = drawn[~drawn.isnan()].numpy()
    if not len(known):
        return math.nan, math.nan
    low, high = np.quantile(known, [0.025, 0.975], method="inverted_cdf")
    return float(low), float(high)
