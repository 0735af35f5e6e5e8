"""All probes by name.

A probe is an async function over a :class:`World`. It asks and returns what it saw; what it returns is normalised and
compared with what the same probe saw on another server.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final

from tests.integration.probes.asking import World

Ask = Callable[[World], Awaitable[Any]]


@dataclass(frozen=True, slots=True)
class Probe:
    """One question."""

    name: str
    ask: Ask
    actors: bool
    """Whether it needs the actors of a cluster: garbage collector, namespace controller and so on."""


PROBES: Final[dict[str, Probe]] = {}


def probe(ask: Ask) -> Ask:
    """Register a probe of the API server alone."""
    return _add(ask, actors=False)


def acted(ask: Ask) -> Ask:
    """Register a probe that waits for an actor of the cluster."""
    return _add(ask, actors=True)


def _add(ask: Ask, *, actors: bool) -> Ask:
    name = ask.__name__
    assert name not in PROBES, f"two probes are called {name}"
    PROBES[name] = Probe(name, ask, actors)
    return ask
