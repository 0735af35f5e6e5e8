"""Checks for the kubelet: alive, ready, started.

Purpose: tell the truth about this process, in a form that a probe and a person can read.

Guarantees:

* HEA1: ``/healthz``, ``/readyz`` and ``/startupz``, each with one path per check, ``?verbose`` and ``?exclude=``. A
  failing check is named in the plain answer with "reason withheld"; the reason is for who asks with ``?verbose``, and
  for the log, once per change.
* HEA3: a check is a plain function: it cannot wait and does no request. :meth:`Checks.fail_all` flips readiness before
  anything else stops.
* HEA2, HEA5: the checks of this runtime's own parts: the lag of the event loop (CLK5), the lease, the freshness of
  watches, the caches of each controller, its workers.

What this does not do: it opens no port (``http.py`` does) and decides no restart; the kubelet does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from kruise.runtime.clock import LagProbe
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import get_logger
from kruise.runtime.manager.http import Call, HttpServer, Reply
from kruise.runtime.objects import Resource

log = get_logger("health")

Check = Callable[[], str | None]
"""Says what is wrong, in words; ``None`` when all is well. Never waits, never asks the API server (HEA3)."""
Detail = Callable[[], Iterable[str]]
"""Lines about something, for ``?verbose``."""

BLOCKED_AFTER: Final = 20.0
"""Seconds for which the event loop may be blocked before the process counts as sick (CLK5)."""
STALE_AFTER: Final = 180.0
"""Seconds without a byte after which a watch with bookmarks counts as stale (HEA5)."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer of an endpoint."""

    ok: bool
    text: str
    known: bool = True
    """False: there is no check of that name."""


class Checks:
    """The checks of one endpoint, in the order in which they were added."""

    def __init__(self, name: str) -> None:
        self.name: Final = name
        """``healthz``, ``readyz`` or ``startupz``."""
        self._checks: dict[str, Check] = {"ping": lambda: None}
        self._details: list[Detail] = []
        self._last: dict[str, str | None] = {}
        self._closing: str | None = None

    def add(self, name: str, check: Check) -> Callable[[], None]:
        """Add a check; the function returned takes it away. Raises ConfigError when *name* is taken or no path."""
        if not name or "/" in name or name.strip() != name:
            raise ConfigError(f"/{self.name}: {name!r} cannot be the name of a check: it is one part of a path")
        if name in self._checks:
            raise ConfigError(f"/{self.name}: a check named {name} is there already")
        self._checks[name] = check
        return lambda: self._forget(name)

    def _forget(self, name: str) -> None:
        self._checks.pop(name, None)
        self._last.pop(name, None)

    def add_detail(self, detail: Detail) -> None:
        """Show the lines of *detail* to who asks with ``?verbose``."""
        self._details.append(detail)

    def names(self) -> tuple[str, ...]:
        """Return the names of the checks."""
        return tuple(self._checks)

    def fail_all(self, reason: str) -> None:
        """Fail from now on, whatever the checks say: the process is stopping (HEA3)."""
        self._closing = reason

    def one(self, name: str) -> Verdict:
        """Run one check."""
        check = self._checks.get(name)
        if check is None:
            return Verdict(ok=False, text=f"no check named {name}; there are {', '.join(self._checks)}\n", known=False)
        problem = self._ask(name, check)
        return Verdict(problem is None, "ok\n" if problem is None else f"{name} failed: {problem}\n")

    def all(self, *, verbose: bool = False, exclude: Collection[str] = ()) -> Verdict:
        """Run every check but those of *exclude*."""
        lines: list[str] = []
        failed = False
        for name, check in tuple(self._checks.items()):
            if name in exclude:
                lines.append(f"[+]{name} excluded: ok")
                continue
            problem = self._ask(name, check)
            if problem is None:
                lines.append(f"[+]{name} ok")
            else:
                failed = True
                lines.append(f"[-]{name} failed: {problem if verbose else 'reason withheld'}")
        if self._closing is not None:
            failed = True
            lines.append(f"[-]shutdown failed: {self._closing if verbose else 'reason withheld'}")
        unknown = sorted(set(exclude) - set(self._checks))
        if unknown:
            lines.append(f"warn: nothing to exclude, no check is named {', '.join(repr(n) for n in unknown)}")
        if verbose:
            lines += [line for detail in self._details for line in _lines(detail)]
        if failed:
            return Verdict(ok=False, text="\n".join([*lines, f"{self.name} check failed", ""]))
        if verbose or unknown:
            return Verdict(ok=True, text="\n".join([*lines, f"{self.name} check passed", ""]))
        return Verdict(ok=True, text="ok")

    def _ask(self, name: str, check: Check) -> str | None:
        try:
            problem = check()
        except Exception as error:  # noqa: BLE001 - a check that is broken is a check that fails
            problem = f"{type(error).__name__}: {error}"
        if self._last.get(name) != problem:
            if problem is not None:
                log.warning("a check fails", endpoint=self.name, check=name, reason=problem)
            else:
                log.info("a check passes again", endpoint=self.name, check=name)
        self._last[name] = problem
        return problem


