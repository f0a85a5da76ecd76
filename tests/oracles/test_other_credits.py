"""Advantages, returns and aggregates of verl, TRL and OpenRLHF against ours.

To 1e-5, or the documented difference by its number: docs/equations.md lists them.
"""

from __future__ import annotations

import pytest
import torch
from recorded import LIBRARIES, Case, agree, differ

from scoreline.objectives.aggregates import Aggregate, FixedLength, SequenceMean, SequenceSum, TokenMean
from scoreline.objectives.divergences import divergence
from scoreline.objectives.groups import GroupNorm, LeaveOneOut, group_std
from scoreline.objectives.returns import GAE, ToGo, Whiten
from scoreline.objectives.signal import Credit, Signal
from scoreline.objectives.values import LambdaReturn

BOTH = pytest.mark.parametrize("library", ["verl", "openrlhf"])


def outcome(case: Case, credit: tuple[Credit, ...]) -> torch.Tensor:
    """Scores on the last own token, through the credit, to every own token. A score of None is no score."""
    t = case.mask.shape[1]
    last = torch.where(case.mask, torch.arange(t), -1).amax(1, keepdim=True)
    scores = torch.tensor([[float("nan") if x is None else x] for x in case.inputs["scores"]])
    at = (torch.arange(t) == last) & ~scores.isnan()
    signal = Signal(scores.nan_to_num() * at, at, case.mask, case["group"])
    for part in (*credit, ToGo()):
        signal = part(signal)
    return signal.rewards


def weighted(losses: torch.Tensor, mask: torch.Tensor, aggregate: Aggregate) -> torch.Tensor:
    return (aggregate(mask) * losses).sum()


@pytest.mark.parametrize(
    ("library", "versions"),
    [("verl", {"verl": "0.9.1"}), ("trl", {"trl": "1.16.0"}), ("openrlhf", {"openrlhf": "0.11.2"})],
)
def test_versions(library, versions):
    assert versions.items() <= LIBRARIES[library]["versions"].items()


# --- GAE and whitening
@BOTH
def test_gae(library):
    case = Case(library, "gae")
    gamma, lam = case.inputs["gamma"], case.inputs["lam"]
    signal = Signal(case["rewards"], case.mask, case.mask, torch.zeros(3, dtype=torch.long), values=case["values"])
    agree(GAE(gamma, lam)(signal).rewards, case("advantages"))
    agree(LambdaReturn(gamma, lam)(signal), case("returns"))
    if library == "verl":
        agree(Whiten()(GAE(gamma, lam)(signal)).rewards, case("whitened"))


@pytest.mark.parametrize(("library", "first"), [("verl", 0.46575), ("openrlhf", 0.374514)])
def test_gae_on_tool_tokens_is_difference_5(library, first):
    # verl skips a tool's tokens, as we do. OpenRLHF counts them as steps with V = 0.
    case = Case(library, "gae_tool")
    signal = Signal(case["rewards"], case.mask, case.mask, torch.zeros(1, dtype=torch.long), values=case["values"])
    ours = GAE(1.0, 0.95)(signal).rewards
    assert case("advantages")[0, 0].item() == pytest.approx(first, abs=1e-5)
    if library == "verl":
        agree(ours, case("advantages"))
    else:
        differ(ours, case("advantages"))


def test_whiten():
    case = Case("verl", "whiten")
    signal = Signal(case["losses"], case.mask, case.mask, torch.zeros(6, dtype=torch.long))
    agree(Whiten()(signal).rewards, case("whitened"))


@pytest.mark.parametrize(
    ("name", "credit"), [("gae_whitened", (GAE(1.0, 0.95), Whiten())), ("reinforce_whitened", (ToGo(), Whiten()))]
)
def test_openrlhf_whitening_is_difference_17(name, credit):
    # Its variance is over N, ours over N - 1: the same numbers but for that root. `reinforce` there is difference 20.
    case = Case("openrlhf", name)
    n = int(case.mask.sum())
    last = torch.where(case.mask, torch.arange(5), -1).amax(1, keepdim=True)
    at = torch.arange(5) == last
    charge = case.inputs["beta"] * divergence(case["logp"], case["logp_ref"], "k1") * case.mask
    signal = Signal(case["scores"][:, None] * at, at, case.mask, torch.arange(3), penalty=charge, values=case["values"])
    if name == "gae_whitened":  # the critic's target is not whitened, there and here
        agree(LambdaReturn(1.0, 0.95)(signal), case("returns"))
    for part in credit:
        signal = part(signal)
    agree(signal.rewards * (n / (n - 1)) ** 0.5, case("advantages"))


