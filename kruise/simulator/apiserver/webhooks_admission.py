"""Admission by webhook: who is asked, in which order, and what becomes of the answers.

Purpose: the two phases of a write. The mutating webhooks are called one after the other, each on what the one before
has left; the validating ones all at once, on what will be stored.

Guarantees:

* TST1: the order is that of ``webhooks_match.py``. A patch is applied by the server, the object is read again, unknown
  fields go, defaults are filled in. When it changed the object, the webhooks before it that ask for it
  (``reinvocationPolicy``) are called once more, in a second round. A refusal carries the status of the webhook, a call
  that failed is 500 or, with ``failurePolicy: Ignore``, nothing but a note in ``Call.audit``; a patch that does not
  apply is 500 in any case. A dry run refuses a webhook that has side effects.
* Webhook configurations are not subject to webhooks.
* Deterministic: ids come from the random source; refusals of several webhooks are told in the order of their
  configuration, where a real server tells the first that came.

What this does not do: the functions in ``Operations.admission`` do not run again in the second round.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from kruise.apis.fielderrors import go_quote
from kruise.runtime.clock import Random, new_uuid
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.failure import Failure, bad_request, internal
from kruise.simulator.apiserver.patch import DoesNotApply, json_patch
from kruise.simulator.apiserver.storage import Storage
from kruise.simulator.apiserver.webhooks import Caller, CallFailed, ask, nobody
from kruise.simulator.apiserver.webhooks_config import MUTATING, TABLES, VALIDATING
from kruise.simulator.apiserver.webhooks_match import (
    Hook,
    Place,
    Question,
    conditions_hold,
    denied,
    hooks_of,
    place_for,
    selected,
)
from kruise.simulator.apiserver.webhooks_review import Verdict, review, variables, verdict, version_for

Body = dict[str, Any]

EXEMPT: Final = "admissionregistration.k8s.io"
"""The group whose objects no webhook sees."""


@dataclass(frozen=True, slots=True)
class Room:
    """What the dispatcher needs to know of the resource of a request."""

    places: Sequence[Place]
    """The resource in every version in which it is served."""
    convert: Callable[[Body, Place], Awaitable[Body]]
    """Returns an object as another place has it."""
    finish: Callable[[Body, Place], Body]
    """Reads what a patch has left, and fills in defaults. Raises Failure."""
    labels_of: Callable[[str], Mapping[str, str]]
    """The labels of a namespace."""


@dataclass(slots=True)
class _Reinvocation:
    """Which webhooks are called again."""

    called: set[str] = field(default_factory=set)
    """Those that ask for it and saw an object that has not changed since."""
    again: set[str] = field(default_factory=set)
    wanted: bool = False

    def changed(self) -> None:
        self.again |= self.called
        self.called = set()
        self.wanted = True


@dataclass(slots=True)
class _View:
    """The object in the version of the webhook that is called now."""

    room: Room
    home: Place
    obj: Body | None
    old: Body | None
    place: Place
    seen: Body | None
    seen_old: Body | None

    async def at(self, place: Place) -> None:
        """Turn to the version of *place*. Raises Failure."""
        if place == self.place:
            return
        if self.seen is not None:
            self.obj = await self._converted(self.seen, self.home)
            self.seen = await self._converted(self.obj, place)
        if self.old is not None:
            self.seen_old = await self._converted(self.old, place)
        self.place = place

    async def _converted(self, obj: Body, place: Place) -> Body:
        try:
            return await self.room.convert(obj, place)
        except Failure as failure:
            raise internal(failure.message) from None


class Admission:
    """The webhooks of one server."""

    def __init__(self, storage: Storage, rng: Random) -> None:
        self.caller: Caller = nobody
        self._storage = storage
        self._rng = rng
        self._hooks: dict[str, tuple[Hook, ...]] = {}
        self._concerned: dict[tuple[str, str, str, str], tuple[Hook, ...]] = {}

    def forget(self) -> None:
        """A configuration has changed: read them all again."""
        self._hooks.clear()
        self._concerned.clear()

    def concerned(self, table: str, operation: str, group: str, plural: str, subresource: str) -> tuple[Hook, ...]:
        """Return the webhooks of the configurations in *table* that a request may be for, whatever its version."""
        if group == EXEMPT:
            return ()
        hooks = self._hooks.get(table)
        if hooks is None:
            snapshot = self._storage.snapshot(table)
            hooks = self._hooks[table] = hooks_of(snapshot.records[key].obj for key in snapshot.keys)
        if not hooks:
            return hooks
        key = (table, operation, plural, subresource)
        found = self._concerned.get(key)
        if found is None:
            found = self._concerned[key] = tuple(h for h in hooks if _could_match(h, operation, plural, subresource))
        return found

    async def mutate(
        self, call: Call, hooks: Sequence[Hook], question: Question, obj: Body | None, old: Body | None, room: Room
    ) -> Body | None:
        """Return *obj* as the mutating webhooks leave it. Raises Failure."""
        view = _View(room, question.place, obj, old, question.place, obj, old)
        again = _Reinvocation()
        await self._round(call, hooks, question, view, again, 0)
        if again.wanted:
            await self._round(call, hooks, question, view, again, 1)
        await view.at(question.place)
        return view.seen

    async def _round(
        self, call: Call, hooks: Sequence[Hook], question: Question, view: _View, again: _Reinvocation, number: int
    ) -> None:
        for i, hook in enumerate(hooks):
            place = place_for(hook, question, view.room.places)
            if place is None or not selected(hook, question, view.seen, view.old, view.room.labels_of):
                continue
            if not await self._wanted(call, hook, question, view, place) or (number and hook.uid not in again.again):
                continue
            await view.at(place)
            note = f"round_{number}_index_{i}"
            try:
                changed = await self._mutate_once(call, hook, question, view, note)
            except CallFailed as error:
                _note(call, "mutation", note, {"configuration": hook.configuration, "webhook": hook.name})
                if hook.fails:
                    raise _failing(hook, error) from None
                call.audit[f"failed-open.mutation.webhook.admission.k8s.io/{note}"] = hook.name
                changed = False
            if changed:
                again.changed()
            if hook.again:
                again.called.add(hook.uid)

    async def _wanted(self, call: Call, hook: Hook, question: Question, view: _View, place: Place) -> bool:
        if not hook.conditions:
            return True
        await view.at(place)
        return conditions_hold(hook, question, variables(question, place, view.seen, view.seen_old), call.warn)

    async def _mutate_once(self, call: Call, hook: Hook, question: Question, view: _View, note: str) -> bool:
        """Call *hook* and apply its patch; tell whether the object has changed. Raises Failure and CallFailed."""
        said = await self._ask(call, hook, question, view.place, view.seen, view.seen_old, mutating=True)
        where = {"configuration": hook.configuration, "webhook": hook.name}
        changed = False
        if said.patch:
            if view.seen is None:
                text = f"admission webhook {go_quote(hook.name)} attempted to modify the object, "
                raise internal(f"{text}which is not supported for this operation")
            new = self._patched(view, said.patch)
            changed = new != view.seen
            view.seen = new
            shown = orjson.dumps({**where, "patch": said.patch, "patchType": "JSONPatch"}).decode()
            call.audit[f"patch.webhook.admission.k8s.io/{note}"] = shown
        _note(call, "mutation", note, where, mutated=changed)
        return changed

    @staticmethod
    def _patched(view: _View, patch: list[Any]) -> Body:
        try:
            new = json_patch(view.seen, patch)
        except DoesNotApply as failure:
            raise internal(failure.why) from None
        except Failure as failure:
            raise internal(failure.message) from None
        return view.room.finish(new, view.place)

    async def validate(
        self, call: Call, hooks: Sequence[Hook], question: Question, obj: Body | None, old: Body | None, room: Room
    ) -> None:
        """Ask the validating webhooks. Raises Failure."""
        meant: list[tuple[Hook, Place, Body | None, Body | None]] = []
        view = _View(room, question.place, obj, old, question.place, obj, old)
        for hook in hooks:
            place = place_for(hook, question, room.places)
            if place is None or not selected(hook, question, obj, old, room.labels_of):
                continue
            if await self._wanted(call, hook, question, view, place):
                await view.at(place)
                meant.append((hook, place, view.seen, view.seen_old))
        asked = [self._validate_once(call, question, i, *one) for i, one in enumerate(meant)]
        for failure in await _all(asked):
            if failure is not None:
                raise failure

    async def _validate_once(
        self, call: Call, question: Question, i: int, hook: Hook, place: Place, obj: Body | None, old: Body | None
    ) -> Failure | None:
        try:
            await self._ask(call, hook, question, place, obj, old, mutating=False)
        except CallFailed as error:
            if hook.fails:
                return _failing(hook, error)
            call.audit[f"failed-open.validating.webhook.admission.k8s.io/round_0_index_{i}"] = hook.name
        except Failure as failure:
            return failure
        return None

    async def _ask(
        self,
        call: Call,
        hook: Hook,
        question: Question,
        place: Place,
        obj: Body | None,
        old: Body | None,
        *,
        mutating: bool,
    ) -> Verdict:
        if question.dry_run and not hook.quiet:
            raise bad_request(f"admission webhook {go_quote(hook.name)} does not support dry run")
        version = version_for(hook.versions)
        uid = new_uuid(self._rng)
        body = review(version, uid, question, place, obj, old)
        try:
            answer = await ask(self.caller, hook.target, body, hook.seconds)
        except CallFailed as error:
            raise CallFailed(f"failed to call webhook: {error}") from None
        said = verdict(version, uid, answer, mutating=mutating)
        call.audit.update({f"{hook.name}/{key}": value for key, value in said.audit.items()})
        for text in said.warnings:
            call.warn(text)
        if not said.allowed:
            raise denied(hook, said.status)
        return said


def _could_match(hook: Hook, operation: str, plural: str, subresource: str) -> bool:
    return any(
        any(o in ("*", operation) for o in rule.get("operations") or ())
        and any(
            text.partition("/")[0] in ("*", plural) and text.partition("/")[2] in ("*", subresource)
            for text in rule.get("resources") or ()
        )
        for rule in hook.rules
    )


async def _all(asked: Sequence[Awaitable[Failure | None]]) -> list[Failure | None]:
    """Return what *asked* give, in their order; where there is a task, they run at the same time."""
    running = None
    with contextlib.suppress(RuntimeError):  # a direct request outside of any loop
        running = asyncio.current_task()
    if len(asked) < 2 or running is None:
        return [await one for one in asked]

    async def run(one: Awaitable[Failure | None]) -> Failure | None:
        return await one

    async with asyncio.TaskGroup() as tasks:
        made = [tasks.create_task(run(one)) for one in asked]
    return [task.result() for task in made]


def _note(call: Call, what: str, note: str, where: Body, *, mutated: bool = False) -> None:
    call.audit[f"{what}.webhook.admission.k8s.io/{note}"] = orjson.dumps({**where, "mutated": mutated}).decode()


def _failing(hook: Hook, error: CallFailed) -> Failure:
    return internal(f"failed calling webhook {go_quote(hook.name)}: {error}")


__all__ = ["MUTATING", "TABLES", "VALIDATING", "Admission", "Room"]
