"""Watch bytes to typed events.

Purpose: one JSON line is one event; what is buffered is decoded in one go, without a task or a queue per event.

Guarantees:

* FRA1: a line has at most :data:`MAX_LINE` bytes; a longer one is a transport error that names the limit.
* FRA2: a truncated, an empty and a non-JSON line are transport errors, never events.
* FRA4: the type of each event's object is checked; a ``Table`` is refused.
* FRA5: an object that does not fit its type is an event with an :class:`Unreadable`; the stream goes on.
* FRA6: :func:`checked_transform` holds a transform to its contract.
* FRA8: :meth:`EventReader.batch` ends when the buffer is empty, after 256 events or after 2 ms of decoding, and lets
  other tasks run before the next one.

What this does not do: it opens no stream, keeps no position and retries nothing; the reflector does.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Generic, TypeVar

import msgspec

from kruise.runtime.client.answers import status_of_body
from kruise.runtime.client.codec import BROKEN, Codec
from kruise.runtime.client.scan import members
from kruise.runtime.client.transport import ByteStream, Request
from kruise.runtime.clock import Clock
from kruise.runtime.errors import BadFrame, Status, TransportError
from kruise.runtime.log import get_logger, slow
from kruise.runtime.metrics import Metrics
from kruise.runtime.objects import Object, ObjectMeta, Unreadable

__all__ = [
    "MAX_BATCH",
    "MAX_BATCH_SECONDS",
    "MAX_LINE",
    "Codec",
    "Event",
    "EventReader",
    "EventType",
    "checked_transform",
]

log = get_logger("frames")

T = TypeVar("T", bound=Object)

MAX_LINE: Final = 64 * 1024 * 1024
"""Bytes of one line. Objects reach about 3 MiB with their managedFields."""
MAX_BATCH: Final = 256
"""Events of one batch."""
MAX_BATCH_SECONDS: Final = 0.002
"""Seconds of decoding after which a batch ends."""
INITIAL_EVENTS_END: Final = "k8s.io/initial-events-end"
"""The annotation of the bookmark that ends the initial part of a streaming list."""


class EventType(enum.Enum):
    """The types of a watch event."""

    ADDED = "ADDED"
    MODIFIED = "MODIFIED"
    DELETED = "DELETED"
    BOOKMARK = "BOOKMARK"
    ERROR = "ERROR"


_DATA: Final = {t.value: t for t in (EventType.ADDED, EventType.MODIFIED, EventType.DELETED)}


class Event(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """One watch event.

    A Struct, because making a frozen dataclass costs a tenth of decoding a pod.
    """

    type: EventType
    object: T | Unreadable | None = None
    """The object of ADDED, MODIFIED and DELETED."""
    status: Status | None = None
    """What an ERROR says."""
    version: str = ""
    """The resource version of the object or of the bookmark."""
    initial_end: bool = False
    """The bookmark after which a streaming list is complete."""


class _Head(msgspec.Struct, frozen=True, rename="camel"):
    """What a bookmark has."""

    api_version: str = ""
    kind: str = ""
    metadata: ObjectMeta = ObjectMeta()


class _Frame(msgspec.Struct, frozen=True):
    type: str
    object: msgspec.Raw


class EventReader(Generic[T]):
    """Reads the events of one open watch."""

    def __init__(self, stream: ByteStream, codec: Codec[T], *, clock: Clock, metrics: Metrics) -> None:
        self._stream = stream
        self._codec = codec
        self._clock = clock
        if codec.metrics is None:
            codec.metrics = metrics
        r = codec.resource
        self._decode_time = metrics.decode_time.labels(r.group, r.version, r.plural)
        shape = msgspec.defstruct("Frame", [("type", str), ("object", r.struct)])
        self._decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(shape)
        self._more = False
        self._ended = False
        self._error: TransportError | None = None

    async def batch(self) -> list[Event[T]]:
        """Wait for events; return at least one, in order. ``[]`` when the stream has ended cleanly.

        Raises TransportError when the stream breaks or holds what is no event; events before that were returned.
        """
        if self._error is not None:
            raise self._error
        if self._ended:
            return []
        if self._more:
            # The last batch left lines behind, so reading on would not wait: others get their turn first (FRA8).
            await self._clock.sleep(0)
        self._more = False
        line = await self._stream.read_line()
        if not line:
            self._ended = True
            return []
        started = self._clock.monotonic()
        events = [self._event(line)]
        while self._stream.buffered():
            if len(events) >= MAX_BATCH or self._clock.monotonic() - started >= MAX_BATCH_SECONDS:
                self._more = True
                break
            try:
                line = await self._stream.read_line()
                if not line:
                    self._ended = True
                    break
                events.append(self._event(line))
            except TransportError as error:
                self._error = error
                break
        self._measure(self._clock.monotonic() - started, len(events))
        return events

    def _measure(self, seconds: float, events: int) -> None:
        self._decode_time.observe(seconds)
        if seconds > slow().decode:
            log.warning("slow decode", resource=str(self._codec.resource), seconds=round(seconds, 3), events=events)

    def _event(self, line: bytes) -> Event[T]:
        """Decode one line. The common case in one pass; whatever does not fit it goes by :meth:`_slow`."""
        if len(line) > MAX_LINE:
            raise BadFrame(f"a watch event of {len(line)} bytes is over the limit of {MAX_LINE} bytes")
        try:
            frame = self._decoder.decode(line)
        except BROKEN:
            return self._slow(line)
        obj: T = frame.object
        kind = _DATA.get(frame.type)
        if kind is None or not obj.metadata.name or not self._codec.fits(obj.api_version, obj.kind):
            return self._slow(line)
        return Event(type=kind, object=self._codec.take(obj), version=obj.metadata.resource_version)

    def _slow(self, line: bytes) -> Event[T]:
        kind, raw = _envelope(line)
        if kind == EventType.ERROR.value:
            r = self._codec.resource
            asked = Request("GET", r.base, verb="watch", group=r.group, resource=r.plural)
            return Event(type=EventType.ERROR, status=status_of_body(bytes(raw), asked, 0))
        head = _head(raw)
        if not self._codec.fits(head.api_version, head.kind):
            what = f"{head.api_version} {head.kind}".strip() or "an object without a kind"
            raise BadFrame(f"a watch of {self._codec.resource} holds {what}")
        if kind == EventType.BOOKMARK.value:
            return _bookmark(head)
        if kind not in _DATA:
            raise BadFrame(f"a watch event of unknown type {kind[:40]!r}")
        obj = self._codec.read(raw)
        if not obj.metadata.name:
            raise BadFrame("a watch event whose object has no name")
        return Event(type=_DATA[kind], object=obj, version=obj.metadata.resource_version)


_FRAME: Final = msgspec.json.Decoder(_Frame)
_HEAD: Final = msgspec.json.Decoder(_Head)


def _envelope(line: bytes) -> tuple[str, bytes | msgspec.Raw]:
    """Return type and object of an event, whatever the object is. Raises BadFrame when the line is no event."""
    try:
        frame = _FRAME.decode(line)
    except BROKEN:
        pass
    else:
        return frame.type, frame.object
    try:
        # A decoder refuses the whole line for one object nested too deeply: find the two members by their brackets.
        parts = members(line)
        return msgspec.json.decode(parts["type"], type=str), parts["object"]
    except (ValueError, KeyError):
        start = line[:60].decode("utf-8", "replace")
        raise BadFrame(f"a line of {len(line)} bytes is no watch event; it starts with {_shown(start)!r}") from None


def _shown(text: str) -> str:
    """Return what may be shown of a strange line: a proxy's page, but no content of an object."""
    return text if not text.lstrip().startswith("{") else text[:1]