# --- group baselines
@pytest.mark.parametrize(
    ("library", "name", "credit"),
    [
        ("verl", "group_std", GroupNorm("sample", eps=1e-6)),
        ("verl", "group_std_winner", GroupNorm("sample", eps=1e-6)),
        ("verl", "group_mean", GroupNorm("none")),
        ("verl", "leave_one_out", LeaveOneOut()),
        ("openrlhf", "group_norm", GroupNorm("sample", eps=1e-9)),
        ("openrlhf", "rloo", LeaveOneOut()),
        ("openrlhf", "dr_grpo", GroupNorm("none")),
    ],
)
def test_group_baselines(library, name, credit):
    case = Case(library, name)
    agree(outcome(case, (credit,)), case("advantages"))


def trl_groups(name: str) -> tuple[Case, torch.Tensor]:
    """TRL's own trainer on two groups of four; its answers have two tokens."""
    case = Case("trl", name)
    case.inputs |= {"mask": [[1]] * 8, "group": [0] * 4 + [1] * 4}
    return case, case("advantages")[:, None]


@pytest.mark.parametrize(
    ("name", "credit"),
    [
        ("advantages", GroupNorm("sample", eps=1e-4)),
        ("advantages_winner", GroupNorm("sample", eps=1e-4)),
        ("advantages_mean", GroupNorm("none")),
        ("advantages_unscorable", GroupNorm("sample", eps=1e-4)),
    ],
)
def test_trl_advantages(name, credit):
    case, theirs = trl_groups(name)
    agree(outcome(case, (credit,)), theirs)


def test_the_kind_of_std_and_epsilon_are_difference_1():
    # Rewards 1, 0, 0, 0: 1.5 with verl's 1e-6, 1.4997 with TRL's 1e-4, 1.732 with a population std.
    verl, (_, trl) = Case("verl", "group_std_winner")("advantages"), trl_groups("advantages_winner")
    assert verl[0, 0].item() == pytest.approx(1.499997, abs=1e-5)
    assert trl[0, 0].item() == pytest.approx(1.499700, abs=1e-5)
    case = Case("verl", "group_std_winner")
    assert outcome(case, (GroupNorm("population"),))[0, 0].item() == pytest.approx(1.732047, abs=1e-5)


def test_group_std():
    case = Case("trl", "group_std")
    scores = case["scores"].T
    one = torch.ones_like(scores, dtype=torch.bool)
    agree(group_std(scores, one, torch.zeros(4, dtype=torch.long), ddof=1)[:1, 0], case("std"))


def test_a_group_of_one_is_difference_4():
    # verl hands out the raw reward; alone in its group an answer gets zero here.
    for name, credit in (("group_std_alone", GroupNorm()), ("leave_one_out_alone", LeaveOneOut())):
        case = Case("verl", name)
        agree(case("advantages"), torch.tensor([[0.7, 0.7]]))
        assert outcome(case, (credit,)).eq(0).all()


def test_a_constant_group_is_zero_here_and_rounding_elsewhere():
    case = Case("verl", "group_std_constant")
    assert outcome(case, (GroupNorm(),)).eq(0).all()
    assert case("advantages").abs().max() < 0.02


# --- aggregates
@pytest.mark.parametrize(
    ("library", "mode", "aggregate"),
    [
        ("verl", "token-mean", TokenMean()),
        ("verl", "seq-mean-token-sum", SequenceSum()),
        ("verl", "seq-mean-token-mean", SequenceMean()),
        ("verl", "seq-mean-token-sum-norm, 512", FixedLength(512)),
        ("openrlhf", "token", TokenMean()),
        ("openrlhf", "seq", SequenceMean()),
    ],
)
@pytest.mark.parametrize("name", ["aggregate", "aggregate_empty_row"])
def test_aggregates(library, mode, aggregate, name):
    case = Case(library, name)
    agree(weighted(case["losses"], case.mask, aggregate), case(mode))


def test_the_width_of_the_batch_as_constant_is_difference_8():
    # Without a factor verl divides by the padded width, which another batch does not have.
    case = Case("verl", "aggregate")
    agree(weighted(case["losses"], case.mask, FixedLength(5)), case("seq-mean-token-sum-norm"))
