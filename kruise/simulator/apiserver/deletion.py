"""Deletion: grace, finalizers, propagation.

Purpose: decide what a DELETE does to an object. Pure: the object and the options in, a verdict out.

Guarantees:

* TST1: a pod on a node is deleted gracefully, and its grace can only shrink; a pod without a node, or one that has
  ended, has a grace of 0. Finalizers hold an object that is marked as deleted; the propagation policies add the
  garbage collector's finalizers. Marking an object counts as a new generation.

What this does not do: it never removes dependents; the garbage collector of ``builtin.py`` does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from kruise.runtime.clock import format_time, parse_time
from kruise.simulator.apiserver.failure import Cause, bad_request, invalid, invalid_value, unsupported_value
from kruise.simulator.apiserver.resources import ResourceType

Body = dict[str, Any]

FOREGROUND: Final = "foregroundDeletion"
ORPHAN: Final = "orphan"
_POLICIES: Final = ("Foreground", "Background", "Orphan")


@dataclass(frozen=True, slots=True)
class Verdict:
    """What happens to an object: it is changed to ``marked`` (``None``: left as it is), then removed or not."""

    marked: Body | None
    remove: bool


@dataclass(frozen=True, slots=True)
class DeleteOptions:
    """``metav1.DeleteOptions``, from the body or the query."""

    grace: int | None = None
    propagation: str = ""
    uid: str = ""
    resource_version: str = ""
    dry_run: bool = False

    @classmethod
    def read(cls, body: Body, query: dict[str, str]) -> DeleteOptions:
        """Return the options of a request. Raises Failure."""
        grace = body.get("gracePeriodSeconds", query.get("gracePeriodSeconds"))
        try:
            seconds = None if grace is None else int(grace)
        except (TypeError, ValueError):
            raise bad_request(f"invalid gracePeriodSeconds: {grace!r}") from None
        policy = body.get("propagationPolicy") or query.get("propagationPolicy") or ""
        orphan = body.get("orphanDependents")
        causes: list[Cause] = []
        if orphan is not None and policy:
            text = "orphanDependents and deletionPropagation cannot be both set"
            causes.append(invalid_value("propagationPolicy", policy, text))
        if policy and policy not in _POLICIES:
            causes.append(unsupported_value("propagationPolicy", policy, (*_POLICIES, "nil")))
        if causes:
            raise invalid("DeleteOptions", "meta.k8s.io", "", *causes)
        if orphan is not None:
            policy = "Orphan" if orphan else "Background"
        wanted = body.get("preconditions") or {}
        dry = body.get("dryRun") or query.get("dryRun")
        return cls(seconds, policy, wanted.get("uid") or "", wanted.get("resourceVersion") or "", bool(dry))

    def preconditions(self) -> Body:
        """Return uid and version as the body carries them."""
        return {"uid": self.uid, "resourceVersion": self.resource_version}


def decide(obj: Body, info: ResourceType, options: DeleteOptions, now: float) -> Verdict:
    """Return what a DELETE with *options* does to *obj*."""
    meta = obj["metadata"]
    marked = {**obj, "metadata": dict(meta)}
    finalizers = _with_policy(meta.get("finalizers") or [], options.propagation)
    if info.table == "pods":
        grace = _pod_grace(obj, options.grace)
        if meta.get("deletionTimestamp"):
            return _again(obj, marked, options)
        _mark(marked, now, grace)
        _set_finalizers(marked, finalizers)
        return Verdict(marked, remove=grace == 0 and not finalizers)
    if info.table == "namespaces":
        return _namespace(obj, marked, now)
    if not finalizers:
        return Verdict(None, remove=True)
    if not meta.get("deletionTimestamp"):
        _mark(marked, now, 0)
    _set_finalizers(marked, finalizers)
    return Verdict(marked if marked["metadata"] != meta else None, remove=False)


def _pod_grace(pod: Body, asked: int | None) -> int:
    spec = pod["spec"]
    if not spec.get("nodeName") or (pod.get("status") or {}).get("phase") in ("Succeeded", "Failed"):
        return 0
    default = spec.get("terminationGracePeriodSeconds")
    grace = asked if asked is not None else 30 if default is None else int(default)
    return grace if grace >= 0 else 1


def _again(obj: Body, marked: Body, options: DeleteOptions) -> Verdict:
    """A pod that is being deleted already: only a shorter grace has an effect."""
    meta = marked["metadata"]
    had = meta.get("deletionGracePeriodSeconds") or 0
    if options.grace is None or options.grace >= had:
        return Verdict(None, remove=False)
    begun = (parse_time(meta["deletionTimestamp"]) or 0.0) - had
    meta["deletionTimestamp"] = format_time(begun + options.grace)
    meta["deletionGracePeriodSeconds"] = options.grace
    return Verdict(marked, remove=options.grace == 0 and not obj["metadata"].get("finalizers"))


def _namespace(obj: Body, marked: Body, now: float) -> Verdict:
    if not obj["metadata"].get("deletionTimestamp"):
        _mark(marked, now, None)
        marked["status"] = {**(obj.get("status") or {}), "phase": "Terminating"}
        return Verdict(marked, remove=False)
    held = (obj.get("spec") or {}).get("finalizers") or obj["metadata"].get("finalizers")
    return Verdict(None, remove=not held)


def _mark(marked: Body, now: float, grace: int | None) -> None:
    meta = marked["metadata"]
    meta["deletionTimestamp"] = format_time(now + (grace or 0))
    if grace is not None:
        meta["deletionGracePeriodSeconds"] = grace
    if meta.get("generation"):
        meta["generation"] += 1


def _with_policy(finalizers: list[str], policy: str) -> list[str]:
    if not policy:
        return finalizers
    kept = [f for f in finalizers if f not in (FOREGROUND, ORPHAN)]
    if policy == "Foreground":
        kept.append(FOREGROUND)
    elif policy == "Orphan":
        kept.append(ORPHAN)
    return kept


def _set_finalizers(marked: Body, finalizers: list[str]) -> None:
    if finalizers:
        marked["metadata"]["finalizers"] = finalizers
    else:
        marked["metadata"].pop("finalizers", None)


def done(obj: Body, info: ResourceType) -> bool:
    """Tell whether *obj*, after an update, has nothing left that holds its deletion up."""
    meta = obj["metadata"]
    if not meta.get("deletionTimestamp") or meta.get("finalizers"):
        return False
    if info.table == "namespaces":
        return not (obj.get("spec") or {}).get("finalizers")
    return not meta.get("deletionGracePeriodSeconds")
