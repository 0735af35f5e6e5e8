"""The invariants that hold for every controller: G1 to G5, G7 and G8.

Purpose: ``reliability.md`` 3.1, as far as commits and requests show it.

Guarantees (each is a checker; its text is the rule):

* G1 ownership, G2 conditional writes, G3 footprint, G4 no write that changes nothing, G5 nothing at rest, G7 observed
  generation, G8 one bad object hurts nobody else.

What this does not do: G6 (read your own writes) cannot be seen from outside: the runtime's own tests hold it. Nothing
here knows a kind of ours; the tables are arguments.
"""

# ruff: noqa: ARG002 - checkers share a signature, and few need all of it
from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, Final

from kruise.runtime.objects import Key
from kruise.simulator.invariants.model import (
    Actor,
    Body,
    Checker,
    Observed,
    World,
    Written,
    controller_ref,
    key_of,
)

EXEMPT: Final = frozenset({"events", "events.events.k8s.io"})
"""Written without conditions, by rule 1."""
UNCONTROLLED: Final = frozenset({"persistentvolumeclaims"})
"""Created for somebody whom they outlive: a claim keeps its data, so nobody controls it."""
LEASES: Final = "leases.coordination.k8s.io"
Exempt = Callable[[Observed], bool]
"""Whether a commit is judged elsewhere."""
_REVIEWS: Final = frozenset({"tokenreviews.authentication.k8s.io", "subjectaccessreviews.authorization.k8s.io"})


class Ownership(Checker):
    """G1: every write of ours to a child belongs to an object of ours that exists and is not being deleted.

    *owners* are our resources, *children* the resources that they own. An owner that went away less than *slack*
    seconds ago still counts: no server can make a write conditional on another object. Commits that *exempt* knows are
    written by contract to objects of others.
    """

    def __init__(
        self,
        manager: Actor,
        owners: Collection[str],
        children: Collection[str],
        *,
        slack: float = 5.0,
        exempt: Exempt | None = None,
    ) -> None:
        super().__init__()
        self._exempt = exempt
        self._manager = manager
        self._owners = owners
        self._children = children
        self._slack = slack
        self._deleting: dict[str, float] = {}

    def on_commit(self, commit: Observed, before: World) -> None:
        if commit.resource in self._owners:
            if commit.obj["metadata"].get("deletionTimestamp"):
                self._deleting.setdefault(commit.uid, commit.time)
            return
        if commit.resource not in self._children or not self._manager(commit.actor):
            return
        if self._exempt is not None and self._exempt(commit):
            return
        ref = controller_ref(commit.obj if commit.verb == "create" or commit.old is None else commit.old)
        if ref is None and commit.new is not None:
            ref = controller_ref(commit.new)  # an adoption
            if ref is not None and self._owner(before, ref, commit.time) is not None:
                return
        if ref is None:
            self.violated("G1", commit, "the object has no controller")
        elif self._owner(before, ref, commit.time) is None:
            self.violated("G1", commit, f"its controller {ref.get('name')} ({ref.get('uid')}) does not exist")
        elif commit.verb == "create" and commit.time - self._deleting.get(ref["uid"], commit.time) > self._slack:
            self.violated("G1", commit, f"its controller {ref.get('name')} is being deleted")

    def _owner(self, world: World, ref: Body, now: float) -> Body | None:
        for resource in self._owners:
            found = world.recent(resource, str(ref.get("uid")), now, self._slack)
            if found is not None:
                return found
        return None


