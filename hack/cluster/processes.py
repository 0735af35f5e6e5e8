"""Processes that outlive whoever started them, and are still stopped exactly.

Purpose: start a component in a session of its own, remember it in a pid file, and later stop, pause, continue or
observe that very process, from any other process.

Guarantees:

* A pid file holds the pid and the start time of the process. A pid that was given to another process since is never
  signalled.
* It works after the starter was killed with SIGKILL, because nothing is remembered in the starter alone.
* Stopping a paused process works: it is continued so that it can act on SIGTERM.

What this does not do: no restart, no supervision.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hack.cluster.errors import ClusterError

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Our own children, so that they are reaped and not left as zombies. Never asked about anything else."""


def started_at(pid: int) -> str | None:
    """Return what tells this process from a later one of the same pid; ``None`` when none runs (a zombie does not)."""
    child = _children.get(pid)
    # Of a child that was killed the first thread may be a zombie while the others still hold its ports.
    ending = child is not None and child.poll() is None
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        if Path("/proc/self/stat").exists():
            return None
    else:
        return None if fields[0] in "ZX" and not ending else fields[19]
    shown = subprocess.run(("ps", "-o", "lstart=,stat=", "-p", str(pid)), text=True, capture_output=True, check=False)
    text = shown.stdout.strip()
    return None if shown.returncode != 0 or text.rpartition(" ")[2].startswith("Z") else text.rpartition(" ")[0]


@dataclass(frozen=True, slots=True)
class Process:
    """One component: its name, and the directory of its pid file and log."""

    name: str
    directory: Path

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.directory / f"{self.name}.log"

    @property
    def pid_file(self) -> Path:
        """Where its pid and start time stand."""
        return self.directory / f"{self.name}.pid"

    def start(self, argv: Sequence[str], *, env: Mapping[str, str] | None = None) -> int:
        """Start it, detached from this terminal and session; return the pid. Raises ClusterError when it runs."""
        if self.pid() is not None:
            raise ClusterError(f"{self.name} runs already (pid {self.pid()}, {self.pid_file})")
        self.directory.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            child = subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=None if env is None else {**os.environ, **env},
            )
        _children[child.pid] = child
        self.pid_file.write_text(json.dumps({"pid": child.pid, "started": started_at(child.pid), "argv": list(argv)}))
        return child.pid

    def pid(self) -> int | None:
        """Return the pid while the process runs, paused or not; ``None`` once it has ended."""
        try:
            kept = json.loads(self.pid_file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None
        pid: int = kept["pid"]
        return pid if kept["started"] is not None and started_at(pid) == kept["started"] else None

    def signal(self, number: signal.Signals) -> bool:
        """Send a signal to exactly this process; tell whether it ran."""
        pid = self.pid()
        if pid is None:
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
            return True
        return False

    def stop(self, *, timeout: float = 15.0) -> None:
        """Ask it to end, wait *timeout* seconds, then kill it. Nothing happens when it does not run."""
        if self.signal(signal.SIGTERM):
            self.signal(signal.SIGCONT)
            if not self.wait(timeout):
                self.kill()
        self.pid_file.unlink(missing_ok=True)

    def kill(self) -> None:
        """End it with SIGKILL and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait(10.0)

    def wait(self, timeout: float) -> bool:
        """Wait until it has ended; tell whether it has."""
        end = time.monotonic() + timeout
        while self.pid() is not None:
            if time.monotonic() >= end:
                return False
            time.sleep(0.02)
        return True

    def tail(self, lines: int = 15) -> str:
        """Return the end of its log."""
        try:
            return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])
        except FileNotFoundError:
            return ""
