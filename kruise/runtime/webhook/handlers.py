"""Handlers for one kind: defaults, validation, and several handlers as one.

Purpose: what somebody writes who has a kind of their own: a function that fills in defaults, functions that list what
is wrong. The answers of Kubernetes are made of what they return.

Guarantees:

* WEB4: :class:`Validator` gives typed objects to the functions of create, update and delete, and collects all that
  they find: one refusal names every field, with its path, and warnings are given along. :class:`Defaulter` takes the
  object as it came.
* WEB5: a defaulter's patch removes nothing, but at paths that it declares; a field that nobody here knows stays.
  :func:`in_turn` merges several handlers: each sees the object as the one before left it, and one patch comes out.
* A typed object that does not fit its type is the user's fault, and says where (rule 31); an exception of a function
  is ours, and passes through.

What this does not do: it does not order the causes, and it checks no rule by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from kruise.runtime.errors import Cause
from kruise.runtime.webhook.admission import (
    AdmissionRequest,
    Answer,
    allow,
    deny,
    patch,
    patched,
)
from kruise.runtime.webhook.patching import difference

__all__ = ["Defaulter", "Finding", "Plain", "Validator", "Warn", "for_operations", "in_turn", "invalid"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Warn:
    """Something to tell the user that is no reason to refuse."""

    text: str


Finding = Cause | Warn
"""What a validation finds. The message of a Cause is what stands behind its path."""
Plain = Callable[[AdmissionRequest], Answer]
"""A handler that does not wait."""
Default = Callable[[dict[str, Any], AdmissionRequest], Mapping[str, Any]]


class Defaulter:
    """Makes a handler of a function that returns the object with its defaults.

    *removes* are the paths at or below which the function may take something away (``"/status"``); whatever else it
    leaves out stays in the object (WEB5). The function gets a shared object: it copies what it changes.
    """

    def __init__(self, default: Default, *, removes: Sequence[str] = ()) -> None:
        self._default = default
        self._removes = tuple(removes)

    def __call__(self, request: AdmissionRequest) -> Answer:
        """Answer with the patch that adds what the function has added."""
        if request.operation in ("DELETE", "CONNECT"):
            return allow()
        old = request.parsed()
        return patch(difference(old, self._default(old, request), removable=self._removes))


class Validator(Generic[T]):
    """Makes a handler of functions that list what is wrong with an object of type *struct*.

    An operation without a function is allowed. With ``struct=dict`` the functions get the object as it came.
    """

    def __init__(
        self,
        struct: type[T],
        *,
        create: Callable[[T], Iterable[Finding]] | None = None,
        update: Callable[[T, T], Iterable[Finding]] | None = None,
        delete: Callable[[T], Iterable[Finding]] | None = None,
    ) -> None:
        self._decoder: Final = msgspec.json.Decoder(struct)
        self._create = create
        self._update = update
        self._delete = delete

    def __call__(self, request: AdmissionRequest) -> Answer:
        """Answer with all that is wrong, or let the request pass with its warnings."""
        try:
            found = tuple(self._find(request))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            name = f'{request.kind.kind} "{request.name}"'
            return deny(f"{name} cannot be read: {error}", code=400, reason="BadRequest")
        causes = tuple(one for one in found if isinstance(one, Cause))
        warnings = tuple(one.text for one in found if isinstance(one, Warn))
        return invalid(request, causes, warnings=warnings) if causes else allow(warnings=warnings)

    def _find(self, request: AdmissionRequest) -> Iterable[Finding]:
        if request.operation == "CREATE" and self._create is not None:
            return self._create(self._decoder.decode(request.object))
        if request.operation == "UPDATE" and self._update is not None:
            new = self._decoder.decode(request.object)
            try:
                old = self._decoder.decode(request.old_object)
            except (msgspec.DecodeError, UnicodeDecodeError):
                # What is stored was written under other rules: it must not keep anybody from repairing it.
                return self._create(new) if self._create is not None else ()
            return self._update(new, old)
        if request.operation == "DELETE" and self._delete is not None:
            return self._delete(self._decoder.decode(request.old_object))
        return ()


def invalid(request: AdmissionRequest, causes: Sequence[Cause], *, warnings: Sequence[str] = ()) -> Answer:
    """Refuse as the API server refuses an invalid object: 422, one text of all causes, and each of them by itself."""
    texts = list(dict.fromkeys(f"{c.field}: {c.message}" if c.field else c.message for c in causes))
    text = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    kind = f"{request.kind.kind}.{request.kind.group}" if request.kind.group else request.kind.kind
    message = f'{kind} "{request.name}" is invalid: {text}'
    return deny(message, code=422, reason="Invalid", causes=causes, warnings=warnings)


def in_turn(*handlers: Plain) -> Plain:
    """Return one handler that asks *handlers* in turn, each with the object as it then is (WEB5).

    The first one that refuses ends it. Patches are joined in order, warnings and audit annotations as well.
    """

    def handle(request: AdmissionRequest) -> Answer:
        operations: list[dict[str, Any]] = []
        warnings: list[str] = []
        audit: dict[str, str] = {}
        for handler in handlers:
            answer = handler(request)
            warnings += answer.warnings
            audit.update(answer.audit)
            if not answer.allowed:
                return deny(
                    answer.message, code=answer.code, reason=answer.reason, causes=answer.causes, warnings=warnings
                )
            if answer.serialized:
                operations += msgspec.json.decode(answer.serialized, type=list[dict[str, Any]])
            operations += answer.operations
            if answer.operations or answer.serialized:
                request = request.with_object(patched(request, answer))
        return patch(operations, warnings=warnings, audit=audit)

    return handle


def for_operations(handler: Plain, *operations: str) -> Plain:
    """Return *handler* for *operations* alone; every other one is allowed.

    A configuration says the same; this holds where somebody has edited it.
    """

    def handle(request: AdmissionRequest) -> Answer:
        return handler(request) if request.operation in operations else allow()

    return handle
