"""Which control planes of this machine are ours, which ports they have, and which of them nobody owns any more.

Purpose: two clusters that start at once never choose one port, and a cluster whose test process was killed is found
and stopped by the next one that starts.

Guarantees: ports lie below the range from which the kernel takes the ports of outgoing connections, so that a component
that is restarted finds its port free. A cluster is an orphan only when the process that owns it is gone, and one that
was started in the background has no owner.

What this does not do: it knows nothing of clusters that other programs started.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import random
import socket
from collections.abc import Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, Final

from hack.cluster.binaries import cache_root
from hack.cluster.components import Ports
from hack.cluster.errors import ClusterError
from hack.cluster.processes import started_at

FIRST_PORT: Final = 20000


def _last_port() -> int:
    try:
        return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0]) - 1
    except (OSError, ValueError):
        return 32767


@contextlib.contextmanager
def _entries() -> Iterator[dict[str, dict[str, Any]]]:
    """Hold the registry: what the block leaves in the mapping is what stands there afterwards."""
    path = cache_root() / "running.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.seek(0)
        text = held.read()
        entries: dict[str, dict[str, Any]] = json.loads(text) if text.strip() else {}
        yield entries
        held.seek(0)
        held.truncate()
        json.dump(entries, held, indent=1)


def register(directory: Path, *, detached: bool) -> Ports:
    """Choose free ports for a cluster in *directory* and remember both. Raises ClusterError when there are none."""
    with _entries() as entries:
        for known in [d for d in entries if not Path(d).exists()]:
            del entries[known]
        taken = {port for entry in entries.values() for port in entry["ports"].values()}
        ports = Ports(*_free(len(fields(Ports)), taken))
        owner = None if detached else {"pid": os.getpid(), "started": started_at(os.getpid())}
        entries[str(directory)] = {"ports": asdict(ports), "owner": owner}
    return ports


def forget(directory: Path) -> None:
    """Take a stopped cluster out."""
    with _entries() as entries:
        entries.pop(str(directory), None)


def orphans() -> list[Path]:
    """Return the directories of clusters whose owner is gone."""
    with _entries() as entries:
        return [
            Path(directory)
            for directory, entry in entries.items()
            if (owner := entry["owner"]) is not None and started_at(owner["pid"]) != owner["started"]
        ]


def _free(count: int, taken: set[int]) -> list[int]:
    last = max(_last_port(), FIRST_PORT + 1000)
    found: list[int] = []
    # Random, because two machines' worth of test runs in one container should not all begin at the same port.
    for port in random.SystemRandom().sample(range(FIRST_PORT, last), last - FIRST_PORT):
        if port in taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        found.append(port)
        if len(found) == count:
            return found
    raise ClusterError(f"no {count} free ports between {FIRST_PORT} and {last} on 127.0.0.1")
