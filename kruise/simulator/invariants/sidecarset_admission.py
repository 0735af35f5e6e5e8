"""What becomes of a pod on its way in: C1, C3, C4, C6 and C9, seen in the request and in what was stored.

Purpose: ``reliability.md`` 3.4, for the creation of pods.

Guarantees:

* C1: what the user's request said of his own containers and of the pod is stored as he said it: containers in their
  order, volumes and pull secrets first, nothing of the pod level changed.
* C3: pods that no set may touch were touched by none.
* C4: a container or volume name occurs once; one container name has one set. C6: the images are those of the version
  that the annotation names.
* C9: a pod that its namespace's Pod Security level admits is not made one that it refuses.

What this does not do: it does not see what other webhooks did: whatever they add to the user's own containers looks
like a breach. Only what has the body of the request is looked at.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from kruise.simulator.invariants import sidecarset_reading as reading
from kruise.simulator.invariants.model import Body, Observed
from kruise.simulator.invariants.sidecarset_budget import Report
from kruise.simulator.invariants.sidecarset_facts import Facts
from kruise.simulator.invariants.sidecarset_security import level_of, stricter
from kruise.simulator.invariants.sidecarset_writes import misfit

_POD_LEVEL: Final = (
    "serviceAccountName",
    "hostNetwork",
    "hostPID",
    "hostIPC",
    "restartPolicy",
    "securityContext",
    "nodeSelector",
    "affinity",
    "priorityClassName",
    "terminationGracePeriodSeconds",
    "dnsPolicy",
    "automountServiceAccountToken",
    "runtimeClassName",
)
_DEFAULTS: Final[tuple[Any, ...]] = (None, "", False, "default", "Always", "ClusterFirst", 30, {}, [])
_TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path, no secret


class Admission:
    """The creation of pods over one history."""

    def __init__(self, facts: Facts, report: Report, *, slack: float) -> None:
        self._facts = facts
        self._report = report
        self._slack = slack

    def on_created(self, commit: Observed) -> None:
        """Look at a creation."""
        assert commit.new is not None, "a creation has a state"
        given = commit.request.body if commit.request is not None else None
        if not isinstance(given, dict) or not isinstance(given.get("spec"), dict):
            return
        new = commit.new
        given = {**given, "metadata": {**(given.get("metadata") or {}), "namespace": commit.key.namespace}}
        injected = [one for one in reading.listed(new) if one not in reading.listed(given)]
        if injected and reading.exempt(given):
            self._report("C3", commit, f"{', '.join(injected)} went into a pod that no set may touch")
        if not injected and not _any_marked(new):
            return
        self._check_app(commit, given, new, injected)
        self._check_names(commit, given, new, injected)
        for name in injected:
            problem = misfit(self._facts, new, name)
            if problem:
                self._report("C6", commit, problem)
        self._check_security(commit, given, new)

    # C1.

    def _check_app(self, commit: Observed, given: Body, new: Body, injected: Iterable[str]) -> None:
        sets = self._names_of(new, injected, commit.time)
        for field in ("initContainers", "containers"):
            own = [one for one in given["spec"].get(field) or () if one.get("name") not in sets]
            names = [str(one.get("name")) for one in own]
            stored = [one for one in new["spec"].get(field) or () if one.get("name") in names]
            if [one.get("name") for one in stored] != names:
                self._report("C1", commit, f"the user's {field} {names} came to be {_names(stored)}")
                continue
            for before, after in zip(own, stored, strict=True):
                where = _lost(before, after)
                if where:
                    self._report("C1", commit, f"{field} {before['name']}: {where} is not as the user said")
        for field in ("volumes", "imagePullSecrets", "tolerations"):
            before, after = given["spec"].get(field) or [], new["spec"].get(field) or []
            if _lost(before, after[: len(before)]):
                self._report("C1", commit, f"spec.{field} of the user are changed, or do not come first")
        for field in _POD_LEVEL:
            before, after = given["spec"].get(field), new["spec"].get(field)
            if (before is None and after not in _DEFAULTS) or (before is not None and _lost(before, after)):
                self._report("C1", commit, f"spec.{field} was {before!r} and is {after!r}")
        lost = _lost(given["metadata"].get("labels") or {}, new["metadata"].get("labels") or {})
        if lost:
            self._report("C1", commit, f"the label {lost} is not as the user said")

    def _names_of(self, pod: Body, injected: Iterable[str], now: float) -> set[str]:
        """Return the container names of the versions that a pod has."""
        found: set[str] = set()
        for name in injected:
            found |= self._facts.providers.get(reading.entry(pod, name), frozenset())
            facts = self._facts.sets.get(name)
            for state in facts.states(now, self._slack) if facts is not None else ():
                found |= reading.provided(state)
        return found

    # C4.

    def _check_names(self, commit: Observed, given: Body, new: Body, injected: list[str]) -> None:
        spec = new["spec"]
        for what, found in (
            ("container", _names([*(spec.get("initContainers") or ()), *(spec.get("containers") or ())])),
            ("volume", _names(spec.get("volumes") or ())),
            ("pull secret", _names(spec.get("imagePullSecrets") or ())),
        ):
            twice = sorted({name for name in found if found.count(name) > 1})
            if twice and what != "pull secret":
                self._report("C4", commit, f"there are two of the {what} {', '.join(twice)}")
        for field in ("containers", "initContainers"):
            for one in spec.get(field) or ():
                if reading.marked(one):
                    self._check_provider(commit, given, new, one, injected)

    def _check_provider(self, commit: Observed, given: Body, new: Body, one: Body, injected: list[str]) -> None:
        name = str(one["name"])
        known = {c.get("name") for f in ("containers", "initContainers") for c in given["spec"].get(f) or ()}
        providers = [
            other for other in injected if name in self._facts.providers.get(reading.entry(new, other), frozenset())
        ]
        if len(providers) > 1:
            self._report("C4", commit, f"the container {name} has the providers {', '.join(providers)}")
        versions = [reading.entry(new, other) for other in injected]
        if not providers and name not in known and all(value in self._facts.providers for value in versions):
            self._report("C4", commit, f"nobody provides the injected container {name}")

    # C9.

    def _check_security(self, commit: Observed, given: Body, new: Body) -> None:
        labels = self._facts.namespaces.get(commit.key.namespace, {})
        level = labels.get("pod-security.kubernetes.io/enforce", "privileged")
        before, after = level_of(given), level_of(new)
        if not stricter(level, before) and stricter(level, after):
            self._report("C9", commit, f"the namespace enforces {level}, the pod was {before} and is {after}")


def _any_marked(pod: Body) -> bool:
    return any(
        reading.marked(one) for field in ("containers", "initContainers") for one in pod["spec"].get(field) or ()
    )


def _names(items: Iterable[Body]) -> list[str]:
    return [str(one.get("name")) for one in items]


def _lost(given: Any, stored: Any, path: str = "") -> str:
    """Return where *stored* is not what *given* says; empty when it says all of it. More may stand beside it."""
    if isinstance(given, Mapping):
        if not isinstance(stored, Mapping):
            return path or "."
        for key, value in given.items():
            found = "" if value in (None, {}, []) else _lost(value, stored.get(key), f"{path}.{key}".lstrip("."))
            if found:
                return found
        return ""
    if isinstance(given, list):
        if not isinstance(stored, list) or len(stored) < len(given):
            return path or "."
        extra = stored[len(given) :]
        if any(not isinstance(one, Mapping) or one.get("mountPath") != _TOKEN for one in extra):
            return path or "."
        return next((found for a, b in zip(given, stored, strict=False) if (found := _lost(a, b, path))), "")
    return "" if given == stored else path or "."
