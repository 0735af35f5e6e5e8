from __future__ import annotations

import asyncio
import base64
import contextlib
import json

import pytest
from aiohttp import web

from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import Refused, Reset, Timeout, TransportError
from kruise.simulator.apiserver import ApiServer
from kruise.simulator.apiserver.access import make_certificates
from kruise.simulator.apiserver.http import HttpFront
from kruise.simulator.apiserver.webhooks import Target, nobody
from kruise.simulator.apiserver.webhooks_config import MUTATING
from kruise.simulator.apiserver.webhooks_https import HttpsCaller

CERTIFICATES = make_certificates(now=SystemClock().now(), names=("127.0.0.1", "hooks.tools.svc"))
OTHER = make_certificates(now=SystemClock().now(), names=("127.0.0.1",))


@contextlib.asynccontextmanager
async def listening(answer, certificates=CERTIFICATES):
    runner = web.ServerRunner(web.Server(answer, handler_cancellation=True), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificates.context()).start()
    try:
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def calling(find=lambda _namespace, _name: None):
    caller = HttpsCaller(find)
    try:
        yield caller
    finally:
        await caller.close()


async def echo(request):
    return web.json_response({"query": request.query_string, "body": (await request.read()).decode()})


def at(port, bundle=CERTIFICATES.authority):
    return Target(f"https://127.0.0.1:{port}/x", bundle=bundle)


async def test_tst1_a_webhook_is_called_over_https_with_its_deadline():
    async with listening(echo) as port, calling() as caller:
        answer = await caller(at(port), b"{}", 7.0)
    assert answer.status == 200
    assert answer.content_type.startswith("application/json")
    assert json.loads(answer.body) == {"query": "timeout=7s", "body": "{}"}


async def test_tst1_only_the_bundle_is_trusted():
    async with listening(echo) as port, calling() as caller:
        with pytest.raises(
            TransportError, match="tls: failed to verify certificate: x509: certificate signed by unknown"
        ):
            await caller(at(port, OTHER.authority), b"{}", 5.0)
        with pytest.raises(TransportError, match="x509: certificate signed by unknown authority"):
            await caller(at(port, b""), b"{}", 5.0)
        with pytest.raises(TransportError, match="unable to parse bytes as PEM block"):
            await caller(at(port, b"-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----"), b"{}", 5.0)


async def test_tst1_the_certificate_must_name_the_service():
    services = {"hooks": {"spec": {"clusterIP": "127.0.0.1"}}, "other": {"spec": {"clusterIP": "127.0.0.1"}}}
    async with listening(echo) as port, calling(lambda _, name: services.get(name)) as caller:
        found = Target("", "tools", "hooks", port, "/y", CERTIFICATES.authority)
        assert (await caller(found, b"{}", 5.0)).status == 200
        with pytest.raises(TransportError, match="x509: certificate is not valid for the name"):
            await caller(Target("", "tools", "other", port, "/y", CERTIFICATES.authority), b"{}", 5.0)


@pytest.mark.parametrize(
    ("service", "why"),
    [
        (None, 'service "hooks" not found'),
        ({"spec": {"clusterIP": "None"}}, 'no endpoints available for service "hooks"'),
        ({"spec": {"type": "ExternalName", "externalName": "127.0.0.1"}}, "connect: connection refused"),
    ],
)
async def test_tst1_a_service_that_leads_nowhere(service, why):
    async with calling(lambda _namespace, _name: service) as caller:
        with pytest.raises(TransportError, match=why):
            await caller(Target("", "tools", "hooks", 1, "/y", CERTIFICATES.authority), b"{}", 5.0)


async def test_tst1_a_webhook_that_is_dead_slow_or_gone_in_the_middle():
    async def slow(_request):
        await asyncio.Event().wait()

    async def gone(request):
        request.transport.abort()
        return web.Response()

    async with calling() as caller:
        with pytest.raises(Refused, match=r"dial tcp 127\.0\.0\.1:1: connect: connection refused"):
            await caller(at(1), b"{}", 5.0)
        async with listening(slow) as port:
            with pytest.raises(Timeout, match="context deadline exceeded"):
                await caller(at(port), b"{}", 0.1)
        async with listening(gone) as port:
            with pytest.raises(Reset, match="EOF"):
                await caller(at(port), b"{}", 5.0)


async def test_tst1_an_http_front_brings_a_caller_and_takes_it_away():
    server = ApiServer(SystemClock(), Random(1))
    hook = {
        "name": "a.example.com",
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "resources": ["configmaps"], "operations": ["*"]}],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }

    async def allow(request):
        review = json.loads(await request.read())
        response = {"uid": review["request"]["uid"], "allowed": True, "warnings": [review["request"]["namespace"]]}
        return web.json_response({**review, "response": response})

    async with listening(allow) as port:
        config = {"url": f"https://127.0.0.1:{port}/a", "caBundle": base64.b64encode(CERTIFICATES.authority).decode()}
        server.create(MUTATING, {"metadata": {"name": "m"}, "webhooks": [{**hook, "clientConfig": config}]})
        assert server.caller is nobody
        async with HttpFront(server):
            body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
            await server.ask("POST", "/api/v1/namespaces/default/configmaps", body)
            assert server.log.calls[-1].warnings == ["default"]
        assert server.caller is nobody
