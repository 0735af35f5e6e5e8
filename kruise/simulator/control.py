"""The control API of the simulated nodes: what a test does to nodes and pods that no annotation can say.

====== ==================================== ============================================================================
GET    /status                              counts of nodes, pods and requests, CPU seconds of the process
GET    /rules                               the rules, in their order
PUT    /rules                               replace them: a JSON list of rules (``behaviour.Rule``)
POST   /rules                               add one rule, after the others
POST   /nodes                               ``{"count": 3}`` or ``{"names": [...]}``, ``labels``, ``annotations``
DELETE /nodes/NAME                          delete the Node object
POST   /nodes/NAME/down                     cut off: no lease, no status; ``?power=true``: its containers die as well
POST   /nodes/NAME/up                       end what ``down`` began
POST   /pods/NAMESPACE/NAME/exit            a container ends now; ``?container=`` (default: the first), ``?code=``
POST   /pods/NAMESPACE/NAME/evict           the node evicts the pod
====== ==================================== ============================================================================

Guarantees: every answer is JSON; 404 names what is not there, 400 names the field that is wrong.

What this does not do: no authentication. It listens on a loopback address or a unix socket, and on nothing else.
"""

from __future__ import annotations

import ipaddress
import resource
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from typing import Any, Final

import orjson

from kruise.runtime.errors import ApiError, ConfigError, TransportError, UnknownOutcome
from kruise.runtime.objects import Key
from kruise.simulator import kubelet
from kruise.simulator.behaviour import Rule
from kruise.simulator.node_agent import NodeAgent

Answer = tuple[int, Any]
MAX_NODES: Final = 10_000


class Control:
    """Answers requests, without a socket: ``await control.handle("POST", "/nodes/node-3/down")``."""

    def __init__(self, agent: NodeAgent) -> None:
        self._agent = agent

    async def handle(self, method: str, path: str, query: Mapping[str, str] | None = None, body: bytes = b"") -> Answer:
        """Return the HTTP status and what to encode as JSON."""
        parts = [part for part in path.split("/") if part]
        try:
            return await self._route(method, parts, query or {}, body)
        except (ConfigError, ValueError) as error:
            return 400, {"error": str(error)}
        except ApiError as error:
            return error.status.code, {"error": str(error)}
        except (TransportError, UnknownOutcome) as error:
            return 502, {"error": str(error)}

    async def _route(self, method: str, parts: list[str], query: Mapping[str, str], body: bytes) -> Answer:
        match (method, parts):
            case ("GET", ["status"]):
                return 200, self.status()
            case ("GET" | "PUT" | "POST", ["rules"]):
                return self._rules(method, body)
            case ("POST", ["nodes"]):
                return await self._add_nodes(body)
            case ("DELETE", ["nodes", name]):
                await self._agent.keeper.remove(name)
                return 200, {}
            case ("POST", ["nodes", name, "down" | "up" as what]):
                how = "" if what == "up" else "power" if query.get("power") == "true" else "true"
                return (200, {}) if self._agent.take_down(name, how) else _missing("node", name)
            case ("POST", ["pods", namespace, name, "exit" | "evict" as what]):
                return self._pod(Key(namespace, name), what, query)
        return 404, {"error": f"there is no {method} /{'/'.join(parts)}"}

    def status(self) -> dict[str, Any]:
        """Return the counts that ``GET /status`` shows."""
        agent = self._agent
        nodes = agent.keeper.nodes.values()
        phases: dict[str, int] = {}
        for record in agent.pods.values():
            if record.pod.node in agent.keeper.nodes:
                phase = record.pod.status.get("phase") or "Pending"
                phases[phase] = phases.get(phase, 0) + 1
        usage = resource.getrusage(resource.RUSAGE_SELF)
        return {
            "nodes": len(nodes),
            "down": sorted(n.name for n in nodes if n.down),
            "pods": phases,
            **asdict(agent.counts),
            "renewals": agent.keeper.renewals,
            "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 3),
            "peak_rss_kib": usage.ru_maxrss,
        }

    def _rules(self, method: str, body: bytes) -> Answer:
        agent = self._agent
        if method != "GET":
            raw = orjson.loads(body)
            if method == "PUT" and not isinstance(raw, list):
                raise ConfigError("PUT /rules takes a list of rules")
            given = [Rule.parse(one) for one in (raw if isinstance(raw, list) else [raw])]
            agent.set_rules(given if method == "PUT" else [*agent.rules, *given])
        return 200, [asdict(rule) for rule in agent.rules]

    async def _add_nodes(self, body: bytes) -> Answer:
        raw = orjson.loads(body or b"{}")
        if not isinstance(raw, dict):
            raise ConfigError("POST /nodes takes an object")
        for name, kind in (("count", int), ("names", list), ("labels", dict), ("annotations", dict)):
            if name in raw and not isinstance(raw[name], kind):
                raise ConfigError(f"{name}: must be a JSON {kind.__name__}")
        count = raw.get("count", 0 if "names" in raw else 1)
        if not 0 <= count <= MAX_NODES:
            raise ConfigError(f"count: {count} does not lie between 0 and {MAX_NODES}")
        names = [*map(str, raw.get("names", ())), *self._agent.keeper.names(count)]
        await self._agent.keeper.register(names, labels=raw.get("labels"), annotations=raw.get("annotations"))
        return 200, {"names": names}

    def _pod(self, key: Key, what: str, query: Mapping[str, str]) -> Answer:
        record = self._agent.pods.get(key)
        if record is None:
            return _missing("pod", str(key))
        if what == "evict":
            found = self._agent.command(key, kubelet.evict)
        else:
            first = (record.pod.spec.get("containers") or [{"name": ""}])[0]["name"]
            name, code = query.get("container", first), int(query.get("code", "1"))
            found = self._agent.command(key, lambda state, now: kubelet.force_exit(state, name, code, now))
        return (200, {}) if found else _missing("pod on a simulated node", str(key))


