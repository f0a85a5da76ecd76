"""Who may come in: a cluster runs whatever it is sent, so Scoreline joins none that does not ask for a token."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from scoreline.errors import ClusterError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
AUTO = "auto"
"""The address of whatever cluster this machine belongs to."""
PATIENCE = 5.0
"""Seconds in which an address must answer."""
SLOW = 30.0
"""Seconds after which a knock is given up; most of them load Ray."""

MODE, TOKEN, TOKEN_PATH = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
HOME = Path("~/.ray/auth_token")
"""Where Ray keeps a machine's token."""

Answer = Literal["open", "shut", "unknown"]

KNOCK = """
import sys
from ray._raylet import GcsClient
from ray.exceptions import AuthenticationError
try:
    GcsClient(address=sys.argv[1]).check_alive([], timeout=10)
except AuthenticationError:
    sys.exit(3)
"""
"""In a process of its own: Ray reads its token once, and never again."""


def take_token(address: str) -> None:
    """Have Ray show the token that is there: asked for an address, Ray by itself would not."""
    check_form(address)
    if os.environ.get(MODE, "token") != "token":
        raise ClusterError(
            "A cluster runs whatever it is sent, by anyone who reaches it, unless it asks for a token.",
            got=f"runtime.address={address} with {MODE}={os.environ[MODE]}",
            accepted=f"{MODE}=token, on every node",
            todo="make a token with `ray get-auth-token --generate`, give it to every node, start the cluster again.",
        )
    kept = Path(os.environ.get(TOKEN_PATH) or HOME).expanduser()
    if not os.environ.get(TOKEN) and not kept.is_file():
        raise ClusterError(
            "There is no token to show to the cluster.",
            got=f"runtime.address={address}, no {TOKEN}, no file {kept}",
            accepted="the token that the cluster was started with",
            todo=f"set {TOKEN}, or copy the file ~/.ray/auth_token of the head node; the cluster must be one that asks"
            " for it (`ray get-auth-token --generate` before `ray start`).",
        )
    os.environ[MODE] = "token"


def check_form(address: str) -> None:
    """Refuse what cannot be an address."""
    host, _, port = address.rpartition(":")
    if address != AUTO and not (host and port.isdecimal() and "/" not in host and int(port) < 1 << 16):
        raise ClusterError(
            "This is no address of a cluster.",
            got=f"runtime.address={address}",
            accepted='HOST:PORT of a Ray head node, such as 10.0.0.1:6379, or "auto" on one of its machines',
            todo="give what `ray start --head` printed, or leave runtime.address out for a cluster of this machine.",
        )


def check_address(address: str) -> None:
    """Refuse an address where nothing answers."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE).close()
    except OSError as error:
        raise ClusterError(
            "Nothing answers at the address of the cluster.",
            got=f"runtime.address={address}: {error}",
            accepted='HOST:PORT of a Ray head node, or "auto" on one of its machines',
            todo="start it with `ray start --head --port PORT`, or leave runtime.address out.",
        ) from error


def check_welcome(address: str) -> None:
    """Refuse a cluster that does not take this machine's token, and what is no cluster; Ray would try for long."""
    found = knock(address, os.environ)
    if found == "unknown":
        raise ClusterError(
            "What answers at this address does not answer as a Ray cluster does.",
            got=f"runtime.address={address}",
            accepted="HOST:PORT that `ray start --head` printed, of the same version of Ray",
            todo="check host and port, and `scoreline env` on both machines.",
        )
    if found == "shut":
        raise ClusterError(
            "The cluster does not take this token.",
            got=f"runtime.address={address}",
            accepted="the token that the cluster was started with",
            todo=f"set {TOKEN}, or copy the file ~/.ray/auth_token of the head node.",
        )


def check_guarded(address: str) -> None:
    """Refuse a cluster that lets in whoever comes. It is asked, as somebody without a token would ask it."""
    found = knock(address, stranger(os.environ))
    if found == "open":
        raise ClusterError(
            "This cluster lets in whoever reaches it, and runs whatever it is sent.",
            got=f"{address} answers without a token",
            accepted="a cluster that asks for one",
            todo=f"make a token with `ray get-auth-token --generate`, give it to every node, and start the cluster"
            f" again with {MODE}=token.",
        )
    if found == "unknown":
        raise ClusterError(
            "It could not be found out whether this cluster asks for a token.",
            got=f"no answer from {address} to somebody without one",
            accepted="a cluster that refuses, which takes it less than a second",
            todo="look whether the head node is overloaded; try again.",
        )


def stranger(environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of somebody who knows no token."""
    known = {name: value for name, value in environment.items() if name not in (TOKEN, TOKEN_PATH)}
    return known | {MODE: "disabled"}


def knock(address: str, environment: Mapping[str, str]) -> Answer:
    """Whether the cluster lets somebody with this environment in."""
    asked = [sys.executable, "-c", KNOCK, address]
    try:
        code = subprocess.run(asked, env=dict(environment), capture_output=True, timeout=SLOW, check=False).returncode
    except subprocess.TimeoutExpired:
        return "unknown"
    return {0: "open", 3: "shut"}.get(code, "unknown")  # type: ignore[return-value]