class Conditional(Checker):
    """G2: every write of ours has a form of rule 1. Purely syntactic.

    *own* are our resources: their status is guarded by the version alone. Leases may be replaced as a whole, with
    their version.
    """

    def __init__(self, manager: Actor, own: Collection[str]) -> None:
        super().__init__()
        self._manager = manager
        self._own = own

    def on_request(self, request: Written) -> None:
        if not request.writes or not self._manager(request.actor):
            return
        if request.resource in EXEMPT or request.resource in _REVIEWS:
            return
        problem = self._problem(request)
        if problem:
            self.violated("G2", request, problem)

    def on_commit(self, commit: Observed, before: World) -> None:
        request = commit.request
        if request is None or request.verb != "delete" or commit.resource != "pods" or not self._manager(commit.actor):
            return
        old = commit.old or {}
        ended = (old.get("status") or {}).get("phase") in ("Succeeded", "Failed")
        if not ended and not _preconditions(request.body).get("resourceVersion"):
            self.violated("G2", commit, "a running pod is deleted without a resource version")

    def _problem(self, request: Written) -> str:
        if request.verb == "deletecollection":
            return "DELETECOLLECTION is never ours to send"
        if request.verb == "delete":
            return self._delete_problem(request)
        body = request.body if isinstance(request.body, dict) else {}
        meta = body.get("metadata") or {}
        if request.verb == "create":
            if request.resource == LEASES or request.resource in self._own:
                return ""
            if not meta.get("name"):
                return "a child needs a name that follows from what it is for, not generateName"
            if request.resource in UNCONTROLLED:
                return ""
            return "" if controller_ref({"metadata": meta}) else "a child is created with its controller set"
        if request.verb == "update":
            if request.resource == LEASES:
                return "" if meta.get("resourceVersion") else "a Lease is replaced with its resource version"
            return "PUT of a projection drops what we do not know: patch instead"
        return self._patch_problem(request, meta)

    def _patch_problem(self, request: Written, meta: Body) -> str:
        if isinstance(request.body, list):
            tested = {op.get("path") for op in request.body if isinstance(op, dict) and op.get("op") == "test"}
            return "" if "/metadata/resourceVersion" in tested else "a JSON patch tests the resource version"
        adopts = set(request.body or {}) <= {"metadata"} and set(meta) - {"uid", "resourceVersion"} <= {
            "ownerReferences"
        }
        if adopts and meta.get("uid") and meta.get("ownerReferences") and request.resource not in self._own:
            return ""
        if not meta.get("resourceVersion"):
            return "a patch carries the resource version of the object on which it was decided"
        if not meta.get("uid") and not (request.subresource == "status" and request.resource in self._own):
            return "a patch carries the uid"
        return ""

    def _delete_problem(self, request: Written) -> str:
        if request.resource == "persistentvolumeclaims":
            return "a claim is never ours to delete"
        options = request.body if isinstance(request.body, dict) else {}
        if options.get("gracePeriodSeconds") == 0:
            return "gracePeriodSeconds 0 is never ours to send"
        return "" if _preconditions(options).get("uid") else "a delete carries the uid"


def _preconditions(options: Any) -> Body:
    found = options.get("preconditions") if isinstance(options, dict) else None
    return found or {}


class Footprint(Checker):
    """G3: we change only what is ours. *allowed* maps a resource to the dotted paths that an update may change.

    ``pods/StatefulSet`` stands for the pods whose controller is of that kind, and wins over ``pods``;
    ``pods#sidecarset-controller`` stands for what that controller of ours writes, and wins over both.
    """

    def __init__(self, manager: Actor, allowed: Mapping[str, Collection[str]]) -> None:
        super().__init__()
        self._manager = manager
        self._allowed = allowed

    def on_commit(self, commit: Observed, before: World) -> None:
        if commit.verb != "update" or not self._manager(commit.actor) or commit.resource not in self._allowed:
            return
        assert commit.old is not None, "an update has an old state"
        assert commit.new is not None, "an update has a new state"
        if commit.request is not None and commit.request.verb == "delete":
            return
        paths = changed_paths(commit.old, commit.new)
        kind = (controller_ref(commit.old) or controller_ref(commit.new) or {}).get("kind", "")
        allowed = self._allowed.get(f"{commit.resource}/{kind}", self._allowed[commit.resource])
        if commit.request is not None:
            allowed = self._allowed.get(f"{commit.resource}#{commit.request.controller}", allowed)
        for path in sorted(paths):
            if not any(path == a or path.startswith(f"{a}.") for a in allowed):
                self.violated("G3", commit, f"{path} is not ours to change")


_SERVERS: Final = frozenset({"metadata.resourceVersion", "metadata.generation", "metadata.managedFields"})


def changed_paths(old: Any, new: Any, path: str = "") -> set[str]:
    """Return the dotted paths at which two objects differ; a list counts as one value."""
    if isinstance(old, dict) and isinstance(new, dict):
        found: set[str] = set()
        for name in old.keys() | new.keys():
            here = f"{path}.{name}" if path else name
            if here not in _SERVERS:
                found |= changed_paths(old.get(name), new.get(name), here)
        return found
    return (
        set()
        if old == new or (not old and not new and type(old) is not type(new) and old in (None, {}, []))
        else {path}
    )


