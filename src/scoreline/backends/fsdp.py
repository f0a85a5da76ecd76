"""A learner's weights in rows over several processes: torch's `fully_shard`, over gloo on CPUs and NCCL on GPUs.

Rank r of N holds rows [r m, (r + 1) m) of each weight, m = ceil(rows / N), of its gradient and of its moments. The
weights of a layer are gathered when it computes, in the forward pass and again in the backward pass; its gradient is
summed and cut into rows as soon as it is there.
"""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import timedelta
from hashlib import sha256
from importlib import import_module
from ipaddress import ip_address
from typing import Any, cast

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from scoreline.backends.dealing import compare, deal, made_after
from scoreline.errors import EngineError, ModelError
from scoreline.models.adapters import adapted_layers
from scoreline.models.compiling import layers_of
from scoreline.models.making import emptied
from scoreline.models.shapes import settings
from scoreline.train.ranks import Outputs, SumPrecision, Within, here
from scoreline.types import Metrics


def join(rank: int, world: int, address: str, device: torch.device, timeout: float = 600.0) -> Fsdp:
    """Meet the other ranks at `address`, "HOST:PORT", where rank 0 listens. All ranks call it.

    An operation that the others do not join within `timeout` seconds raises, and so does one whose partner has died.
    On a loopback address nothing listens on any other. One process can be one rank, once at a time.
    """
    if device.type == "cuda":
        torch.cuda.set_device(device)
    patience = timedelta(seconds=timeout)
    try:
        store = meet(rank, world, address, patience)
        backend = "nccl" if device.type == "cuda" else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=patience)
    except (dist.DistError, OSError, RuntimeError) as error:
        raise EngineError(
            f"Rank {rank} of {world} did not find the other learners.",
            got=f"{address}: {str(error).splitlines()[0]}",
            accepted="an address of rank 0's machine that all ranks reach, with a free port",
            todo="check the network between the machines; GLOO_SOCKET_IFNAME or NCCL_SOCKET_IFNAME names an interface.",
        ) from error
    return Fsdp(rank, world, device)


def meet(rank: int, world: int, address: str, patience: timedelta) -> TCPStore:
    """The table through which the ranks find one another. Rank 0 serves it, on this address and no other.

    gloo listens where the machine's own name leads, on many machines the loopback: it is told by which interface rank 0
    is reached. NCCL looks for itself, and on a loopback address is kept there.
    """
    host, _, port = address.rpartition(":")
    for library in ("GLOO", "NCCL") if is_loopback(host) else ("GLOO",):
        os.environ.setdefault(f"{library}_SOCKET_IFNAME", interface(host))
    listening = socket.create_server((host, int(port))).detach() if rank == 0 else None
    return TCPStore(host, int(port), world, rank == 0, patience, wait_for_workers=False, master_listen_fd=listening)