def _missing(what: str, name: str) -> Answer:
    return 404, {"error": f"there is no {what} {name}"}


def parse_address(text: str) -> tuple[str, int] | str:
    """Return (address, port), or the path of a unix socket. Raises ConfigError for what is neither, or not loopback.

    >>> parse_address("127.0.0.1:8070")
    ('127.0.0.1', 8070)
    >>> parse_address("unix:/tmp/nodes.sock")
    '/tmp/nodes.sock'
    """
    if text.startswith("unix:") and len(text) > len("unix:"):
        return text.removeprefix("unix:")
    host, _, port = text.rpartition(":")
    host = host.strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
        number = int(port)
    except ValueError:
        raise ConfigError(f"--control={text}: write it as 127.0.0.1:PORT or unix:PATH") from None
    if not loopback or not 0 <= number <= 65535:
        raise ConfigError(f"--control={text}: it has no authentication, so it listens on loopback addresses only")
    return host, number


@asynccontextmanager
async def served(control: Control, address: tuple[str, int] | str) -> AsyncIterator[tuple[str, int] | str]:
    """Serve *control* until the block ends; give where it listens (port 0 becomes a free one)."""
    from aiohttp import web

    async def answer(request: web.Request) -> web.Response:
        status, value = await control.handle(request.method, request.path, request.query, await request.read())
        return web.Response(status=status, body=orjson.dumps(value), content_type="application/json")

    app = web.Application(client_max_size=4 * 1024 * 1024)
    app.router.add_route("*", "/{path:.*}", answer)
    runner = web.AppRunner(app, access_log=None, handle_signals=False, shutdown_timeout=1.0)
    await runner.setup()
    try:
        if isinstance(address, str):
            await web.UnixSite(runner, address).start()
            yield address
        else:
            await web.TCPSite(runner, *address).start()
            listening: tuple[str, int] = runner.addresses[0][:2]
            yield listening
    finally:
        await runner.cleanup()