def _head(raw: bytes | msgspec.Raw) -> _Head:
    """Return type and metadata of an object, as far as they can be read."""
    try:
        return _HEAD.decode(raw)
    except BROKEN:
        pass
    try:
        parts = members(bytes(raw))
    except ValueError:
        raise BadFrame("a watch event whose object is none") from None
    values: dict[str, Any] = {}
    for wire, name, kind in (
        ("apiVersion", "api_version", str),
        ("kind", "kind", str),
        ("metadata", "metadata", ObjectMeta),
    ):
        try:
            values[name] = msgspec.json.decode(parts.get(wire, b"null"), type=kind)
        except BROKEN:
            continue
    return _Head(**values)


def _bookmark(head: _Head) -> Event[Any]:
    version = head.metadata.resource_version
    if not version:
        raise BadFrame("a bookmark without a resourceVersion")
    end = head.metadata.annotations.get(INITIAL_EVENTS_END) == "true"
    return Event(type=EventType.BOOKMARK, version=version, initial_end=end)


IDEMPOTENCE_CHECKS: Final = 100
"""So many first objects of a transform are transformed twice, to see that the second time changes nothing."""


def checked_transform(transform: Callable[[T], T]) -> Callable[[T], T]:
    """Return *transform*, held to its contract (FRA6).

    It may drop what nobody reads, but not what tells objects apart and says who owns them: name, namespace, uid,
    resourceVersion, deletionTimestamp, ownerReferences. It must be idempotent. The function returned raises ValueError
    at the first object where that does not hold. It is for freshly decoded objects; tombstones and resyncs come from
    the store, where objects are transformed already.
    """
    checks = IDEMPOTENCE_CHECKS

    def apply(obj: T) -> T:
        nonlocal checks
        new = transform(obj)
        old_meta, meta = obj.metadata, new.metadata
        for name in ("name", "namespace", "uid", "resource_version", "deletion_timestamp", "owner_references"):
            if getattr(old_meta, name) != getattr(meta, name):
                raise ValueError(f"the transform of {obj.kind} {obj.key} changes metadata.{name}; it must keep it")
        if checks > 0:
            checks -= 1
            if transform(new) != new:
                raise ValueError(f"the transform of {obj.kind} is not idempotent: a second run changes {obj.key} again")
        return new

    return apply
