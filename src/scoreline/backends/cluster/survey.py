"""What a cluster is made of: its nodes, their room, and the versions that they run."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import metadata
from typing import Any

from scoreline.backends.cluster.connect import check_installed, join
from scoreline.backends.cluster.process import versions
from scoreline.errors import ClusterError

PATIENCE = 60.0
"""Seconds in which every node must have started a process."""


@dataclass(frozen=True)
class Node:
    """One machine of a cluster. `memory` is what Ray gives to processes, in bytes."""

    address: str
    cpus: float
    gpus: float
    memory: float
    versions: dict[str, str]


def ray_version() -> str | None:
    """Of the Ray that is installed here."""
    try:
        return metadata.version("ray")
    except metadata.PackageNotFoundError:
        return None


def survey(address: str) -> list[Node]:
    """The nodes of the cluster at this address, the head first. Each is asked for its versions, by a short task."""
    check_installed()
    ray = join(address)
    try:
        alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: (not is_head(node), str(node)))
        asked = [ask(ray, node["NodeID"]) for node in alive]
        ready, _ = ray.wait(asked, num_returns=len(asked), timeout=PATIENCE)
        if len(ready) < len(asked):
            silent = [node["NodeManagerAddress"] for node, ref in zip(alive, asked, strict=True) if ref not in ready]
            raise ClusterError(
                "Nodes of the cluster start no process.",
                got=f"nothing from {', '.join(silent)} in {PATIENCE:g} s",
                todo="look into Ray's logs there, /tmp/ray/session_latest/logs.",
            )
        return [described(node, told) for node, told in zip(alive, ray.get(asked), strict=True)]
    finally:
        ray.shutdown()


def ask(ray: Any, node: str) -> Any:
    """A reference to the versions on this node."""
    there = ray.util.scheduling_strategies.NodeAffinitySchedulingStrategy(node_id=node, soft=False)
    return ray.remote(num_cpus=0, scheduling_strategy=there)(known_versions).remote()


def known_versions() -> dict[str, str]:
    """Of Ray, of Python and of the libraries that compute."""
    return {"ray": ray_version() or "", **versions()}


def is_head(node: dict[str, Any]) -> bool:
    """Whether the cluster's own tables live there."""
    return "node:__internal_head__" in node["Resources"]


def described(node: dict[str, Any], told: dict[str, str]) -> Node:
    """A row of Ray's table as a node."""
    has = node["Resources"]
    return Node(node["NodeManagerAddress"], has.get("CPU", 0.0), has.get("GPU", 0.0), has.get("memory", 0.0), told)
