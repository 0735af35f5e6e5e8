"""The part of the schema of SidecarSet that speaks of its status.

Guarantees: as in ``sidecarset_schema``, to which this belongs: no field of the status is required, but for the type and
the status of a condition.

What this does not do: it says nothing about when a status is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kruise.apis.schema import Doc, TypeDoc
from kruise.apis.sidecarset import SidecarSetCondition, SidecarSetStatus
from kruise.apis.sidecarset_schema_words import MESSAGE, TIME, WORD, count

__all__ = ["STATUS_TYPES"]

_CONDITION: Final = TypeDoc(
    text="One condition of the set.",
    fields={
        "type": Doc(text="Available, Progressing or Injected.", required=True, max_length=WORD),
        "status": Doc(text="True, False or Unknown.", required=True, max_length=WORD),
        "lastTransitionTime": Doc(
            text="When the status of the condition last changed.", format="date-time", max_length=TIME
        ),
        "reason": Doc(text="Why, in one word.", max_length=WORD),
        "message": Doc(text="Why, in a sentence.", max_length=MESSAGE),
    },
)
_STATUS: Final = TypeDoc(
    text="What was reached. Written by the controller alone.",
    fields={
        "observedGeneration": Doc(text="The generation of the set that this status speaks of.", format="int64"),
        "matchedPods": count("Pods that have the containers of the set."),
        "updatedPods": count("Those of them that have the present containers."),
        "readyPods": count("Pods that have the containers, run them as asked for, and are ready."),
        "updatedReadyPods": count("Updated pods that are ready."),
        "latestRevision": Doc(text="The ControllerRevision of the present containers.", max_length=WORD),
        "collisionCount": count("How often the name of a revision was taken by another one."),
        "conditions": Doc(
            text=(
                "Available says whether enough pods are ready, Progressing whether the upgrade moves, and if not, why "
                "not. Injected says whether every pod that should have the containers does."
            ),
            max_items=64,
            list_keys=("type",),
        ),
    },
)

STATUS_TYPES: Final[Mapping[type[msgspec.Struct], TypeDoc]] = {
    SidecarSetStatus: _STATUS,
    SidecarSetCondition: _CONDITION,
}
"""The structs of the status."""
