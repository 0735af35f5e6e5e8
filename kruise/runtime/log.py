"""One form of log line, and one place that knows what must not be logged.

Purpose: constant lower-case messages with keys and values; what is the same for a whole reconcile comes from context.

Guarantees:

* LOG1: the keys are those of controller-runtime: ``controller``, ``controllerGroup``, ``controllerKind``,
  ``<Kind>`` = ``{name, namespace}``, ``namespace``, ``name``, ``reconcileID``. JSON and text.
* LOG2: :func:`bound` puts values into the context of the current task and of all tasks that it starts.
* LOG3: :func:`slow` has the thresholds above which a handler, a decode, a lag of the loop and a reconcile are logged as
  slow. They belong to the process, as the form and the level do, and :func:`configure` sets them.
* LOG4: a value under a key that names a secret is never printed, at any level, however deep it stands.

What this does not do: it writes to one stream of the process and rotates nothing.
"""

from __future__ import annotations

import contextlib
import logging
import re
import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any, Final, TextIO, cast

import structlog

from kruise.runtime.clock import Clock, SystemClock, format_micro_time
from kruise.runtime.errors import ConfigError

REDACTED: Final = "REDACTED"
_SECRET_KEY: Final = re.compile(
    r"(?i)(authorization|bearer|password|passwd|secret|token|private.?key|client.?key|cookie|^data$|^stringData$|^env$|^object$|^body$)"
)
_SAFE_KEY: Final = re.compile(r"(?i)(secretname|secret_name|continue_token_used|tokenreviews?)")
_BEARER: Final = re.compile(
    r"(?i)\b(?:bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}"
    r"|\beyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
    r"|-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|$)",
    re.DOTALL,
)

Logger = structlog.stdlib.BoundLogger


@dataclass(frozen=True, slots=True)
class SlowThresholds:
    """From how many seconds on a step is logged as slow (LOG3)."""

    handler: float = 0.05
    decode: float = 0.05
    loop_lag: float = 0.1
    reconcile: float = 10.0


SLOW: Final = SlowThresholds()
"""Defaults to client-go's 100 ms for the loop, and half of it for what runs on the loop without a pause."""

_slow: list[SlowThresholds] = [SLOW]


def slow() -> SlowThresholds:
    """Return the thresholds of this process."""
    return _slow[0]


def _name(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Give the name of the logger its key. It comes under another one, because structlog keeps ``logger`` to itself."""
    if "logger_name" in event:
        event["logger"] = event.pop("logger_name")
    return event


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Replace what must not be logged (LOG4). A processor of structlog."""
    for key, value in event.items():
        event[key] = value if key == "event" and not isinstance(value, str) else _clean(key, value)
    return event


def _clean(key: str, value: Any) -> Any:
    if _SECRET_KEY.search(key) and not _SAFE_KEY.search(key) and value not in (None, "", True, False):
        # A controller of Secrets says which one it works on: Secret={name, namespace}.
        return value if isinstance(value, Mapping) and value.keys() <= {"name", "namespace"} else REDACTED
    if isinstance(value, Mapping):
        return {k: _clean(str(k), v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean("", item) for item in value]
    if isinstance(value, bytes):
        return REDACTED
    if isinstance(value, str):
        return _BEARER.sub(REDACTED, value)
    return value


_ORDER: Final = {
    key: place
    for place, key in enumerate(
        ("controller", "controllerGroup", "controllerKind", "", "namespace", "name", "reconcileID")
    )
}


def _merge_context(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    # Context variables come in no stable order; a line reads the same each time.
    context = structlog.contextvars.get_contextvars()
    for key in sorted(context, key=lambda k: (_ORDER.get(k, _ORDER[""]), k)):
        event.setdefault(key, context[key])
    return event


def _stamp(clock: Clock) -> Callable[[Any, str, MutableMapping[str, Any]], MutableMapping[str, Any]]:
    def add(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        event["ts"] = format_micro_time(clock.now())
        return event

    return add


def configure(
    *,
    form: str = "text",
    level: str = "info",
    stream: TextIO | None = None,
    clock: Clock | None = None,
    slow: SlowThresholds = SLOW,
) -> None:
    """Set up logging for the process: *form* is ``text`` or ``json``. Raises ConfigError for anything else."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ConfigError(f"--log-level={level}: not one of debug, info, warning, error")
    if form not in ("text", "json"):
        raise ConfigError(f"--logging-format={form}: not one of text, json")
    renderer: Any = (
        structlog.processors.JSONRenderer(sort_keys=False, ensure_ascii=False)
        if form == "json"
        else structlog.dev.ConsoleRenderer(colors=False, pad_event_to=0, sort_keys=False, timestamp_key="ts")
    )
    out = stream if stream is not None else sys.stderr
    _slow[0] = slow
    structlog.configure(
        processors=[
            _merge_context,
            structlog.processors.add_log_level,
            _stamp(clock if clock is not None else SystemClock()),
            structlog.processors.format_exc_info,
            _name,
            redact,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(out),
        cache_logger_on_first_use=False,
    )


def get_logger(name: str, **values: Any) -> Logger:
    """Return a logger; *name* says which part of the program speaks. *values* stand in every line."""
    return cast(Logger, structlog.get_logger(logger_name=name, **values))


@contextlib.contextmanager
def bound(**values: Any) -> Iterator[None]:
    """Put *values* into every line of this task, and of the tasks that it starts, until the block ends (LOG2)."""
    with structlog.contextvars.bound_contextvars(**values):
        yield
