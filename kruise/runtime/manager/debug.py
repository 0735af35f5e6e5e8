"""What is it doing, and why: the state of a live process as text.

Purpose: six short reports for a person at three in the morning, over HTTP or, after SIGUSR1, in the log.

Guarantees:

* DBG1: ``/debug/{queue,cache,leader,tasks,stacks,mem}`` on a port of their own, off by default; :meth:`Debug.dump`
  writes the same to the log. A report lets the loop run after every few lines: no dump stalls it for 50 ms.
* DBG3: ``/debug/cache`` has the types with the most bytes first; ``?top=5`` for how many. ``/debug/objects`` has key,
  uid and version of every cached object, to be compared with a list of the server; it is not part of the dump.
* DBG4: names, counts, ages and lines of code only: no object, no value of a variable, no token. It listens on loopback
  unless a host is given, and asks for authorisation when it is reachable from elsewhere.

What this does not do: it changes nothing, and it compares no cache with the server.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from kruise.runtime.cache.store import Store
from kruise.runtime.clock import Clock
from kruise.runtime.controller.queue import Queue
from kruise.runtime.log import get_logger
from kruise.runtime.manager import stacks
from kruise.runtime.manager.authz import Authorizer
from kruise.runtime.manager.http import Address, Call, Handler, HttpServer, Reply, parse_address
from kruise.runtime.manager.leader import Elector
from kruise.runtime.objects import Resource

log = get_logger("debug")

FLAG: Final = "--pprof-addr"
TOP: Final = 20
BREATHE_EVERY: Final = 25
"""Lines after which other tasks get a turn."""
_CHUNK: Final = 5000
_LOGGED_AT_ONCE: Final = 50

Lines = Iterator[str | None]
"""The lines of a report; None where other tasks should get a turn."""


class _Described(Protocol):
    """What an informer says of itself."""

    @property
    def resource(self) -> Resource[Any]: ...

    @property
    def store(self) -> Store[Any]: ...

    def store_bytes(self) -> int: ...

    def describe(self) -> object: ...


class _Worker(Protocol):
    """What a controller says of itself."""

    @property
    def name(self) -> str: ...

    @property
    def queue(self) -> Queue: ...

    @property
    def not_ready(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class DebugOptions:
    """Whether and where the reports are served."""

    enabled: bool = False
    """Defaults to false: OpenKruise has it on, on all interfaces."""
    address: str = ":8090"
    """Defaults to port 8090 of the loopback interface; name a host to listen elsewhere."""

    def bind(self) -> Address | None:
        """Return where to listen, or None. Raises ConfigError."""
        address = parse_address(self.address, FLAG)
        if address is None or not self.enabled:
            return None
        return address if address.host else Address("127.0.0.1", address.port)


class Debug:
    """The reports of one manager."""

    def __init__(
        self,
        *,
        clock: Clock,
        controllers: Callable[[], Iterable[_Worker]],
        informers: Callable[[], Iterable[_Described]],
        elector: Callable[[], Elector | None],
    ) -> None:
        self._clock = clock
        self._controllers = controllers
        self._informers = informers
        self._elector = elector
        self.reports: Final[Mapping[str, Callable[[int], Lines]]] = {
            "queue": self._queue,
            "cache": self._cache,
            "leader": self._leader,
            "tasks": self._tasks,
            "stacks": self._stacks,
            "mem": self._mem,
        }
        self.listings: Final[Mapping[str, Callable[[int], Lines]]] = {"objects": self._objects}
        """As long as the caches are: served, but not written to the log."""

    def server(self, options: DebugOptions, authorizer: Authorizer) -> HttpServer | None:
        """Return the server of the reports, or None when it is off. Only loopback is served without authorisation."""
        address = options.bind()
        if address is None:
            return None
        server = HttpServer("debug", address, flag=FLAG)

        def add(path: str, handler: Handler) -> None:
            server.route(path, handler if address.loopback else authorizer.guard(handler))

        async def index(_call: Call) -> Reply:
            return Reply.text("\n".join(f"/debug/{name}" for name in (*self.reports, *self.listings)))

        add("/debug/", index)
        for name in (*self.reports, *self.listings):
            add(f"/debug/{name}", self._handler(name))
        return server

    def _handler(self, name: str) -> Handler:
        async def answer(call: Call) -> Reply:
            asked = next(iter(call.query.get("top", ())), str(TOP))
            if not (asked.isascii() and asked.isdigit()):
                return Reply.text(f"top={asked}: want a number", 400)
            return Reply.text("\n".join(await self.report(name, top=int(asked))) or "nothing")

        return answer

    async def report(self, name: str, *, top: int = TOP) -> list[str]:
        """Return the lines of one report. Lets other tasks run meanwhile; can be cancelled."""
        found: list[str] = []
        for line in {**self.reports, **self.listings}[name](top):
            if line is not None:
                found.append(line)
            if line is None or len(found) % BREATHE_EVERY == 0:
                await self._clock.sleep(0)
        return found

    async def dump(self) -> None:
        """Write every report to the log."""
        for name in self.reports:
            lines = await self.report(name)
            for start in range(0, max(1, len(lines)), _LOGGED_AT_ONCE):
                log.info("debug dump", report=name, lines=lines[start : start + _LOGGED_AT_ONCE])

    def _queue(self, top: int) -> Lines:
        for controller in self._controllers():
            s = controller.queue.stats()
            yield (
                f"{controller.name}: ready={s.ready} delayed={s.delayed} gated={s.gated} running={s.running} "
                f"adds={s.adds} retries={s.retries} oldest={s.oldest:.3f}s longest_run={s.longest_run:.3f}s "
                f"closed={s.closed} not_ready={controller.not_ready or '-'}"
            )
            yield None
            keys = controller.queue.dump()
            for info in keys[: max(top, 100)]:
                due = "-" if info.next_run is None else f"{info.next_run:.3f}s"
                yield (
                    f"  {info.key}: {info.state.value} priority={info.priority} age={info.age:.3f}s "
                    f"failures={info.failures} next_run={due}"
                )
            if len(keys) > max(top, 100):
                yield f"  ... and {len(keys) - max(top, 100)} more; ?top={len(keys)} shows them"

    def _cache(self, top: int) -> Lines:
        sizes: list[tuple[int, str]] = []
        for informer in self._informers():
            sizes.append((informer.store_bytes(), str(informer.describe())))
            yield None
        sizes.sort(key=lambda one: -one[0])
        yield f"{len(sizes)} types, {sum(size for size, _ in sizes)} bytes"
        for size, text in sizes[:top]:
            yield f"{size} bytes  {text}"

    def _objects(self, _top: int) -> Lines:
        for informer in self._informers():
            store = informer.store
            for obj in (*store.list(), *store.unreadable()):
                yield f"{informer.resource} {obj.key} {obj.uid} {obj.resource_version}"
            yield None

    def _leader(self, _top: int) -> Lines:
        elector = self._elector()
        if elector is None:
            yield "there is no leader election"
            return
        state, lease, now = elector.state, elector.state.lease, self._clock.boottime()
        yield f"identity={state.identity} leading={elector.leading} term_ever={elector.term.ever}"
        yield f"lease={elector.options.namespace}/{elector.options.name} known={state.known}"
        if lease is not None:
            yield (
                f"holder={lease.holder or '-'} transitions={lease.record.lease_transitions} "
                f"version={lease.resource_version} changed={now - state.observed_at:.3f}s ago"
            )
        if elector.leading:
            yield f"renewed={now - state.renewed_at:.3f}s ago remaining={elector.term.remaining():.3f}s"
        elif lease is not None and lease.holder:
            yield f"may be taken in {max(0.0, state.expires_at - now):.3f}s"

    def _tasks(self, _top: int) -> Lines:
        tasks = sorted(asyncio.all_tasks(), key=lambda task: task.get_name())
        yield f"{len(tasks)} tasks"
        for task in tasks:
            yield stacks.describe(task)

    def _stacks(self, _top: int) -> Lines:
        yield from stacks.threads()
        for task in sorted(asyncio.all_tasks(), key=lambda task: task.get_name()):
            yield f"task {task.get_name()}:"
            for line in stacks.chain(task):
                yield f"  {line}"

    def _mem(self, top: int) -> Lines:
        usage = resource.getrusage(resource.RUSAGE_SELF)
        yield f"resident={_resident()} bytes, peak={usage.ru_maxrss * 1024} bytes"
        yield f"cpu={usage.ru_utime:.2f}s user, {usage.ru_stime:.2f}s system"
        yield f"gc: threshold={gc.get_threshold()} count={gc.get_count()} frozen={gc.get_freeze_count()}"
        kinds: Counter[str] = Counter()
        yield None
        held: Sequence[Any] = gc.get_objects()
        yield None
        for start in range(0, len(held), _CHUNK):
            kinds.update(type(one).__qualname__ for one in held[start : start + _CHUNK])
            yield None
        yield f"{len(held)} tracked objects, most frequent types:"
        del held
        for name, count in kinds.most_common(top):
            yield f"  {count}  {name}"


def _resident() -> int:
    """Return the resident set in bytes; 0 where the system does not tell."""
    try:
        with open("/proc/self/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGESIZE")
    except (OSError, IndexError, ValueError):
        return 0
