"""AdamW with 8-bit moments: a quarter of the memory, close to AdamW, and back from the disk bit by bit."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from scoreline.config.load import load
from scoreline.config.run import Run
from scoreline.errors import ConfigError, ModelError
from scoreline.objectives.zoo import grpo
from scoreline.train.collate import collate
from scoreline.train.learner import LocalLearner, Update
from scoreline.train.optimizers import OptimizerName, make_optimizer
from scoreline.train.supervised import restore_state, save_state
from tests import parts

CPU = torch.device("cpu")


def in_8_bits() -> None:
    pytest.importorskip("bitsandbytes", reason="the extra [bnb] is not installed")


def problem(name: OptimizerName) -> tuple[list[nn.Parameter], torch.optim.Optimizer]:
    """A matrix with 8-bit moments and a vector that is too small for them."""
    generator = torch.Generator().manual_seed(0)
    weights = [nn.Parameter(torch.randn(shape, generator=generator)) for shape in ((64, 128), (100,))]
    return weights, make_optimizer(name, [{"params": weights, "lr": 1e-2}], weight_decay=0.1, device=CPU)


def descend(weights: list[nn.Parameter], optimizer: torch.optim.Optimizer, steps: int, seed: int = 1) -> torch.Tensor:
    """Towards ones, with noise in the gradient; the weights after it."""
    generator = torch.Generator().manual_seed(seed)
    for _ in range(steps):
        for weight in weights:
            weight.grad = weight.detach() - 1 + 0.1 * torch.randn(weight.shape, generator=generator)
        optimizer.step()
    return torch.cat([weight.detach().flatten() for weight in weights]).clone()


def bytes_of(optimizer: torch.optim.Optimizer, weight: nn.Parameter) -> int:
    tensors = (value for value in optimizer.state[weight].values() if isinstance(value, torch.Tensor))
    return sum(t.numel() * t.element_size() for t in tensors)


def test_moments_of_8_bits_take_a_quarter_of_the_memory_and_go_the_same_way() -> None:
    in_8_bits()
    (w, plain), (w8, small) = problem("adamw"), problem("adamw_8bit")
    begin = torch.cat([weight.detach().flatten() for weight in w]).clone()
    end, end8 = descend(w, plain, 30), descend(w8, small, 30)
    assert bytes_of(small, w8[0]) < 0.4 * bytes_of(plain, w[0])
    assert float((end8 - end).norm()) < 0.05 * float((end - begin).norm())


@pytest.mark.parametrize("name", ["adamw", "adamw_8bit"])
def test_saved_moments_come_back_bit_by_bit(name: OptimizerName, tmp_path: Path) -> None:
    if name == "adamw_8bit":
        in_8_bits()
    weights, optimizer = problem(name)
    descend(weights, optimizer, 3)
    save_state(optimizer, tmp_path / "optimizer.safetensors")
    again, restored = problem(name)
    for weight, value in zip(again, weights, strict=True):
        weight.data.copy_(value)
    restore_state(restored, tmp_path / "optimizer.safetensors")
    save_state(restored, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "optimizer.safetensors").read_bytes()
    assert torch.equal(descend(again, restored, 4, seed=2), descend(weights, optimizer, 4, seed=2))


def test_a_learner_with_8_bit_moments_learns_and_comes_back(tmp_path: Path) -> None:
    in_8_bits()
    batch = collate(parts.rollouts(parts.policy()))

    def made() -> LocalLearner:
        actor, objective = parts.policy(), replace(grpo, kl=None)
        return LocalLearner(actor, objective, learning_rate=1e-3, optimizer="adamw_8bit")

    def update(one: LocalLearner) -> torch.Tensor:
        ready = one.objective.estimate(one.annotate(batch, one.objective.passes(2)))
        one.update(replace(ready, weights=one.objective.aggregate(batch.mask)), Update(lr_factor=0.5))
        return torch.cat([p.detach().flatten() for p in one.policy.model.parameters()])

    first, again = made(), made()
    begin = torch.cat([p.detach().flatten() for p in first.policy.model.parameters()]).clone()
    assert not torch.equal(update(first).clone(), begin)
    first.save(tmp_path)
    again.restore(tmp_path)
    assert torch.equal(update(first), update(again))


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bitsandbytes", "bitsandbytes.optim"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModelError, match=r"pip install 'scoreline\[bnb\]'"):
        problem("adamw_8bit")


def test_a_device_that_it_does_not_know_is_refused() -> None:
    with pytest.raises(ModelError, match="not computed on this device"):
        make_optimizer("adamw_8bit", [], weight_decay=0.0, device=torch.device("mps"))


def test_a_recipe_names_it() -> None:
    assert load(Run, [], ["train.optimizer=adamw_8bit"]).train.optimizer == "adamw_8bit"
    with pytest.raises(ConfigError, match=r"train\.optimizer"):
        load(Run, [], ["train.optimizer=adam8"])
