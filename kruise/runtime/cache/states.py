"""The states of a reflector, and the numbers by which it goes from one to the next.

Purpose: each state is a value with a sentence of its own; ``reflector.py`` has the transitions.

Guarantees: the defaults of :class:`Rules` are those of REF2, REF9, REF14 and REF15.

What this does not do: nothing here decides anything.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rules:
    """The numbers of the machine. Times in seconds."""

    page_size: int = 500
    any_version: bool = False
    """The first list may be old (``resourceVersion=0``). For metadata that is only mapped to owners (REF5)."""
    progress_deadline: float = 30.0
    """A streaming list that is silent for so long is given up (REF9)."""
    stall: float = 70.0
    """A watch that is silent for so long is dead, once this server has shown that it sends bookmarks (REF15)."""
    grace: float = 5.0
    """How long after its own timeoutSeconds a watch may go on (REF15)."""
    internal_errors: float = 60.0
    """How long internal errors of a watch are waited out before the position is given up (REF14)."""
    stream_failures: int = 2
    """So many broken streaming lists in a row, and this list is asked for as a LIST."""
    bad_frames: int = 2
    """So many broken frames at one version, and a list jumps over what cannot be read."""


@dataclass(frozen=True, slots=True)
class Empty:
    """Nothing was ever listed."""


@dataclass(frozen=True, slots=True)
class Relist:
    """The position is lost. ``version`` is the oldest state that the next list may show; ``""`` asks for the newest."""

    version: str


Origin = Empty | Relist


@dataclass(frozen=True, slots=True)
class Missing:
    """The server does not serve the resource; discovery is asked until it does (CAC5)."""

    origin: Origin


@dataclass(frozen=True, slots=True)
class Paging:
    """A LIST is under way."""

    origin: Origin
    full: bool = False
    """One page for everything, after a continue token expired (REF3)."""
    pages: int = 0


@dataclass(frozen=True, slots=True)
class Streaming:
    """A streaming list is under way. Until it is opened, ``ends_at`` is 0."""

    origin: Origin
    ends_at: float = 0.0
    progress_at: float = 0.0
    count: int = 0


@dataclass(frozen=True, slots=True)
class Listed:
    """The store is whole at ``version``, and no watch is open."""

    version: str
    listed_at: float
    """When the last list was completed; a 410 right after it must not become a loop."""


@dataclass(frozen=True, slots=True)
class Watching:
    """The store is whole at ``version``, and a watch is open."""

    version: str
    listed_at: float
    opened_at: float
    ends_at: float
    heard_at: float
    events: int = 0


Phase = Empty | Relist | Missing | Paging | Streaming | Listed | Watching


@dataclass(frozen=True, slots=True)
class State:
    """Where the reflector stands, and what outlives its phases."""

    phase: Phase = Empty()
    floor: str = ""
    """The highest version that was ever applied (REF4)."""
    bookmarks: bool = False
    """Whether this server has shown a bookmark of this resource: arms the stall clock (REF15)."""
    stream_failures: int = 0
    internal_since: float | None = None
    bad_frames: int = 0
    bad_at: str = ""
    rules: Rules = Rules()
