"""The part of the schema of Advanced StatefulSet that speaks of its status.

Guarantees: as in ``statefulset_schema``, to which this belongs: no field of the status is required, but for the type
and the status of a condition.

What this does not do: it says nothing about when a status is written.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from kruise.apis.schema import Doc, TypeDoc
from kruise.apis.statefulset import StatefulSetCondition, StatefulSetStatus, VolumeClaimStatus
from kruise.apis.statefulset_schema_words import MESSAGE, TIME, WORD, count

__all__ = ["STATUS_TYPES"]

_LABEL_TEXT: Final = 524288
"""Longest text of a selector within its bounds, and some."""

_CONDITION: Final = TypeDoc(
    text="One condition of the set.",
    fields={
        "type": Doc(
            text=(
                "Available, Progressing, Ready, Paused, Reconciling, Stalled, Degraded, FailedCreatePod or "
                "FailedUpdatePod."
            ),
            required=True,
            max_length=WORD,
        ),
        "status": Doc(text="True, False or Unknown.", required=True, max_length=WORD),
        "lastTransitionTime": Doc(
            text="When the status of the condition last changed.", format="date-time", max_length=TIME
        ),
        "reason": Doc(text="Why, in one word.", max_length=WORD),
        "message": Doc(text="Why, in a sentence.", max_length=MESSAGE),
    },
)
_CLAIM_STATUS: Final = TypeDoc(
    text="How many pods have claims that fit a claim template.",
    fields={
        "volumeClaimName": Doc(text="The name of the claim template.", max_length=WORD),
        "compatibleReplicas": count("Claims with the class and modes of the template, and at least its size."),
        "compatibleReadyReplicas": count("Those of them that have got the size that they ask for."),
    },
)
_STATUS: Final = TypeDoc(
    text="What was reached. Written by the controller alone.",
    fields={
        "observedGeneration": Doc(text="The generation of the set that this status speaks of.", format="int64"),
        "replicas": count("Pods that exist, those on their way out included."),
        "readyReplicas": count("Pods that are ready."),
        "availableReplicas": count("Pods that have been ready for minReadySeconds."),
        "currentReplicas": count("Pods of the current revision that are not being deleted."),
        "updatedReplicas": count("Pods of the update revision that are not being deleted."),
        "updatedReadyReplicas": count("Pods of the update revision that are ready."),
        "updatedAvailableReplicas": count("Pods of the update revision that have been ready for minReadySeconds."),
        "currentRevision": Doc(text="The ControllerRevision that the pods had before the update.", max_length=WORD),
        "updateRevision": Doc(text="The ControllerRevision of the present template.", max_length=WORD),
        "collisionCount": count("How often the name of a revision was taken by another one."),
        "conditions": Doc(
            text=(
                "Available says whether enough pods are, Progressing whether the set moves, and if not, why not. "
                "FailedCreatePod and FailedUpdatePod name what an API server last refused."
            ),
            max_items=64,
            list_keys=("type",),
        ),
        "labelSelector": Doc(
            text="The selector as text, for the scale subresource and those who read it.", max_length=_LABEL_TEXT
        ),
        "volumeClaims": Doc(text="For every claim template, how many pods have claims that fit it.", max_items=64),
    },
)

STATUS_TYPES: Final[Mapping[type[msgspec.Struct], TypeDoc]] = {
    StatefulSetStatus: _STATUS,
    StatefulSetCondition: _CONDITION,
    VolumeClaimStatus: _CLAIM_STATUS,
}
"""The structs of the status."""
