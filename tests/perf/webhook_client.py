"""An API server's side of admission: one review again and again over connections that stay, in a process of its own.

``python -m tests.perf.webhook_client REVIEW`` reads one JSON object per line and answers each with one: ``port``,
``path``, ``at_once`` connections, ``requests`` in all. REVIEW is the file with the review. The answer has the seconds
of the whole, and what one request took (``p50``, ``p99``, ``worst``), as seen here; and the last body that came back.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import ssl
import sys
import time
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Connection:
    """One connection of HTTP/1.1, as plain as it can be: what is measured is the other side."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Connection:
        """Connect over TLS; whose certificate it is does not matter here."""
        tls = ssl.create_default_context()
        tls.check_hostname = False
        tls.verify_mode = ssl.CERT_NONE
        return cls(*await asyncio.open_connection("127.0.0.1", port, ssl=tls))

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        """Send one request; return status and body."""
        self._writer.write(request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = next(
            int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")
        )
        return int(head.split(b" ", 2)[1]), await self._reader.readexactly(length)

    async def close(self) -> None:
        """End it."""
        self._writer.close()
        await self._writer.wait_closed()


def request(path: str, body: bytes) -> bytes:
    """Return a request as the API server sends one."""
    head = f"POST {path}?timeout=10s HTTP/1.1\r\nhost: webhook\r\ncontent-type: application/json\r\n"
    return f"{head}accept: application/json, */*\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body


async def load(port: int, path: str, body: bytes, *, at_once: int, requests: int) -> Json:
    """Send *requests* over *at_once* connections; return the figures."""
    sent = request(path, body)
    took: list[float] = []
    last = b""
    numbers = iter(range(requests))
    connections = [await Connection.open(port) for _ in range(at_once)]
    try:
        for one in connections:  # a first request of each connection is not counted
            await one.ask(sent)

        async def work(one: Connection) -> None:
            nonlocal last
            for _ in numbers:
                began = time.perf_counter()
                status, last = await one.ask(sent)
                took.append(time.perf_counter() - began)
                assert status == 200, last

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for one in connections:
                tasks.create_task(work(one))
        seconds = time.perf_counter() - began
    finally:
        for one in connections:
            await one.close()
    took.sort()
    return {
        "seconds": seconds,
        "p50": took[len(took) // 2],
        "p99": took[int(len(took) * 0.99)],
        "worst": took[-1],
        "last": last.decode(),
    }


async def main(body: bytes) -> None:
    """Answer until standard input ends."""
    loop = asyncio.get_running_loop()
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = json.loads(line)
        print(json.dumps(await load(body=body, **asked)), flush=True)


if __name__ == "__main__":
    review = Path(sys.argv[1]).read_bytes()
    if importlib.util.find_spec("uvloop") is not None:
        import uvloop

        uvloop.run(main(review))
    else:
        asyncio.run(main(review))
