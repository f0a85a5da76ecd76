"""What a learner keeps on disk, written and read by one process or by several ranks, into and from one folder.

A rank writes the rows that it holds and reads the rows that it needs: files of N ranks are read by any M.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from scoreline.errors import CheckpointError
from scoreline.models.folder import STEM, stored_tensors, write_description, write_index, write_part, writers
from scoreline.models.loading import load_causal_lm
from scoreline.models.policy import Policy
from scoreline.models.rows import Parts, part_files, part_name
from scoreline.train.ranks import Ranks
from scoreline.train.supervised import put_state

MODEL, OPTIMIZER, CRITIC, REFERENCE = "hf", "optimizer", "critic", "reference"


class Keeper:
    """The part of one rank in writing or reading a checkpoint's folder. All ranks call the same methods."""

    def __init__(self, folder: Path, ranks: Ranks, *, make: bool = False) -> None:
        self.folder, self.ranks = folder, ranks
        if make and ranks.rank == 0:
            folder.mkdir(parents=True, exist_ok=True)
        ranks.most(0)
        if ranks.most(int(not folder.is_dir())):
            raise CheckpointError(
                "A learner does not see the checkpoint's folder.",
                got=f"{folder} {'is' if folder.is_dir() else 'is not'} there for rank {ranks.rank} of {ranks.world}",
                accepted="a folder that all machines share, under the same path",
                todo="give a shared folder as `folder`.",
            )

    def save_policy(self, policy: Policy) -> None:
        """`hf/`: what `Policy.save` writes. Weights in rows are gathered one at a time, each kept by who writes it."""
        folder = self.folder / MODEL
        if not self._in_rows(policy.weights()):
            self._agreed(lambda: policy.save(folder) if self.ranks.rank == 0 else None)
            return
        self._agreed(lambda: self._describe(policy, folder) if self.ranks.rank == 0 else None)
        tensors = stored_tensors(policy.model)
        dealt, mine = writers(tensors, self.ranks.world), {}
        for name, tensor in tensors.items():
            whole = self.ranks.whole(tensor.detach())
            if dealt[name] == self.ranks.rank:
                mine[name] = whole.cpu()
        self._agreed(lambda: write_part(policy.model, mine, folder, self.ranks.rank, self.ranks.world))
        self._agreed(lambda: write_index(folder) if self.ranks.rank == 0 else None)

    def save_tables(self, tables: Mapping[str, Mapping[str, Tensor]], more: Callable[[Path], None]) -> None:
        """Tensors by name, a file of each rank for each table; and what one rank alone writes."""

        def write() -> None:
            for stem, tensors in tables.items():
                self._write_rows(stem, tensors)
            if self.ranks.rank == 0:
                more(self.folder)

        self._agreed(write)

    def has(self, stem: str) -> bool:
        """Whether the folder holds such a table."""
        return bool(part_files(self.folder, stem))

    @torch.no_grad()
    def restore_policy(self, policy: Policy) -> None:
        """Exactly the weights that `save_policy` wrote, or `Policy.save`."""
        folder = self.folder / MODEL
        if not self._in_rows(policy.weights()):
            policy.restore(folder)
            return
        own, saved = stored_tensors(policy.model), Parts(folder, STEM)
        if not all(name in saved and saved.shape(name) == tuple(one.shape) for name, one in own.items()):
            self._read_whole(own, folder)  # stored under other names than in memory
            return
        for name, tensor in own.items():
            self.ranks.local(tensor).copy_(saved.read(name, self.ranks.rows(tensor)))

    @torch.no_grad()
    def restore_weights(self, stem: str, weights: Mapping[str, Tensor]) -> None:
        """Exactly what `save_tables` wrote of them."""
        for name, tensor in self.like(stem, weights).items():
            weights[name].copy_(tensor)

    def like(self, stem: str, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of a table, laid out over the ranks as these weights are."""
        saved = Parts(self.folder, stem)
        for name, weight in weights.items():
            if saved.shape(name) != tuple(weight.shape):
                raise another_model(stem, f"{name} of {list(saved.shape(name))}", str(list(weight.shape)))
        return {name: self._laid(saved, name, weight) for name, weight in weights.items()}

    def restore_state(self, optimizer: torch.optim.Optimizer) -> None:
        """The optimiser's tensors: those of a weight's shape lie as it does, the others are whole on every rank."""
        saved = Parts(self.folder, OPTIMIZER)
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        if (last := max((int(name.split(".")[0]) for name in saved), default=-1)) >= len(weights):
            raise another_model(OPTIMIZER, f"moments of at least {last + 1} weights", f"{len(weights)} weights")
        put_state(optimizer, {name: self._laid(saved, name, weights[int(name.split(".")[0])]) for name in saved})

    @torch.no_grad()
    def _laid(self, saved: Parts, name: str, weight: Tensor) -> Tensor:
        if not self._in_rows({name: weight}) or saved.shape(name) != tuple(weight.shape):
            return saved.read(name)
        rows = saved.read(name, self.ranks.rows(weight))
        laid = torch.empty_like(weight, dtype=rows.dtype)
        self.ranks.local(laid).copy_(rows)
        return laid

    def _read_whole(self, own: Mapping[str, Tensor], folder: Path) -> None:
        with self.ranks.making():
            whole = load_causal_lm(str(folder)).state_dict()
        for name, tensor in own.items():
            self.ranks.deal(tensor, whole.pop(name))

    def _describe(self, policy: Policy, folder: Path) -> None:
        write_description(policy.model, folder)
        policy.text.tokenizer.save_pretrained(folder)

    def _write_rows(self, stem: str, tensors: Mapping[str, Tensor]) -> None:
        rows = {name: self.ranks.local(tensor.detach()) for name, tensor in tensors.items()}
        if not self._in_rows(tensors):
            if self.ranks.rank == 0:
                save_file(
                    {name: tensor.contiguous() for name, tensor in rows.items()}, self.folder / part_name(stem, 0, 1)
                )
            return
        first = self.ranks.rank == 0
        mine = {n: t.contiguous() for n, t in rows.items() if first or (t.numel() and self._in_rows({n: tensors[n]}))}
        save_file(mine, self.folder / part_name(stem, self.ranks.rank, self.ranks.world))

    def _in_rows(self, tensors: Mapping[str, Tensor]) -> bool:
        return any(self.ranks.local(tensor) is not tensor for tensor in tensors.values())

    def _agreed(self, write: Callable[[], None]) -> None:
        """All ranks write, or all raise: none waits for one that could not."""
        failure: Exception | None = None
        try:
            write()
        except (OSError, SafetensorError, CheckpointError) as error:
            failure = error
        if self.ranks.most(int(failure is not None)):
            raise failure or RuntimeError(f"another learner than rank {self.ranks.rank} could not write: {self.folder}")


def another_model(stem: str, got: str, accepted: str) -> CheckpointError:
    """A table that cannot be of these weights."""
    return CheckpointError(
        f"{stem} in this checkpoint belongs to another model.",
        got=got,
        accepted=accepted,
        todo="resume with the model and the objective that the run began with.",
    )
