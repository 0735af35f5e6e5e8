"""Which revision a workload is on and which it goes to: chosen purely, written by the caller.

Purpose: the kept versions of a template (spec/advanced-statefulset 2.7), for every kind that keeps any.

Guarantees:

* S6: a template that means the same as a kept revision keeps that revision and its name, whoever wrote it (X38, X39).
  An upgrade of this manager or of the API server, or a takeover from OpenKruise, chooses what was chosen before.
* A rollback takes the old revision again, with a new number; a name that is taken leads to the next collision count.
* Truncation never takes a revision that is named as live, nor one that is on its way out (X13).
* All is pure: the writes are values, each with its merge patch (reliability rule 8) or body, and the caller tells what
  came of them by :func:`written` and :func:`resolve_exists`.

What this does not do: it reads no cache and sends nothing. The caller keeps a choice as long as :func:`choice_key` is
the same, and reads the owner live before a write that ``adopts`` (rule 10).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import msgspec

from kruise.apis.core import ControllerRevision
from kruise.apis.hashes import controller_revision_hash, controller_revision_name
from kruise.apis.revisiondata import RevisionDataError, parse_data, template_of
from kruise.apis.selectors import Selector
from kruise.controllers.common.revisionwrites import (
    HASH_LABEL,
    POD_TEMPLATE_FORM,
    AdoptRevision,
    BumpRevision,
    CreateRevision,
    DeleteRevision,
    Form,
    RevisionWrite,
    candidate,
)
from kruise.runtime.objects import Object, Resource, Unreadable, controller_of, owner_reference, thaw

__all__ = [
    "DEFAULT_HISTORY_LIMIT",
    "HASH_LABEL",
    "POD_TEMPLATE_FORM",
    "SETTLED_ANNOTATION",
    "AdoptRevision",
    "BumpRevision",
    "ChoiceKey",
    "Chosen",
    "CreateRevision",
    "DeleteRevision",
    "DeletionUnderWayError",
    "Form",
    "Revision",
    "RevisionWrite",
    "candidate",
    "choice_key",
    "choose",
    "relevant",
    "resolve_exists",
    "truncate",
    "written",
]

SETTLED_ANNOTATION: Final = "apps.kruise.io/settled-template"
"""On a revision that another manager chose for a template with fields that it did not know: the digest of that."""
DEFAULT_HISTORY_LIMIT: Final = 10


# ---- what there is ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Revision:
    """One version. ``obj`` is ``None`` as long as it is not created."""

    name: str
    number: int
    data: bytes
    obj: ControllerRevision | None = field(default=None, compare=False, repr=False)
    _parsed: dict[str, Any] | None = field(default=None, init=False, compare=False, repr=False)

    @property
    def template(self) -> dict[str, Any]:
        """The pod template, parsed once: do not change it. Raises RevisionDataError for data that has none."""
        if self._parsed is None:
            object.__setattr__(self, "_parsed", template_of(self.data))
        assert self._parsed is not None
        return self._parsed

    @property
    def problem(self) -> str:
        """Why no pod can be made from this revision, or ``""``."""
        try:
            return "" if self.template else "empty template"
        except RevisionDataError as error:
            return str(error)

    @classmethod
    def of(cls, obj: ControllerRevision) -> Revision:
        """Return the revision that *obj* holds."""
        return cls(obj.metadata.name, obj.revision, bytes(obj.data), obj)


def _order(obj: ControllerRevision) -> tuple[int, str, str]:
    return obj.revision, obj.metadata.creation_timestamp or "", obj.metadata.name


def relevant(
    owner: Object,
    revisions: Iterable[ControllerRevision | Unreadable],
    selector: Selector,
    *,
    namespace: str = "",
) -> tuple[ControllerRevision, ...]:
    """Return the revisions of *owner*, oldest first: those that *selector* matches, its own and nobody's.

    They are in *namespace*, that of the owner unless given.
    """
    namespace = namespace or owner.metadata.namespace
    found: list[ControllerRevision] = []
    for obj in revisions:
        if isinstance(obj, Unreadable):
            continue  # nobody can tell what is in it; nobody deletes it either
        controller = controller_of(obj.metadata)
        ours = controller is None or controller.uid == owner.uid
        if ours and obj.metadata.namespace == namespace and selector.matches(obj.metadata.labels):
            found.append(obj)
    return tuple(sorted(found, key=_order))


# ---- choosing --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Chosen:
    """The revisions of a workload. They hold as soon as the writes are done, in their order."""

    current: Revision
    update: Revision
    collision_count: int
    writes: tuple[RevisionWrite, ...] = ()
    listed: tuple[Revision, ...] = ()
    """All that are kept, oldest first, without one that is yet to be created."""

    @property
    def same(self) -> bool:
        """Whether current and update are one revision."""
        return self.current.name == self.update.name

    def named(self, name: str) -> Revision | None:
        """Return the kept or new revision *name*: that of a pod by its label."""
        if name == self.update.name:
            return self.update
        if name == self.current.name:
            return self.current
        return next((revision for revision in self.listed if revision.name == name), None)


class ChoiceKey(NamedTuple):
    """On what a choice rests. Equal keys mean equal choices; comparing them costs a comparison of the template."""

    owner: str
    template: bytes
    listed: tuple[tuple[str, str], ...]
    current_name: str
    collision_count: int
    settled: str


def choice_key(
    owner: Object,
    listed: Sequence[ControllerRevision],
    template: msgspec.Raw | bytes,
    current_name: str,
    collision_count: int,
    *,
    settled: str = "",
) -> ChoiceKey:
    """Return the key of a choice, with the same arguments as :func:`choose` but for the unparsed *template*."""
    versions = tuple((obj.uid, obj.resource_version) for obj in listed)
    return ChoiceKey(owner.uid, bytes(template), versions, current_name, collision_count, settled)


def choose(
    owner_resource: Resource[Any],
    owner: Object,
    listed: Sequence[ControllerRevision],
    template: dict[str, Any],
    current_name: str,
    collision_count: int,
    *,
    settled: str = "",
    labels: Mapping[str, str] | None = None,
    annotations: Mapping[str, str] | None = None,
    namespace: str = "",
    form: Form = POD_TEMPLATE_FORM,
) -> Chosen:
    """Choose the current and the update revision of *owner*, whose version is *template*.

    *listed* are its :func:`relevant` revisions, *current_name* and *collision_count* those of its status. *settled* is
    the update revision that the status names if it has observed this very generation, else ``""``: another manager
    chose it for this very template, so it stands if it lacks no more than fields which that manager did not know.
    """
    ordered = sorted(listed, key=_order)
    kept = [Revision.of(obj) for obj in ordered]
    highest = ordered[-1].revision if ordered else 0
    data = form.data(template)
    adopted = {} if owner.terminating else _orphans(owner_resource, owner, ordered)
    writes: list[RevisionWrite] = []
    wanted = _Wanted(data, form)
    found = wanted.newest(kept)
    note = found is None
    found = found or _taken_over(kept, template, settled, form)
    if found is None:
        body = candidate(
            owner_resource,
            owner,
            template,
            labels=labels,
            annotations=annotations,
            collision_count=collision_count,
            number=highest + 1,
            namespace=namespace,
            form=form,
        )
        update = Revision(body["metadata"]["name"], highest + 1, data)
        writes.append(CreateRevision(body))
    else:
        obj = found.obj
        assert obj is not None
        update = found
        number = found.number if found is kept[-1] else highest + 1
        if number != found.number or note:
            metadata: dict[str, Any] = {}
            if refs := adopted.pop(obj.uid or obj.metadata.name, None):
                metadata["ownerReferences"] = list(refs.owner_references)
            if note:
                metadata["annotations"] = {SETTLED_ANNOTATION: _digest(data)}
            writes.append(BumpRevision(obj, number, metadata))
            update = replace(found, number=number)
    current = next((revision for revision in kept if revision.name == current_name), update)
    if current.name == update.name:
        current = update
    elif _leaves_template(current):
        current = replace(current, data=data)
    done = () if owner.terminating else (*adopted.values(), *writes)
    return Chosen(current, update, collision_count, done, tuple(kept))


def _orphans(
    owner_resource: Resource[Any], owner: Object, listed: Iterable[ControllerRevision]
) -> dict[str, AdoptRevision]:
    found: dict[str, AdoptRevision] = {}
    for obj in listed:
        if controller_of(obj.metadata) is None and not obj.terminating:
            others = [thaw(ref) for ref in obj.metadata.owner_references if ref.uid != owner.uid]
            refs = (*others, owner_reference(owner_resource, owner))
            found[obj.uid or obj.metadata.name] = AdoptRevision(obj, refs)
    return found


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:32]


class _Wanted:
    """The version that is looked for; what is costly about it is computed once, and only when bytes differ."""

    __slots__ = ("_form", "_key", "_read", "data")

    def __init__(self, data: bytes, form: Form) -> None:
        self.data = data
        self._form = form
        self._key: bytes | None = None
        self._read = False

    def equals(self, data: bytes) -> bool:
        """Tell whether *data* means the same."""
        if data == self.data:
            return True
        if not self._read:
            self._key, self._read = self._form.key(self.data), True
        return self._key is not None and self._form.key(data) == self._key

    def fits(self, revision: Revision) -> bool:
        """Tell whether *revision* is a revision of this version, by what it means or by a note on it."""
        obj = revision.obj
        if obj is None or obj.terminating:
            return False
        noted = obj.metadata.annotations.get(SETTLED_ANNOTATION)
        return self.equals(revision.data) or (noted is not None and noted == _digest(self.data))

    def newest(self, kept: Sequence[Revision]) -> Revision | None:
        """Return the newest revision that fits."""
        return next((revision for revision in reversed(kept) if self.fits(revision)), None)


def _taken_over(kept: Sequence[Revision], template: dict[str, Any], settled: str, form: Form) -> Revision | None:
    """Return the revision that another manager settled on for this very template, which has fields unknown to it.

    It is noted on the revision: else the next change of the set's scale would read as a change of its template.
    """
    found = next((revision for revision in kept if revision.name == settled), None) if settled else None
    return found if found is not None and form.upstream_equal(template, found.data) else None


def _leaves_template(revision: Revision) -> bool:
    """Tell whether applying the revision leaves the template of its set: data without one."""
    try:
        spec = parse_data(revision.data).get("spec")
    except RevisionDataError:
        return False
    return not (isinstance(spec, dict) and "template" in spec)


# ---- what came of the writes -----------------------------------------------------------------------------------------


class DeletionUnderWayError(Exception):
    """The name of a new revision belongs to one that is being deleted: wait until it is gone."""


def resolve_exists(
    chosen: Chosen,
    existing: ControllerRevision,
    owner_resource: Resource[Any],
    owner: Object,
    *,
    form: Form = POD_TEMPLATE_FORM,
) -> Chosen:
    """Return the choice after the creation of its update revision met *existing*, which was read by its name.

    The same data is used as it is, with its own number, also when the selector does not list it; that of another owner
    is none of ours. Otherwise the next collision count names the revision; its hash label stays. Raises
    DeletionUnderWayError when *existing* is on its way out.
    """
    create = next(w for w in chosen.writes if isinstance(w, CreateRevision))
    others = tuple(w for w in chosen.writes if w is not create)
    data = chosen.update.data
    controller = controller_of(existing.metadata)
    ours = controller is None or controller.uid == owner.uid
    if ours and _Wanted(data, form).equals(bytes(existing.data)):
        if existing.terminating:
            raise DeletionUnderWayError(f"revision {existing.key} is being deleted; its name is free when it is gone")
        found = Revision.of(existing)
        adopt = tuple(_orphans(owner_resource, owner, (existing,)).values())
        return _with_update(chosen, found, (*others, *adopt))
    count = chosen.collision_count + 1
    name = controller_revision_name(owner.metadata.name, controller_revision_hash(data, count))
    body = {**create.body, "metadata": {**create.body["metadata"], "name": name}}
    renamed = replace(chosen, collision_count=count)
    return _with_update(renamed, replace(chosen.update, name=name), (*others, CreateRevision(body)))


def written(chosen: Chosen, write: RevisionWrite, obj: ControllerRevision) -> Chosen:
    """Return the choice after *write* succeeded and answered *obj*."""
    left = tuple(w for w in chosen.writes if w is not write)
    listed = [r for r in chosen.listed if r.name != obj.metadata.name]
    fresh = Revision.of(obj)
    listed.append(fresh)
    listed.sort(key=lambda r: _order(r.obj) if r.obj is not None else (r.number, "", r.name))
    chosen = replace(chosen, listed=tuple(listed))
    if chosen.update.name == fresh.name:
        return _with_update(chosen, fresh, left)
    current = fresh if chosen.current.name == fresh.name else chosen.current
    return replace(chosen, current=current, writes=left)


def _with_update(chosen: Chosen, update: Revision, writes: tuple[RevisionWrite, ...]) -> Chosen:
    current = update if chosen.same else chosen.current
    return replace(chosen, current=current, update=update, writes=writes)


# ---- history ---------------------------------------------------------------------------------------------------------


def truncate(
    listed: Iterable[ControllerRevision], live_names: Iterable[str], limit: int | None
) -> tuple[ControllerRevision, ...]:
    """Return the revisions to delete, oldest first, so that at most *limit* that are not live stay.

    Live are the current and the update revision and those on the labels of pods.
    """
    live = frozenset(live_names)
    history = [obj for obj in sorted(listed, key=_order) if obj.metadata.name not in live]
    surplus = len(history) - max(0, DEFAULT_HISTORY_LIMIT if limit is None else limit)
    return tuple(obj for obj in history[: max(0, surplus)] if not obj.terminating)
