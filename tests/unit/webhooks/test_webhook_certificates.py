"""Where the certificate comes from by the options, and who is told whom to trust: exactly what is ours."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import dataclasses
import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from hack.kustomize_yaml import load
from kruise import app
from kruise.config import parse_options
from kruise.features import resolve
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.certs import self_signed
from kruise.runtime.manager.manager import Manager
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.simulator.apiserver.server import ApiServer
from kruise.webhooks.certificates import FAIL, MUTATING, VALIDATING, hosts, reach, source, targets
from tests.unit.webhooks.test_webhook_setup import mesh
from tests.unit.webhooks.webhooks_world import HEADERS, JSON, OWN, Denying, options, review

CONFIG: Final = Path(__file__).parents[3] / "config"
MUTATINGS = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATINGS = "validatingwebhookconfigurations.admissionregistration.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
SECRET = "kruise-webhook-certs"
KINDS = app.KINDS


def manifests() -> Iterator[JSON]:
    for name in ("mutating", "validating", "secret"):
        yield from load(CONFIG / "webhook" / f"{name}.yaml")
    for path in sorted((CONFIG / "crd" / "bases").glob("*.yaml")):
        (one,) = load(path)
        if "broadcast" not in path.name:
            service = {"namespace": OWN, "name": "kruise-webhook-service", "path": "/convert", "port": 443}
            webhook = {"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}}
            one["spec"]["conversion"] = {"strategy": "Webhook", "webhook": webhook}
        yield one


PLURALS = {
    "MutatingWebhookConfiguration": MUTATINGS,
    "ValidatingWebhookConfiguration": VALIDATINGS,
    "CustomResourceDefinition": DEFINITIONS,
    "Secret": "secrets",
}


def cluster(clock: Any, *, without: str = "") -> ApiServer:
    """An API server with what config/default ships, and with a configuration of somebody else."""
    server = ApiServer(clock, Random(1))
    server.ensure_namespace(OWN)
    for one in manifests():
        if one["kind"] != without:
            server.create(PLURALS[one["kind"]], one)
    theirs = {"name": "theirs.x.io", "admissionReviewVersions": ["v1"], "sideEffects": "None"}
    theirs["clientConfig"] = {"service": {"namespace": OWN, "name": "kruise-webhook-service", "path": "/mutate-pod"}}
    server.create(MUTATINGS, {"metadata": {"name": "somebody-elses"}, "webhooks": [theirs]})
    return server


def made(server: ApiServer, clock: Any, **settings: Any) -> tuple[Manager, CertificateKeeper]:
    settings.setdefault("webhook_initialize_timeout", 5.0)
    wrap = settings.pop("wrap", lambda transport: transport)
    chosen = options(**settings)
    manager = app.build(
        wrap(server.transport("kruise-manager")),
        chosen,
        clock=clock,
        rng=Random(2),
        metrics=Metrics(process=False),
        certificates=False,
    )
    found = source(manager, chosen, clock=clock, rng=Random(3), kinds=KINDS)
    assert found.keeper is not None
    return manager, found.keeper


def configs(server: ApiServer) -> dict[str, JSON]:
    """Each clientConfig that calls somebody, by where it stands."""
    found = {}
    for plural in (MUTATINGS, VALIDATINGS):
        for one in server.list(plural):
            for hook in one["webhooks"]:
                found[f"{one['metadata']['name']}/{hook['name']}"] = hook["clientConfig"]
    for one in server.list(DEFINITIONS):
        webhook = one["spec"].get("conversion", {}).get("webhook")
        if webhook:
            found[one["metadata"]["name"]] = webhook["clientConfig"]
    return found


def test_crt2_a_bundle_goes_into_exactly_ours_and_drift_is_put_right() -> None:
    async def main(clock: VirtualClock) -> None:
        server = cluster(clock)
        before = configs(server)
        _, keeper = made(server, clock)
        await keeper.set_up()
        after = configs(server)
        changed = {place for place in after if after[place] != before[place]}
        assert changed == {place for place in after if not place.startswith("somebody-elses")}
        bundles = {config["caBundle"] for place, config in after.items() if place in changed}
        assert len(bundles) == 1
        for place in changed:  # the way to us stays what it was
            assert after[place]["service"].items() >= before[place]["service"].items()
        assert configs(server)["somebody-elses/theirs.x.io"] == before["somebody-elses/theirs.x.io"]
        server.edit(MUTATINGS, MUTATING, lambda body: body["webhooks"][1]["clientConfig"].pop("caBundle"))
        server.delete(VALIDATINGS, VALIDATING)
        await keeper.look()
        assert keeper.seen.problems == (f"ValidatingWebhookConfiguration {VALIDATING} is not there",)
        server.create(VALIDATINGS, next(one for one in manifests() if one["kind"].startswith("Validating")))
        server.patch(DEFINITIONS, "sidecarsets.apps.kruise.io", {"spec": {"conversion": _conversion("")}})
        manager_leads(keeper)
        await keeper.look()
        assert keeper.seen.right
        assert {place for place, config in configs(server).items() if config.get("caBundle") in bundles} == changed

    run_virtual(main, seed=1)


def manager_leads(keeper: CertificateKeeper) -> None:
    """Let the replica write: nobody holds a lease here."""
    keeper._leading = lambda: True


def _conversion(bundle: str) -> JSON:
    service = {"namespace": OWN, "name": "kruise-webhook-service", "path": "/convert", "port": 443}
    return {"webhook": {"clientConfig": {"service": service, "caBundle": bundle or None}}}


def test_with_a_host_everything_points_there_under_its_own_path() -> None:
    async def main(clock: VirtualClock) -> None:
        server = cluster(clock)
        _, keeper = made(server, clock, webhook_host="laptop.example", webhook_port=19443)
        await keeper.set_up()
        found = {place: config for place, config in configs(server).items() if not place.startswith("somebody")}
        assert all(config.keys() == {"url", "caBundle"} for config in found.values())
        assert found[f"{MUTATING}/mpod.kb.io"]["url"] == "https://laptop.example:19443/mutate-pod"
        assert found["sidecarsets.apps.kruise.io"]["url"] == "https://laptop.example:19443/convert"
        assert found[f"{VALIDATING}/vstatefulset.kb.io"]["url"].endswith("/validate-apps-kruise-io-statefulset")
        _, back = made(server, clock)  # a manager in the cluster takes them back
        await back.set_up()
        found = {place: config for place, config in configs(server).items() if not place.startswith("somebody")}
        assert all(config.keys() == {"service", "caBundle"} for config in found.values())
        assert found["sidecarsets.apps.kruise.io"]["service"]["path"] == "/convert"

    run_virtual(main, seed=1)


def test_a_restart_keeps_the_certificate() -> None:
    async def main(clock: VirtualClock) -> None:
        server = cluster(clock)
        _, first = made(server, clock)
        await first.set_up()
        log = len(server.log)
        _, second = made(server, clock)
        await second.set_up()
        assert second.pair == first.pair
        assert not [call for call in list(server.log)[log:] if call.method != "GET"]

    run_virtual(main, seed=1)


@pytest.mark.parametrize("missing", ["MutatingWebhookConfiguration", "CustomResourceDefinition"])
def test_crt6_what_is_not_installed_is_named(missing: str) -> None:
    async def main(clock: VirtualClock) -> None:
        _, keeper = made(cluster(clock, without=missing), clock)
        with pytest.raises(ConfigError, match=f"--webhook-initialize-timeout=5s: .*{missing} .* is not there"):
            await keeper.set_up()

    run_virtual(main, seed=1)


@pytest.mark.parametrize(
    ("resource", "rule"),
    [
        (
            "secrets",
            r"in namespace kruise-system: \{apiGroups: \[\"\"\], resources: \[\"secrets\"\], verbs: \[\"get\"\]",
        ),
        (
            "mutatingwebhookconfigurations",
            r"ClusterRole: \{apiGroups: \[\"admissionr.*resources: \[\"mutatingweb.*\"\], verbs: \[\"patch\"\]",
        ),
        (
            "customresourcedefinitions",
            r"ClusterRole: \{apiGroups: \[\"apiextensions.*resources: \[\"customres.*\"\], verbs: \[\"patch\"\]",
        ),
    ],
)
def test_crt6_a_permission_that_is_missing_is_named_with_the_rule_to_add(resource: str, rule: str) -> None:
    async def main(clock: VirtualClock) -> None:
        verb = "get" if resource == "secrets" else "patch"
        _, keeper = made(cluster(clock), clock, wrap=lambda inner: Denying(inner, resource, verb))
        with pytest.raises(ConfigError, match=rule):
            await keeper.set_up()

    run_virtual(main, seed=1)


def test_the_names_of_the_certificate_are_those_that_the_api_server_calls() -> None:
    assert hosts(options()) == (
        "kruise-webhook-service.kruise-system.svc",
        "kruise-webhook-service.kruise-system",
        "kruise-webhook-service.kruise-system.svc.cluster.local",
    )
    named = options(webhook_host="10.0.0.1", webhook_service_name="s", pod_namespace="n")
    assert hosts(named)[0] == "10.0.0.1"
    assert "s.n.svc" in hosts(named)
    assert reach(named).url == "https://10.0.0.1:9876"
    assert reach(options(webhook_host="[fd00::1]")).url == "https://[fd00::1]:9876"
    assert hosts(options(webhook_host="fd00::1"))[0] == "fd00::1"
    assert reach(options()).url == ""


def test_only_definitions_of_enabled_kinds_are_written() -> None:
    assert [str(one) for one in targets(("StatefulSet",))] == [
        f"MutatingWebhookConfiguration {MUTATING}",
        f"ValidatingWebhookConfiguration {VALIDATING}",
        f"MutatingWebhookConfiguration {FAIL}",
        "CustomResourceDefinition statefulsets.apps.kruise.io",
    ]


def test_crt2_a_directory_in_the_place_of_the_secret(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        server = cluster(clock)
        _, keeper = made(server, clock, webhook_cert_writer="fs", webhook_cert_path=str(tmp_path / "certs"))
        await keeper.set_up()
        assert not server.get("secrets", SECRET, OWN).get("data")  # type: ignore[union-attr]
        assert sorted(path.name for path in (tmp_path / "certs").iterdir()) == [
            "ca.crt",
            "ca.key",
            "tls.crt",
            "tls.key",
        ]

    run_virtual(main, seed=1)


def test_crt5_files_of_others_are_read_and_nothing_is_written(tmp_path: Path) -> None:
    async def main(clock: VirtualClock) -> None:
        server = cluster(clock)
        gates = resolve([("EnableExternalCerts", True)], {})[0]
        chosen = options(gates=gates, webhook_cert_path=str(tmp_path), webhook_initialize_timeout=3.0)
        manager = app.build(
            server.transport("kruise-manager"), chosen, clock=clock, rng=Random(2), metrics=Metrics(process=False)
        )
        found = source(manager, chosen, clock=clock, rng=Random(3), kinds=KINDS)
        assert found.keeper is None
        before = configs(server)
        with pytest.raises(ConfigError, match="--webhook-cert-path"):
            await found.certificate()
        pair = self_signed([hosts(chosen)[0]], now=clock.now())
        (tmp_path / "tls.crt").write_bytes(pair.certificate)
        (tmp_path / "tls.key").write_bytes(pair.key)
        assert (await found.certificate()).check() is None
        assert configs(server) == before

    run_virtual(main, seed=1)


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--webhook-port=0"], "--webhook-port=0: want a port from 1 to 65535"),
        (["--webhook-port=8080"], "--webhook-port=8080: the port is taken by --metrics-addr=:8080"),
        (["--webhook-initialize-timeout=0s"], "--webhook-initialize-timeout=0s: want at least 1s"),
    ],
)
def test_cfg5_options_that_cannot_work_are_named(argv: list[str], said: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_options(argv, {})
    assert said in str(refused.value)
    parse_options(["--webhook-port=8080", "--disable-webhooks"], {})


@pytest.mark.parametrize("host", ["https://x", "x/y", "x:80", "a b", "u@x"])
def test_cfg5_a_host_is_a_host(host: str) -> None:
    with pytest.raises(ConfigError, match=r"WEBHOOK_HOST=.*: want a host alone"):
        parse_options([], {"WEBHOOK_HOST": host})


@pytest.mark.parametrize("host", ["x", "10.0.0.1", "fd00::1", "[fd00::1]", "a.example.com"])
def test_cfg5_a_host_that_can_be_called(host: str) -> None:
    assert parse_options([], {"WEBHOOK_HOST": host})[0].webhook_host == host


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


async def over_tls(port: int, bundle: str, path: str, body: bytes) -> tuple[int, JSON]:
    """Ask as an API server does that was told *bundle*."""
    context = ssl.create_default_context(cadata=base64.b64decode(bundle).decode())
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="127.0.0.1")
    try:
        head = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
        writer.write(f"{head}\r\n".encode() + body)
        lines = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        length = next(int(line.split(":")[1]) for line in lines if line.lower().startswith("content-length"))
        return int(lines[0].split()[1]), json.loads(await reader.readexactly(length))
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


async def test_web7_the_program_serves_what_the_configurations_trust_and_is_ready_then() -> None:
    clock, port = SystemClock(), free_port()
    server = cluster(clock)
    chosen = options(webhook_host="127.0.0.1", webhook_port=port, graceful_shutdown_timeout=5.0)
    metrics = Metrics(process=False)
    manager = app.build(server.transport("kruise-manager"), chosen, clock=clock, rng=Random(2), metrics=metrics)
    manager.options = dataclasses.replace(manager.options, freeze_heap=False)
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(manager.run())
        async with asyncio.timeout(20):
            while not manager.health.ready.all().ok:
                await asyncio.sleep(0.02)
        config = configs(server)[f"{MUTATING}/msidecarset.kb.io"]
        status, answer = await over_tls(
            port, config["caBundle"], config["url"].partition(str(port))[2], review(mesh(), plural="sidecarsets")
        )
        assert (status, answer["response"]["allowed"]) == (200, True)
        manager.stop()
        await task
