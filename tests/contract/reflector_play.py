"""A reflector against a server that follows a script, in virtual time."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from kruise.runtime.cache.informer import Informer
from kruise.runtime.testing import VirtualClock, run_virtual
from tests.unit.cache.fake_server import World, running, until

Main = Callable[[World, Informer[Any]], Coroutine[Any, Any, None]]


def play(
    main: Main,
    *,
    prepare: Callable[[World], None] = lambda w: None,
    run: bool = True,
    world: dict[str, Any] | None = None,
    **options: Any,
) -> None:
    async def go(clock: VirtualClock) -> None:
        w = World(clock, **(world or {}))
        prepare(w)
        informer = w.informer(**options)
        informer.add_handler(w.told.append)
        if not run:
            await main(w, informer)
            return
        async with running(informer):
            await main(w, informer)
            await w.settle()
            assert {k: o.resource_version for o in informer.store.list() for k in [o.key]} == {
                k: o["metadata"]["resourceVersion"] for k, o in w.server.objects.items()
            }

    run_virtual(go)


def pods(*names: str) -> Callable[[World], None]:
    def prepare(w: World) -> None:
        for name in names:
            w.server.put(name)

    return prepare


def listing(w: World) -> None:
    w.server.streaming = False


async def watching(informer: Informer[Any]) -> None:
    await until(lambda: informer.describe().phase == "Watching")
