"""What happened in a run: a digest to compare two runs by, and a text to read.

Purpose: every commit, every write that a manager sent, and every fault, in their order, with virtual time.

Guarantees:

* CLK4: two runs of the same choices have the same digest; what it covers is every commit (version, object, actor, time)
  and every write of a manager with its answer. A difference of one byte in one stored object changes the digest.
* TST5: :class:`Artefact` is what replays a run: workload, plan and tape.

What this does not do: reads are not part of the digest; they change nothing. Nor are the bytes of certificates: keys
are drawn by the machine and not by the tape, and nothing that happens depends on them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import msgspec
import orjson

from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.faults import EVENTS, LEASES, Plan

DRAWN_ELSEWHERE: Final = frozenset(
    {
        "secrets",
        "customresourcedefinitions.apiextensions.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
        "validatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)
"""Whose bytes have certificates in them."""


class History:
    """Looks on at a server from now on."""

    def __init__(self, server: ApiServer, *, start: float) -> None:
        """*start* is the wall time from which the lines count."""
        self._server = server
        self._start = start
        self._digest = hashlib.sha256()
        self._lines: list[tuple[float, str]] = []
        self.commits = 0
        server.storage.listeners.append(self._on_commit)

    def note(self, text: str) -> None:
        """Add a line that is no commit: a fault, a step of the workload."""
        now = self._server.clock.now()
        self._digest.update(f"{now:.6f} {text}\n".encode())
        self._lines.append((now, f"** {text}"))

    def _on_commit(self, commit: Commit) -> None:
        self.commits += 1
        stored = orjson.dumps(commit.new.obj)
        self._digest.update(f"{commit.time:.6f} {commit.rv} {commit.type} {commit.resource} {commit.key} ".encode())
        self._digest.update(commit.actor.encode() + (b"" if commit.resource in DRAWN_ELSEWHERE else stored))
        if commit.resource in EVENTS or commit.resource == LEASES:
            return
        status = commit.new.obj.get("status") or {}
        phase = f" phase={status['phase']}" if "phase" in status else ""
        if "active" in status:
            phase += f" {status['active']}/{status.get('succeeded')}/{status.get('failed')} of {status.get('desired')}"
        going = " terminating" if commit.new.obj["metadata"].get("deletionTimestamp") else ""
        text = f"   rv {commit.rv} {commit.type} {commit.resource} {commit.key}{phase}{going} by {commit.actor}"
        self._lines.append((commit.time, text))

    def digest(self, calls: Sequence[Call] = ()) -> str:
        """Return the digest of everything so far, the writes among *calls* included."""
        whole = self._digest.copy()
        for call in calls:
            if call.writes:
                what = f"{call.verb} {call.resource}/{call.subresource} {call.key} {call.code}"
                text = f"{call.time:.6f} {call.actor} {what}"
                whole.update(text.encode() + (b"" if call.resource in DRAWN_ELSEWHERE else call.body or b""))
        return whole.hexdigest()

    def text(self, calls: Sequence[Call] = ()) -> str:
        """Return the history for people: commits, faults, and the writes among *calls* that were refused or lost."""
        lines = list(self._lines)
        for call in calls:
            if call.writes and not 200 <= call.code < 300 and call.resource not in EVENTS and call.resource != LEASES:
                sub = f"/{call.subresource}" if call.subresource else ""
                answer = call.code or "no answer"
                text = f"!! {call.verb} {call.resource}{sub} {call.key} by {call.actor}: {answer} {call.reason}"
                lines.append((call.time, text))
        lines.sort(key=lambda pair: pair[0])
        return "\n".join(f"{time - self._start:10.3f}  {text}" for time, text in lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Artefact:
    """Everything that is needed to see a run again."""

    workload: str
    plan: Plan
    tape: tuple[int, ...]
    seed: int = 0
    """Where the plan and the tape came from."""
    version: str = ""
    """The commit of the code that failed."""
    error: str = ""
    digest: str = ""

    def write(self, path: Path) -> None:
        """Store it as JSON."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(msgspec.json.format(msgspec.json.encode(self), indent=1))

    @classmethod
    def read(cls, path: Path) -> Artefact:
        """Load it. Raises OSError and msgspec.DecodeError."""
        return msgspec.convert(msgspec.json.decode(path.read_bytes()), cls, strict=False)
