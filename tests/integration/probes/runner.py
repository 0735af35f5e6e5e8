"""Asks all probes of one API server.

Purpose: install the custom kinds, give each probe a namespace, ask several at a time, normalise what they saw, and take
everything away again.

Guarantees:

* TST7: the same code asks the embedded server and any other. A probe that fails is an answer of its own (``error``),
  never a missing one.

What this does not do: it compares nothing; ``comparing.py`` does.
"""

from __future__ import annotations

import asyncio
import importlib
import secrets
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import aiohttp

from kruise.runtime.client.auth import ClusterConfig
from kruise.runtime.client.kubeconfig import load_kubeconfig
from kruise.runtime.client.tls import TlsContexts
from kruise.runtime.clock import SystemClock
from tests.integration.probes.asking import Body, Target, World
from tests.integration.probes.hooks import HookServer
from tests.integration.probes.kinds import DEFINITIONS
from tests.integration.probes.normal import normal
from tests.integration.probes.registry import PROBES, Probe

AT_ONCE: Final = 8
_CRDS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

for _module in sorted(Path(__file__).parent.glob("probes_*.py")):
    importlib.import_module(f"tests.integration.probes.{_module.stem}")


async def of_kubeconfig(path: str) -> Target:
    """Return the server of a kubeconfig. Raises ConfigError."""
    clock = SystemClock()
    config = await load_kubeconfig(clock, path=path)
    return await of_config(config, clock)


async def of_config(config: ClusterConfig, clock: SystemClock) -> Target:
    """Return the server of a configuration."""
    tls = TlsContexts(config, clock).current() if config.host.startswith("https") else None
    headers = {k.title(): v for k, v in (await config.credentials.headers()).items()}
    target = Target("", config.host, tls, headers)
    async with aiohttp.ClientSession() as session:
        version = (await World(target, session, "").get("/version")).obj
    return Target(str(version["gitVersion"]), config.host, tls, headers)


async def ask_all(target: Target, names: Iterable[str] = (), say: Callable[[str], None] = lambda _: None) -> Body:
    """Return what each probe saw, normalised; *names* restricts them."""
    chosen = [p for n, p in PROBES.items() if not list(names) or n in set(names)]
    found: Body = {}
    gate = asyncio.Semaphore(AT_ONCE)
    run = secrets.token_hex(2)
    connector = aiohttp.TCPConnector(limit=0)
    session = aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60))
    async with HookServer() as hooks, session:
        await _install(World(target, session, ""))
        try:
            async with asyncio.TaskGroup() as tasks:
                for number, probe in enumerate(chosen):
                    world = World(target, session, f"probe-{run}-{number}", hooks)
                    tasks.create_task(_ask(probe, world, gate, found, say))
        finally:
            if not target.ends:
                await _remove(World(target, session, ""), run)
    return dict(sorted(found.items()))


async def _ask(probe: Probe, world: World, gate: asyncio.Semaphore, found: Body, say: Callable[[str], None]) -> None:
    async with gate:
        try:
            async with asyncio.timeout(60):
                await world.open()
                seen = await probe.ask(world)
            found[probe.name] = normal(seen, world.ns)
        except Exception as error:
            found[probe.name] = {"error": normal(f"{type(error).__name__}: {error}", world.ns)}
        finally:
            await world.close()
        say(probe.name)


async def _install(world: World) -> None:
    for crd in DEFINITIONS:
        answer = await world.ask("POST", _CRDS, crd)
        assert answer.code in (201, 409), answer.body
    for crd in DEFINITIONS:
        name = crd["metadata"]["name"]
        await world.until("customresourcedefinitions", name, _established)
        spec = crd["spec"]
        for version in spec["versions"]:
            # Established comes before the paths are served.
            path = f"/apis/{spec['group']}/{version['name']}/{spec['names']['plural']}"
            async with asyncio.timeout(30):
                while (await world.get(path)).code == 404:
                    await asyncio.sleep(0.05)


def _established(crd: Body) -> bool:
    conditions = (crd.get("status") or {}).get("conditions") or ()
    return any(c["type"] == "Established" and c["status"] == "True" for c in conditions)


async def _remove(world: World, run: str) -> None:
    """Delete the namespaces of this run and the kinds, and wait until the namespaces are gone.

    They are deleted together at the end: a namespace controller with hundreds of them waiting makes probes of its own
    work wait as well.
    """
    names = [n for n in (await world.get("/api/v1/namespaces")).names if n.startswith(f"probe-{run}-")]
    for name in names:
        await world.ask("DELETE", f"/api/v1/namespaces/{name}")
    try:
        async with asyncio.timeout(120):
            for name in names:
                while (await world.get(f"/api/v1/namespaces/{name}")).code == 200:
                    await asyncio.sleep(0.1)
    except TimeoutError:
        pass  # whatever still holds one, the next run does not meet it
    for crd in DEFINITIONS:
        await world.ask("DELETE", f"{_CRDS}/{crd['metadata']['name']}")
