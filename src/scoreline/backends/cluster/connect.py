"""A Ray cluster to run on: one of this machine alone, on loopback and behind a token, or one that is there already."""

from __future__ import annotations

import logging
import os
import secrets
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from packaging.specifiers import SpecifierSet

from scoreline.backends.cluster.doors import AUTO, LOOPBACK, check_address, check_guarded, check_welcome, take_token
from scoreline.backends.installed import check_distribution, installed
from scoreline.backends.runtime import Ray
from scoreline.errors import ClusterError

TESTED = SpecifierSet(">=2.52,<3")

QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
PRIVATE = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray's own switch for machines that no other machine may reach: every server of it listens on loopback."""


@contextmanager
def connected(settings: Ray) -> Iterator[Any]:
    """The module `ray`, connected. A cluster that was started here ends here, with all of its processes."""
    check_installed()
    ray = start(settings) if settings.address is None else join(settings.address)
    try:
        yield ray
    finally:
        ray.shutdown()


def check_installed() -> None:
    """Refuse a machine without Ray, or with one that was never tested."""
    check_distribution(*installed(["ray"], "pip install 'scoreline[ray]'"), TESTED, beside=())


def start(settings: Ray) -> Any:
    """A cluster of this machine: no dashboard, only loopback, a random token where the environment has none."""
    os.environ.update(QUIET | PRIVATE | {"RAY_AUTH_MODE": "token"})
    os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_urlsafe(32))
    os.environ.setdefault("RAY_worker_niceness", "0")  # here the workers are the work
    os.environ.pop("RAY_ADDRESS", None)  # it would turn a cluster of one's own into somebody else's
    ray = import_module("ray")
    places = settings.learners + settings.rollouts + settings.scorers
    with unheard(signal.SIGTERM):
        ray.init(include_dashboard=False, log_to_driver=False, num_cpus=places, logging_level=logging.ERROR)
    node = str(ray.util.get_node_ip_address())
    if node not in LOOPBACK:
        ray.shutdown()
        raise ClusterError(
            "Ray would listen on a network interface, though it was asked for this machine alone.",
            got=f"node address {node}",
            accepted=" or ".join(LOOPBACK),
            todo="start scoreline in a process that has not imported ray before.",
        )
    return ray


@contextmanager
def unheard(number: signal.Signals) -> Iterator[None]:
    """Whatever is started meanwhile never gets this signal. Who stops a run may send it to all of its processes, and
    the step that is finished first needs the cluster. Ray keeps Ctrl-C from its own like this; in the end it asks each
    of them with SIGTERM, and kills it a second later. Windows has no such masks.
    """
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def join(address: str) -> Any:
    """The cluster that answers at this address, once it has asked for a token. Left in peace where it did not."""
    os.environ.update(QUIET)
    take_token(address)
    if address != AUTO:
        check_address(address)
        check_welcome(address)
    ray = import_module("ray")
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise ClusterError(
            "This Ray cluster cannot be joined.",
            got=f"runtime.address={address}: {' '.join(str(error).split())[:400]}",
            accepted="a cluster that was started with the same versions of Python and Ray, and the same token",
            todo="start it with `ray start --head`, check RAY_AUTH_TOKEN, or leave runtime.address out.",
        ) from error
    try:
        check_guarded(str(ray.get_runtime_context().gcs_address))
    except ClusterError:
        ray.shutdown()
        raise
    return ray


def check_room(ray: Any, settings: Ray, gpus: float = 0.0) -> None:
    """Refuse more processes than the cluster has places for, of which each takes `gpus`; Ray would wait for ever."""
    has = ray.cluster_resources()
    wanted = settings.learners + settings.rollouts
    processes = wanted + settings.scorers
    roles = ("learners", "rollouts")
    for name, needed, who in (
        ("CPU", float(processes), (*roles, "scorers") if settings.scorers else roles),
        ("GPU", wanted * gpus, roles),
    ):
        if needed > has.get(name, 0.0):
            raise ClusterError(
                f"The cluster has fewer {name}s than the run needs.",
                got=f"{needed:g} for " + ", ".join(f"runtime.{role}={getattr(settings, role)}" for role in who),
                accepted=f"at most {has.get(name, 0.0):g}",
                todo=f"lower {' or '.join(f'runtime.{role}' for role in who)}, or add nodes"
                + ("; model.device=cpu takes none." if name == "GPU" else "."),
            )
