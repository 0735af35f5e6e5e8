"""What goes into a reflector, and what comes out of it.

Purpose: inputs say what happened, effects say what to do; both are values, so that a test is a table.

Guarantees: at most one effect of a step waits for something, and it stands last; a :class:`ListPage` is begun where it
stands and answered after the others, which is the look-ahead of REF2.

What this does not do: nothing here does I/O; see ``watcher.py``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kruise.runtime.client.frames import Event

# Inputs: what happened.


@dataclass(frozen=True, slots=True)
class Started:
    """The reflector runs."""


@dataclass(frozen=True, slots=True)
class Ready:
    """The preparations for a list are done. ``streaming`` tells whether a streaming list may be tried (REF10)."""

    streaming: bool


@dataclass(frozen=True, slots=True)
class PageArrived:
    """One page of a LIST."""

    version: str
    continue_token: str
    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class PageFailed:
    """A LIST request failed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Opened:
    """A watch was accepted; the server was asked to end it after ``timeout`` seconds."""

    timeout: float
    bookmarks: bool = False
    """Whether this server is known to send bookmarks for this resource."""


@dataclass(frozen=True, slots=True)
class OpenFailed:
    """A watch was refused, or the request did not come through."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Arrived:
    """Events came over the open watch, in this order."""

    events: Sequence[Event[Any]]


@dataclass(frozen=True, slots=True)
class Ended:
    """The open watch ended cleanly."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The open watch failed."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Silent:
    """The deadline of the last Read passed."""


@dataclass(frozen=True, slots=True)
class Woke:
    """A back-off is over."""


@dataclass(frozen=True, slots=True)
class Served:
    """Discovery shows the resource."""


Input = (
    Started | Ready | PageArrived | PageFailed | Opened | OpenFailed | Arrived | Ended | Broke | Silent | Woke | Served
)


# Effects: what to do. The last one of a step says what to wait for.


@dataclass(frozen=True, slots=True)
class Prepare:
    """Wait for a permit if this is a relist (REF18), and find out whether streaming may be tried; answer Ready."""

    relist: bool


@dataclass(frozen=True, slots=True)
class ListPage:
    """Begin a LIST request; PageArrived or PageFailed answers it. Later effects do not wait for it (REF2)."""

    version: str = ""
    match: str = ""
    limit: int = 0
    continue_token: str = ""


@dataclass(frozen=True, slots=True)
class OpenWatch:
    """Open a watch; answer Opened or OpenFailed. ``initial`` asks for the present state first (REF8)."""

    version: str
    initial: bool = False


@dataclass(frozen=True, slots=True)
class Read:
    """Wait for events until ``deadline``; answer Arrived, Ended, Broke or Silent."""

    deadline: float


@dataclass(frozen=True, slots=True)
class CloseWatch:
    """Close the open watch."""


@dataclass(frozen=True, slots=True)
class Stage:
    """Decode the items of a page and stage them."""

    items: Sequence[Any]


@dataclass(frozen=True, slots=True)
class StageEvents:
    """Stage the objects of a streaming list."""

    events: Sequence[Event[Any]]


@dataclass(frozen=True, slots=True)
class DropStaged:
    """Forget what was staged: the list will not be completed."""


@dataclass(frozen=True, slots=True)
class Replace:
    """Make what was staged the content of the store, and give the permit back."""

    version: str
    streamed: bool


@dataclass(frozen=True, slots=True)
class Apply:
    """Apply these events to the store, in order."""

    events: Sequence[Event[Any]]


@dataclass(frozen=True, slots=True)
class Advance:
    """The store is whole up to ``version`` (REF12)."""

    version: str


@dataclass(frozen=True, slots=True)
class Backoff:
    """Give the permit back and wait; answer Woke. ``host`` tells whether the server as a whole seems to fail (BAK2)."""

    reason: str
    error: Exception | None = None
    host: bool = True


@dataclass(frozen=True, slots=True)
class AwaitServed:
    """Give the permit back and ask discovery until it shows the resource; answer Served."""

    error: Exception


@dataclass(frozen=True, slots=True)
class Relisting:
    """Count a list after the first one."""

    reason: str


@dataclass(frozen=True, slots=True)
class FallBack:
    """Count that LIST takes the place of a streaming list; ``remember`` it for this server and resource (REF10)."""

    reason: str
    remember: bool


@dataclass(frozen=True, slots=True)
class Stalled:
    """Count a watch that was given up because nothing came."""


@dataclass(frozen=True, slots=True)
class Refused:
    """Count something that lies below the floor (REF4)."""

    what: str
    version: str


@dataclass(frozen=True, slots=True)
class SawBookmark:
    """Remember that this server sends bookmarks for this resource."""


Effect = (
    Prepare
    | ListPage
    | OpenWatch
    | Read
    | CloseWatch
    | Stage
    | StageEvents
    | DropStaged
    | Replace
    | Apply
    | Advance
    | Backoff
    | AwaitServed
    | Relisting
    | FallBack
    | Stalled
    | Refused
    | SawBookmark
)
