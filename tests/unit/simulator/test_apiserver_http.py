from __future__ import annotations

import asyncio
import io

import aiohttp
import orjson
import pytest

from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import Reset
from kruise.simulator.apiserver import ApiServer, Chunk, Interceptor
from kruise.simulator.apiserver.http import HttpFront


def pod(name):
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "c", "image": "i:1"}]},
    }


PODS = "/api/v1/namespaces/default/pods"


async def test_tst1_the_same_answers_over_http():
    server = ApiServer(SystemClock(), Random(1))
    async with HttpFront(server) as front, aiohttp.ClientSession(front.url, headers={"user-agent": "tester/1"}) as http:
        async with http.post(PODS, json=pod("a")) as answer:
            assert answer.status == 201
            created = await answer.json()
        async with http.get(f"{PODS}/a") as answer:
            assert await answer.json() == created == server.get("pods", "a")
        async with http.get(f"{PODS}/none") as answer:
            assert (answer.status, (await answer.json())["reason"]) == (404, "NotFound")
        async with http.get(PODS, params={"labelSelector": "a in (b, c),!d"}) as answer:
            assert (await answer.json())["items"] == []
        async with http.post(
            PODS, data=io.BytesIO(b"x" * (4 << 20)), headers={"content-type": "application/json"}
        ) as answer:
            assert answer.status == 413
        assert server.log.counts(actor="tester/1")["create pods 201"] == 1


async def test_tst1_a_watch_is_sent_line_by_line():
    server = ApiServer(SystemClock(), Random(1))
    async with HttpFront(server) as front, aiohttp.ClientSession(front.url) as http:
        query = {"watch": "1", "resourceVersion": str(server.storage.rv)}
        async with http.get("/api/v1/pods", params=query) as answer:
            server.do("POST", PODS, pod("a"))
            event = orjson.loads(await answer.content.readline())
            assert (event["type"], event["object"]["metadata"]["name"]) == ("ADDED", "a")
            server.do("DELETE", f"{PODS}/a")
            assert orjson.loads(await answer.content.readline())["type"] == "MODIFIED"
            assert orjson.loads(await answer.content.readline())["type"] == "DELETED"


@pytest.mark.parametrize("half", [True, False])
async def test_tst2_a_broken_stream_is_a_broken_connection(half):
    class Hook(Interceptor):
        def chunk(self, call, line):
            if b'"b"' in line:
                return Chunk(half=line[:10]) if half else Chunk(error=Reset("cut"))
            return Chunk((line,))

    server = ApiServer(SystemClock(), Random(1))
    server.faults = Hook()
    async with HttpFront(server) as front, aiohttp.ClientSession(front.url) as http:
        query = {"watch": "1", "resourceVersion": str(server.storage.rv)}
        async with http.get("/api/v1/pods", params=query) as answer:
            server.do("POST", PODS, pod("a"))
            await answer.content.readline()
            server.do("POST", PODS, pod("b"))
            with pytest.raises(aiohttp.ClientError):
                await asyncio.wait_for(answer.content.read(), 5)


async def test_stopping_the_front_ends_the_watches():
    server = ApiServer(SystemClock(), Random(1))
    front = HttpFront(server)
    await front.start()
    async with aiohttp.ClientSession(front.url) as http, http.get("/api/v1/pods", params={"watch": "1"}) as answer:
        assert answer.status == 200
        await front.stop()
        with pytest.raises(aiohttp.ClientError):
            await asyncio.wait_for(answer.content.read(), 5)
    assert server.frontend().watching() == 0