def _lines(detail: Detail) -> Iterable[str]:
    try:
        return tuple(detail())
    except Exception as error:  # noqa: BLE001 - what it wanted to tell is lost, the answer is not
        return (f"details are missing: {type(error).__name__}: {error}",)


class Health:
    """The three endpoints of one manager."""

    def __init__(self) -> None:
        self.alive: Final = Checks("healthz")
        self.ready: Final = Checks("readyz")
        self.started: Final = Checks("startupz")

    def endpoints(self) -> Sequence[Checks]:
        """Return all three."""
        return (self.alive, self.ready, self.started)

    def serve_on(self, server: HttpServer) -> None:
        """Add the endpoints to *server*."""
        for checks in self.endpoints():
            server.route(f"/{checks.name}", _handler(checks), below=True)


def _handler(checks: Checks) -> Callable[[Call], Awaitable[Reply]]:
    async def answer(call: Call) -> Reply:
        name = call.path.removeprefix(f"/{checks.name}").strip("/")
        if name:
            verdict = checks.one(name)
            if not verdict.known:
                return Reply.text(verdict.text, 404)
        else:
            exclude = {one for value in call.query.get("exclude", ()) for one in value.split(",") if one}
            verdict = checks.all(verbose=call.flag("verbose"), exclude=exclude)
        reply = Reply.text(verdict.text, 200 if verdict.ok else 500)
        return replace(reply, headers={"cache-control": "no-cache, no-store, must-revalidate"})

    return answer


def loop_check(probe: LagProbe, *, limit: float = BLOCKED_AFTER) -> Check:
    """Fail while the event loop is late by *limit* seconds, or was at its last probe (HEA2).

    A loop that is blocked answers no probe at all, which the kubelet counts as a failure as well; this check sees one
    that is blocked again and again.
    """

    def check() -> str | None:
        late = max(probe.lag, probe.blocked_for())
        return None if late < limit else f"the event loop was blocked for {late:.1f} s (limit {limit:g} s)"

    return check


class _Informer(Protocol):
    """What freshness needs of an informer."""

    @property
    def resource(self) -> Resource[Any]: ...

    @property
    def has_synced(self) -> bool: ...

    def event_age(self) -> float | None: ...


def freshness_check(
    informers: Callable[[], Iterable[_Informer]],
    sends_bookmarks: Callable[[Resource[Any]], bool],
    *,
    limit: float = STALE_AFTER,
) -> Check:
    """Fail when a watch that should get bookmarks has got nothing for *limit* seconds (HEA5).

    A first list that takes long is no stale watch, and a server that sends no bookmarks may be silent for hours.
    """

    def check() -> str | None:
        stale = []
        for informer in informers():
            age = informer.event_age()
            if informer.has_synced and age is not None and age > limit and sends_bookmarks(informer.resource):
                stale.append(f"{informer.resource} for {age:.0f} s")
        return f"nothing came from the watch of {', '.join(sorted(stale))} (limit {limit:g} s)" if stale else None

    return check
