"""A server with the least manners that a client needs, in a process of its own: its CPU time is not the client's.

``python -m tests.perf.server`` prints its port, and ends with its parent's pipe.

* ``POST`` and ``PATCH``: 201 and 200 with the metadata of an object.
* A list is empty; a streaming list is refused. A watch brings as many events as the environment variable
  ``PERF_EVENTS`` says: in one go, or ``PERF_RATE`` of them a second.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import sys
from typing import Final

from aiohttp import web

from tests.perf.samples import as_bytes, event, pod

EVENTS: Final = int(os.environ.get("PERF_EVENTS", "2000"))
RATE: Final = float(os.environ.get("PERF_RATE", "0"))
JSON: Final = {"content-type": "application/json"}
LIST: Final = as_bytes({"apiVersion": "v1", "kind": "PodList", "metadata": {"resourceVersion": "1"}, "items": []})
REFUSAL: Final = as_bytes({"kind": "Status", "apiVersion": "v1", "code": 422, "reason": "Invalid", "message": "no"})


async def answer(request: web.BaseRequest) -> web.StreamResponse:
    """Answer anything."""
    if request.method in ("POST", "PATCH"):
        await request.read()
        meta = {"name": "a", "namespace": "b", "uid": "u", "resourceVersion": str(next(_VERSIONS))}
        body = as_bytes({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})
        return web.Response(status=201 if request.method == "POST" else 200, body=body, headers=JSON)
    if "watch" not in request.query:
        return web.Response(body=LIST, headers=JSON)
    if "sendInitialEvents" in request.query:
        return web.Response(status=422, body=REFUSAL, headers=JSON)
    return await _watch(request)


async def _watch(request: web.BaseRequest) -> web.StreamResponse:
    response = web.StreamResponse(headers=JSON)
    response.enable_chunked_encoding()
    await response.prepare(request)
    lines = [event(pod(n % 1000, version=200_000 + n)) + b"\n" for n in range(EVENTS)]
    for line in lines:
        await response.write(line)
        if RATE:
            await asyncio.sleep(1 / RATE)
    await asyncio.sleep(3600)
    return response


_VERSIONS = itertools.count(2)


async def main() -> None:
    """Serve until standard input ends."""
    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


if __name__ == "__main__":
    asyncio.run(main())
