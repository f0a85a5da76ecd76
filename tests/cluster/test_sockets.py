"""Who could reach a run: nobody reaches a local one, and only this machine one on a cluster of its own."""

from __future__ import annotations

import json
from ipaddress import IPv6Address, ip_address
from pathlib import Path

import pytest

from tests.cluster.island import needs_island, on_island

WATCH = """
import json, subprocess, sys, time
from pathlib import Path

run, listened = subprocess.Popen(sys.argv[1:], stdout=sys.stderr), set()
while run.poll() is None:
    for table in ("tcp", "tcp6"):
        rows = [line.split() for line in Path("/proc/net", table).read_text().splitlines()[1:]]
        listened |= {row[1].split(":")[0] for row in rows if row[3] == "0A"}
    time.sleep(0.1)
print(json.dumps([run.returncode, sorted(listened)]))
"""
"""Every address that anything listens on while the command runs; nothing else lives in this network."""


def listened(runtime: str, folder: Path) -> list[str]:
    told = f'"$PYTHON" -c "$WATCH" "$PYTHON" -m scoreline train "$RECIPE" $SMALL folder="$FOLDER" {runtime}'
    done = on_island(told, WATCH=WATCH, FOLDER=str(folder))
    assert done.returncode == 0, done.stderr
    code, addresses = json.loads(done.stdout)
    assert code == 0, done.stderr
    assert (folder / "quickstart/summary.json").exists()
    return [in_words(address) for address in addresses]


def in_words(address: str) -> str:
    """As in /proc/net: words of 32 bits, each with its lowest byte first."""
    words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
    found = ip_address(b"".join(words))
    return str(found.ipv4_mapped or found) if isinstance(found, IPv6Address) else str(found)


def test_addresses_of_the_kernel() -> None:
    assert in_words("0100007F") == "127.0.0.1"
    assert in_words("0000000000000000FFFF00000100007F") == "127.0.0.1"
    assert in_words("00000000000000000000000001000000") == "::1"
    assert in_words("00000000") == "0.0.0.0"


@needs_island
def test_nothing_listens_in_a_local_run(tmp_path: Path) -> None:
    assert listened("", tmp_path) == []


@pytest.mark.ray
@needs_island
@pytest.mark.parametrize("runtime", ["runtime.type=ray runtime.threads=1 runtime.rollouts=2"])
def test_a_cluster_of_this_machine_listens_on_loopback_alone(runtime: str, tmp_path: Path) -> None:
    found = listened(runtime, tmp_path)
    assert found, "Ray has servers"
    assert [address for address in found if not ip_address(address).is_loopback] == []
