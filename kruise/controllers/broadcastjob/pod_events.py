"""Which changes of a pod matter to its BroadcastJob.

Purpose: a pod that is scheduled, pulls its image, starts and becomes ready reports four times, and none of it changes
what the job does next or what its status says. Only the changes that do are worth a pass.

Guarantees: :func:`same_for_job` holds only for two versions of a pod from which a view makes the same counts, and a
plan the same decisions (a property test). The view itself is told of every change, also of those that wake nobody, so
that the next pass writes with the newest resource version.

What this does not do: it knows no job. A restart counts as a change whatever the job's limit is.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

from kruise.apis.broadcastjob import BROADCASTJOBS, NODE_UID_ANNOTATION
from kruise.apis.core import Pod, PodSpec
from kruise.controllers.broadcastjob.pods import assigned_node
from kruise.controllers.broadcastjob.slots import blocked_reason, restarts_of
from kruise.runtime.controller import Predicate
from kruise.runtime.objects import controller_of

__all__ = ["PodMatters", "same_for_job"]

_ENDS: Final = frozenset({"Succeeded", "Failed"})


class PodMatters(Predicate):
    """Drops updates of a job's pod after which the job would do nothing new."""

    def test(self, change: Any) -> bool:
        old, new = change.old, change.new
        if not isinstance(old, Pod) or not isinstance(new, Pod):
            return True
        ref = controller_of(new.metadata)
        if ref is None or ref.kind != BROADCASTJOBS.kind:
            return True  # nobody's, or another kind's: the handler drops it for less than a comparison costs
        return not same_for_job(old, new)


def same_for_job(old: Pod, new: Pod) -> bool:
    """Tell whether a job sees no difference between two versions of one of its pods."""
    a, b = old.metadata, new.metadata
    return (
        _end(old) == _end(new)
        and a.uid == b.uid
        and a.deletion_timestamp == b.deletion_timestamp
        and blocked_reason(old) == blocked_reason(new)
        and restarts_of(old) == restarts_of(new)
        and a.labels == b.labels
        and a.annotations.get(NODE_UID_ANNOTATION) == b.annotations.get(NODE_UID_ANNOTATION)
        and a.owner_references == b.owner_references
        and _same_spec(old, new)
    )


def _end(pod: Pod) -> str:
    return pod.status.phase if pod.status.phase in _ENDS else ""


def _same_spec(old: Pod, new: Pod) -> bool:
    """Compare what decides whether a pod fits its node. To be bound where it was pinned anyway is no difference."""
    a, b = old.spec, new.spec
    if a == b:
        return True
    bound: PodSpec = msgspec.structs.replace(a, node_name=b.node_name)
    return bound == b and assigned_node(old) == assigned_node(new)
