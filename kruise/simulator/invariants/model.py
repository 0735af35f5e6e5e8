"""What the checkers look at: commits, requests, and the state between them.

Purpose: the same checkers run inside the embedded server, where they see each commit as it happens, and over the watch
and the audit log of a real API server. So they take plain JSON objects and know neither.

Guarantees:

* ``reliability.md`` section 3: checkers get the truth of the server, never a cache of ours.
* A :class:`Suite` reports every violation with the version at which it happened; ``check()`` raises with all of them.

What this does not do: no rule; those are in ``general.py`` and ``broadcastjob.py``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from kruise.runtime.objects import Key

Body = dict[str, Any]
Verb = Literal["create", "update", "delete"]
Actor = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Written:
    """One request that was answered, as a request log or an audit log has it."""

    actor: str
    verb: str
    """create, update, patch, delete, deletecollection, get, list, watch."""
    resource: str
    """``plural.group``, or the plural alone."""
    key: Key
    subresource: str = ""
    code: int = 200
    body: Any = None
    """The decoded body: the object, the patch, or the DeleteOptions."""
    changed: bool | None = None
    """Whether it changed anything; ``None`` when that is not known."""
    time: float = 0.0
    """Wall time in seconds since the epoch."""
    dry_run: bool = False
    ordinal: int = -1
    controller: str = ""
    """The controller of ours that sent it, where that is known."""
    message: str = ""
    """What a refusal says, where that is known."""

    @property
    def writes(self) -> bool:
        """Whether the verb may change something, and the server accepted it."""
        return self.verb in ("create", "update", "patch", "delete", "deletecollection") and not self.dry_run

    def __str__(self) -> str:
        sub = f"/{self.subresource}" if self.subresource else ""
        return f"{self.verb} {self.resource}{sub} {self.key} by {self.actor or 'somebody'}"


@dataclass(frozen=True, slots=True)
class Observed:
    """One commit. ``old`` of a creation and ``new`` of a deletion are ``None``."""

    rv: int
    verb: Verb
    resource: str
    key: Key
    old: Body | None
    new: Body | None
    actor: str = ""
    request: Written | None = None
    time: float = 0.0

    @property
    def obj(self) -> Body:
        """The new state, or the last one of a deletion."""
        found = self.new if self.new is not None else self.old
        assert found is not None, "a commit has an object"
        return found

    @property
    def uid(self) -> str:
        """``metadata.uid``."""
        return str(self.obj["metadata"].get("uid", ""))

    def __str__(self) -> str:
        return f"rv {self.rv}: {self.verb} {self.resource} {self.key} by {self.actor or 'somebody'}"


@dataclass(frozen=True, slots=True)
class Violation:
    """A broken invariant."""

    invariant: str
    """Its id, such as ``B2``."""
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text} ({self.where})"


@dataclass(slots=True)
class Gone:
    """An object that was deleted, and when."""

    obj: Body
    time: float


class World:
    """The objects of the server after the commits seen so far."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Key, Body]] = {}
        self._by_uid: dict[tuple[str, str], Body] = {}
        self._owned: dict[tuple[str, str], dict[Key, Body]] = {}
        self._gone: dict[tuple[str, str], Gone] = {}

    def apply(self, commit: Observed) -> None:
        """Take *commit* in."""
        self._drop(commit.resource, commit.key)
        if commit.new is not None:
            self._add(commit.resource, commit.key, commit.new)
        else:
            self._gone[commit.resource, commit.uid] = Gone(commit.obj, commit.time)

    def load(self, resource: str, objects: Iterable[Body]) -> None:
        """Take in what was there before the first commit."""
        for obj in objects:
            self._add(resource, key_of(obj), obj)

    def _add(self, resource: str, key: Key, obj: Body) -> None:
        self._objects.setdefault(resource, {})[key] = obj
        self._by_uid[resource, obj["metadata"].get("uid", "")] = obj
        ref = controller_ref(obj)
        if ref is not None:
            self._owned.setdefault((resource, ref["uid"]), {})[key] = obj

    def _drop(self, resource: str, key: Key) -> None:
        old = self._objects.get(resource, {}).pop(key, None)
        if old is None:
            return
        self._by_uid.pop((resource, old["metadata"].get("uid", "")), None)
        ref = controller_ref(old)
        if ref is not None:
            self._owned[resource, ref["uid"]].pop(key, None)

    def all(self, resource: str) -> Sequence[Body]:
        """Return all objects of *resource*."""
        return list(self._objects.get(resource, {}).values())

    def get(self, resource: str, key: Key) -> Body | None:
        """Return one object."""
        return self._objects.get(resource, {}).get(key)

    def recent(self, resource: str, uid: str, now: float, slack: float) -> Body | None:
        """Return the object with *uid* if it exists, or was deleted less than *slack* seconds ago."""
        found = self._by_uid.get((resource, uid))
        if found is not None:
            return found
        gone = self._gone.get((resource, uid))
        return gone.obj if gone is not None and now - gone.time <= slack else None

    def owned(self, resource: str, uid: str) -> Sequence[Body]:
        """Return the objects of *resource* whose controller has *uid*."""
        return list(self._owned.get((resource, uid), {}).values())


def key_of(obj: Body) -> Key:
    """Return the key of a plain object."""
    meta = obj["metadata"]
    return Key(meta.get("namespace") or "", meta["name"])


def controller_ref(obj: Body) -> Body | None:
    """Return the controller reference of a plain object."""
    for ref in obj["metadata"].get("ownerReferences") or ():
        if ref.get("controller"):
            return dict(ref)
    return None


class Checker:
    """One family of invariants. Derive from it and override what is needed."""

    def __init__(self) -> None:
        self._found: list[Violation] = []

    def violated(self, invariant: str, where: object, text: str) -> None:
        """Note a violation."""
        self._found.append(Violation(invariant, str(where), text))

    def take(self) -> list[Violation]:
        """Return what was found since the last call."""
        found, self._found = self._found, []
        return found

    def on_commit(self, commit: Observed, before: World) -> None:
        """See a commit. *before* is the state without it."""

    def on_request(self, request: Written) -> None:
        """See a request that was answered."""

    def at_quiescence(self, world: World, now: float) -> None:
        """Look at a state in which nothing is left to do. *now* is wall time."""


@dataclass(slots=True)
class Suite:
    """Several checkers over one history."""

    checkers: Sequence[Checker]
    world: World = field(default_factory=World)
    violations: list[Violation] = field(default_factory=list)

    def on_commit(self, commit: Observed) -> None:
        """Feed one commit; they must come in the order of their versions."""
        for checker in self.checkers:
            checker.on_commit(commit, self.world)
            self.violations += checker.take()
        self.world.apply(commit)

    def on_request(self, request: Written) -> None:
        """Feed one answered request."""
        for checker in self.checkers:
            checker.on_request(request)
            self.violations += checker.take()

    def at_quiescence(self, now: float) -> None:
        """Say that nothing is left to do."""
        for checker in self.checkers:
            checker.at_quiescence(self.world, now)
            self.violations += checker.take()

    def check(self) -> None:
        """Raise AssertionError with every violation."""
        if self.violations:
            listed = "\n  ".join(str(v) for v in self.violations[:50])
            raise AssertionError(f"{len(self.violations)} violations:\n  {listed}")