def _changes_hands(body: Any) -> bool:
    """Tell whether a patch names an owner, and no version."""
    if not isinstance(body, dict) or body.keys() != {"metadata"}:
        return False
    return set(body["metadata"]) == {"uid", "ownerReferences"}


class NoNoOps(Checker):
    """G4: no write of ours leaves everything as it was.

    The patch of an Event whose answer was lost is sent again and once: Events are read by nobody, so the sender cannot
    know that it had arrived. Neither can who adopts, before his view shows it: the patch names no version.
    """

    def __init__(self, manager: Actor) -> None:
        super().__init__()
        self._manager = manager
        self._reported: dict[Key, Any] = {}
        self.count = 0

    def on_request(self, request: Written) -> None:
        if not request.writes or 400 <= request.code < 500 or not self._manager(request.actor):
            return
        if request.resource in EXEMPT or _changes_hands(request.body):
            body = request.body if isinstance(request.body, dict) else {}
            said = {name: value for name, value in body.items() if name != "metadata" or request.resource not in EXEMPT}
            before = self._reported.pop(request.key, None)
            if request.changed is False and said == before:
                return
            self._reported[request.key] = said
        if request.changed is False and request.code < 400:
            self.count += 1
            self.violated("G4", request, "the write changed nothing")


class Quiet(Checker):
    """G5: at rest there are no writes, no lists and no errors of ours.

    Call :meth:`begin` when the time of quiet starts; ``at_quiescence`` ends it. Lease renewals are not counted, nor
    are the watches that are opened again when their time is over.
    """

    def __init__(self, manager: Actor) -> None:
        super().__init__()
        self._manager = manager
        self._quiet = False
        self._seen: list[Written] = []

    def begin(self) -> None:
        """Start to count."""
        self._quiet, self._seen = True, []

    def on_request(self, request: Written) -> None:
        if self._quiet and self._manager(request.actor) and request.resource != LEASES:
            self._seen.append(request)

    def at_quiescence(self, world: World, now: float) -> None:
        for request in self._seen:
            if request.writes or request.verb == "list" or request.code >= 400:
                self.violated("G5", request, f"{request.verb} with code {request.code} while nothing was to do")
        self._quiet, self._seen = False, []


class ObservedGeneration(Checker):
    """G7: ``status.observedGeneration`` never goes back, and never runs ahead of the object."""

    def __init__(self, own: Collection[str]) -> None:
        super().__init__()
        self._own = own
        self._highest: dict[str, int] = {}

    def on_commit(self, commit: Observed, before: World) -> None:
        if commit.resource not in self._own or commit.new is None:
            return
        observed = (commit.new.get("status") or {}).get("observedGeneration")
        if observed is None:
            if self._highest.get(commit.uid):
                self.violated("G7", commit, "observedGeneration was set and is gone")
            return
        if observed < self._highest.get(commit.uid, 0):
            self.violated("G7", commit, f"observedGeneration went back from {self._highest[commit.uid]} to {observed}")
        if observed > commit.new["metadata"].get("generation", observed):
            self.violated("G7", commit, f"observedGeneration {observed} is ahead of the object")
        self._highest[commit.uid] = max(observed, self._highest.get(commit.uid, 0))


class Isolation(Checker):
    """G8: an object that cannot be used hurts itself only: the others converge, and it gets one Warning event.

    *poison* are the uids of the objects in question, *own* the resource, *converged* says whether a healthy object is
    where it should be.
    """

    def __init__(self, own: str, poison: Collection[str], converged: Callable[[Body], bool]) -> None:
        super().__init__()
        self._own = own
        self._poison = poison
        self._converged = converged

    def at_quiescence(self, world: World, now: float) -> None:
        warned: dict[str, int] = {}
        for event in world.all("events.events.k8s.io"):
            if event.get("type") == "Warning":
                uid = (event.get("regarding") or {}).get("uid", "")
                warned[uid] = warned.get(uid, 0) + 1
        for obj in world.all(self._own):
            uid = obj["metadata"]["uid"]
            if uid not in self._poison:
                if not self._converged(obj):
                    self.violated("G8", key_of(obj), "a healthy object did not converge beside a bad one")
            elif warned.get(uid, 0) != 1:
                self.violated("G8", key_of(obj), f"a bad object has {warned.get(uid, 0)} Warning events instead of one")
