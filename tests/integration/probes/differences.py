"""The differences between the embedded server and a real one that are accepted, each with its reason.

A probe that is listed here must still give the same answer on each server as before: what the embedded one answers is
written down beside the reason.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Difference:
    """One accepted difference."""

    reason: str
    embedded: Any
    """What the embedded server answers instead."""


ACCEPTED: Final[dict[str, Difference]] = {
    "server_side_apply": Difference(
        "field ownership comes later; until then the refusal says which kinds of patch there are", 415
    ),
}

OUTSIDE: Final[dict[str, str]] = {
    "descriptions in OpenAPI": "built-in types carry names, types and merge keys, no descriptions",
    "managedFields": "they are absent, as nobody owns fields without server-side apply",
    "storageVersionHash, selfLink": "clients do not decide by them; they are left out of the comparison",
    "the dump of both specs in the refusal of a pod update": "it is Go's own rendering of a structure",
    "controllers of Deployment, StatefulSet, ReplicaSet, DaemonSet and Job": "these kinds are stored and shown only",
    "the authorizer of matchConditions": "there is no authorization; an expression that asks for it is an error",
    "logs, exec, attach, port-forward": "a simulated pod runs no process; the refusal says so",
}
"""What no probe compares, and why."""