class Fsdp:
    """`Ranks` whose models lie in rows over the processes of the default group.

    Models under an adapter share their frozen weights with one another: they stay whole on every rank, and the
    gradients of their adapters are added up after the backward passes.
    """

    def __init__(self, rank: int, world: int, device: torch.device) -> None:
        self.rank, self.world, self.device = rank, world, device
        self.mesh: DeviceMesh = init_device_mesh(device.type, (world,))

    def making(self) -> AbstractContextManager[None]:
        """On rank 0 models are read, onto the CPU; the other ranks make the same without numbers."""
        return made_after(self.rank, self.device)

    def leave(self) -> None:
        """End the group of processes. What lies in rows cannot be used any more."""
        dist.destroy_process_group()

    def shard(self, models: Sequence[nn.Module], sums: SumPrecision = "fp32") -> Within:
        """The models in rows: a decoder layer at a time, and what is outside of layers in one piece.

        The numbers are rank 0's. They reach a device in rows: it never holds more than those and one whole tensor. Sums
        in fp64 are whole on every rank until the last pass, 8 bytes for each weight.
        """
        compare(self.rank, settings(models), self.device)
        if any(adapted_layers(model) for model in models):
            self._same(checksum(models))
            return here
        together = Together(models)
        self._same(outline(together))
        whole = emptied(together)
        summed = MixedPrecisionPolicy(reduce_dtype=torch.float64 if sums == "fp64" else None)
        for layer in (layer for model in models for layer in separable(model)):
            fully_shard(layer, mesh=self.mesh, mp_policy=summed)
        gathered = Gathered(fully_shard(together, mesh=self.mesh, mp_policy=summed), waits=sums == "fp64")
        together.to_empty(device=self.device)
        for name, tensor in (*together.named_parameters(), *together.named_buffers()):
            self.deal(tensor, whole.pop(name))
        return gathered

    def deal(self, own: Tensor, whole: Tensor) -> None:
        """From rank 0, a rank's rows at a time."""
        deal(own, whole if self.rank == 0 else None)

    def add(self, tensors: Sequence[Tensor]) -> None:
        """One sum of all of them."""
        whole = [tensor for tensor in tensors if not isinstance(tensor, DTensor)]
        if not whole:
            return
        flat = torch.cat([tensor.flatten() for tensor in whole])
        dist.all_reduce(flat)
        for tensor, summed in zip(whole, flat.split([tensor.numel() for tensor in whole]), strict=True):
            tensor.copy_(summed.view_as(tensor))

    def total(self, values: Metrics) -> Metrics:
        """Sums in fp64, in the order of the names."""
        names = sorted(values)
        sums = torch.tensor([values[name] for name in names], dtype=torch.float64, device=self.device)
        dist.all_reduce(sums)
        summed = dict(zip(names, sums.tolist(), strict=True))
        return {name: summed[name] for name in values}

    def most(self, count: int) -> int:
        """The largest of integers."""
        largest = torch.tensor(count, dtype=torch.int64, device=self.device)
        dist.all_reduce(largest, dist.ReduceOp.MAX)
        return int(largest)

    def whole(self, tensor: Tensor) -> Tensor:
        """The rows of all ranks, one after the other."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor

    def local(self, tensor: Tensor) -> Tensor:
        """This rank's rows."""
        return tensor.to_local() if isinstance(tensor, DTensor) else tensor

    def rows(self, tensor: Tensor) -> slice:
        """[r m, (r + 1) m) with m = ceil(rows / N): the last ranks may have fewer rows, or none."""
        if not isinstance(tensor, DTensor):
            return slice(None)
        count = tensor.shape[0]
        each = -(-count // self.world)
        return slice(min(self.rank * each, count), min((self.rank + 1) * each, count))

    def _same(self, found: int) -> None:
        """Ranks that begin with other weights would train a mixture of them; with other shapes they cannot at all."""
        if self.most(found) != -self.most(-found):
            raise ModelError(
                "The learner's ranks did not load the same weights.",
                got=f"rank {self.rank} of {self.world} has other weights than another rank",
                accepted="one model, the same on every machine, and the same seed",
                todo="give a folder that all machines share, or copy it to each again.",
            )


class Together(nn.Module):
    """Models whose passes are one: its forward pass is whatever computes with them."""

    def __init__(self, models: Sequence[nn.Module]) -> None:
        super().__init__()
        self.models = nn.ModuleList(models)

    def forward(self, compute: Callable[[], Outputs]) -> Outputs:
        """What `compute` returns: a tuple, so that the backward pass is seen to begin."""
        return compute()


class Gathered:
    """Passes of models that lie in rows. Gradients are summed over the ranks, never divided by their number: after each
    pass, or, where that sum `waits`, after the last.
    """

    def __init__(self, together: FSDPModule, *, waits: bool) -> None:
        self.together, self.waits = together, waits
        for module in cast(nn.Module, together).modules():
            if isinstance(module, FSDPModule):
                module.set_gradient_divide_factor(1.0)
                module.set_force_sum_reduction_for_comms(True)
        # A rank whose tokens never met some expert still joins in the sum of its gradient; older torch cannot say so.
        getattr(together, "set_reduce_scatter_unused_params", bool)(True)

    def __call__(self, compute: Callable[[], Outputs], last: bool = True) -> Outputs:
        """One pass. Without a gradient no backward pass will let go of what was gathered; here it is let go."""
        self.together.set_requires_gradient_sync(last or not self.waits)
        if self.waits and last:
            complete(self.together)
        out: Outputs = cast(Any, self.together)(compute)
        if not torch.is_grad_enabled():
            self.together.reshard()
        return out


def complete(together: FSDPModule) -> None:
    """A zero fp64 sum for each weight without a gradient in passes in which others of its group had one.

    torch reduces a group of one dtype, and would take the zeros of such a weight, a critic's held head, in fp32.
    """
    for module in (m for m in cast(nn.Module, together).modules() if isinstance(m, FSDPModule)):
        for group in cast(Any, module)._get_fsdp_state()._fsdp_param_groups:
            learning = [weight for weight in group.fsdp_params if weight.sharded_param.requires_grad]
            begun = [weight.unsharded_accumulated_grad is not None for weight in learning]
            for weight in (weight for weight, one in zip(learning, begun, strict=True) if not one and any(begun)):
                shape = weight.sharded_param.shape
                weight.unsharded_accumulated_grad = torch.zeros(shape, dtype=torch.float64, device=group.device)


def separable(model: nn.Module) -> Sequence[nn.Module]:
    """A model's decoder layers if each has its weights to itself; none where they share some or lie in one another."""
    named = getattr(model, "trunk", None) or model  # a critic's layers are those of its trunk
    layers = layers_of(named) if getattr(named, "_no_split_modules", None) else []
    uses = Counter(id(weight) for _, weight in model.named_parameters(remove_duplicate=False))
    inside = [id(weight) for layer in layers for weight in layer.parameters()]
    return layers if all(uses[one] == 1 for one in inside) and len(set(inside)) == len(inside) else ()


def checksum(models: Sequence[nn.Module]) -> int:
    """The sum of the bits of all weights, as integers: the same in any order of summation."""
    kinds = {4: torch.int32, 2: torch.int16}
    total = 0
    for weight in (p.detach() for model in models for p in model.parameters()):
        total += int(weight.contiguous().view(kinds.get(weight.element_size(), torch.uint8)).sum(dtype=torch.int64))
    return total % (1 << 62)


def outline(model: nn.Module) -> int:
    """A number of 62 bits for names, shapes and types of all weights and buffers, and for which are tied."""
    places = [*model.named_parameters(remove_duplicate=False), *model.named_buffers(remove_duplicate=False)]
    first: dict[int, str] = {}
    told = [(name, first.setdefault(id(one), name), tuple(one.shape), str(one.dtype)) for name, one in places]
    return int.from_bytes(sha256(repr(told).encode()).digest()[:8], "big") >> 2


def is_loopback(host: str) -> bool:
    """Whether an address can be reached from this machine alone."""
    return ip_address(socket.gethostbyname(host)).is_loopback


def interface(host: str) -> str:
    """The name of the network interface by which this machine reaches an address, which may be its own."""
    psutil: Any = import_module("psutil")
    own = own_address(host)
    found = ((name, one.address.partition("%")[0]) for name, ones in psutil.net_if_addrs().items() for one in ones)
    return str(next(name for name, address in found if address == own))


def own_address(host: str) -> str:
    """This machine's address, as a host would see it. Nothing is sent to find out."""
    family, _, _, _, there = socket.getaddrinfo(host, 9, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(there)
        return str(probe.getsockname()[0])
