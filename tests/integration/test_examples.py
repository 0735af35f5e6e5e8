"""The examples, as processes, against the embedded API server over HTTP and against the real one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from kruise.runtime import Invalid, Key, NotFound, Object, PartialObject, Resource
from kruise.runtime.manager.lease import LEASES
from kruise.runtime.testing import eventually
from tests.integration.conftest import Target

ROOT = Path(__file__).resolve().parents[2]
AGENT = "configmap-copier/1"
WANTS = "example.org/wants-config"
COPY = "example.org/copied-from-default"


class ConfigMap(Object, frozen=True):
    data: dict[str, str] = msgspec.field(default_factory=dict)


CONFIGMAPS = Resource("", "v1", "ConfigMap", "configmaps", ConfigMap)
NAMESPACES = Resource("", "v1", "Namespace", "namespaces", PartialObject, namespaced=False)
PODS = Resource("", "v1", "Pod", "pods", PartialObject)


@asynccontextmanager
async def running(target: Target, log: Path, *args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Run an example, and end it with Ctrl-C."""
    with log.open("wb") as out:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *args,
            cwd=ROOT / "examples",
            env={**os.environ, "PYTHONPATH": str(ROOT), "KUBECONFIG": str(target.kubeconfig)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=out,
            stderr=asyncio.subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGINT)
                async with asyncio.timeout(20):
                    await process.wait()


async def get(target: Target, key: Key) -> ConfigMap | None:
    try:
        return await target.client.live.get(CONFIGMAPS, key)
    except NotFound:
        return None


def has(target: Target, key: Key, data: dict[str, str] | None) -> Callable[[], Awaitable[bool]]:
    async def check() -> bool:
        found = await get(target, key)
        return (found.data if found is not None else None) == data

    return check


async def label(target: Target, namespace: str, value: str | None) -> None:
    patch = {"metadata": {"labels": {WANTS: value}}}
    await target.client.mutate(NAMESPACES, Key("", namespace), lambda _: patch)


async def test_the_copier_copies_follows_and_cleans_up(target: Target, tmp_path: Path) -> None:
    client, clock = target.client, target.clock
    for name, labels in (("team-a", {WANTS: "settings"}), ("team-b", {}), ("team-c", {WANTS: "settings"})):
        await client.create(NAMESPACES, {"metadata": {"name": name, "labels": labels}})
    own = {"metadata": {"name": "settings", "namespace": "team-c"}, "data": {"colour": "ours"}}
    await client.create(CONFIGMAPS, own)
    original = Key("default", "settings")
    content = {"colour": "green", "size": "4"}
    await client.create(CONFIGMAPS, {"metadata": {"name": "settings", "namespace": "default"}, "data": content})
    a, b, c = (Key(f"team-{x}", "settings") for x in "abc")
    log = tmp_path / "copier.log"
    try:
        async with running(target, log, "01_configmap_copier.py") as process:
            await eventually(has(target, a, content), clock, 30, what="the first copy")
            copied = await get(target, a)
            assert copied is not None
            assert copied.metadata.labels[COPY] == "true"

            edit: dict[str, Any] = {"data": {"colour": "red", "size": None}}
            await client.mutate(CONFIGMAPS, original, lambda _: edit)
            await eventually(has(target, a, {"colour": "red"}), clock, 20, what="the copy of the edit")
            await label(target, "team-b", "settings")
            await eventually(has(target, b, {"colour": "red"}), clock, 20, what="the copy for the new label")
            await client.delete(CONFIGMAPS, await client.live.get(CONFIGMAPS, b))
            await eventually(has(target, b, {"colour": "red"}), clock, 20, what="the copy that somebody deleted")
            await label(target, "team-a", None)
            await eventually(has(target, a, None), clock, 20, what="no copy without the label")
            await client.delete(CONFIGMAPS, await client.live.get(CONFIGMAPS, original))
            await eventually(has(target, b, None), clock, 20, what="no copy without an original")
            assert await has(target, c, {"colour": "ours"})()
            assert "no copy of ours" in log.read_text()

            process.terminate()
            async with asyncio.timeout(20):
                assert await process.wait() == 0, log.read_text()
    finally:
        await clean_up(target, "team-a", "team-b", "team-c")
    lease = await client.live.get(LEASES, Key("default", "configmap-copier"))
    assert not lease.spec.holder_identity, "an orderly stop gives the lease back"
    # Not one write too many, and no conflict of its own making.
    assert target.writes(AGENT) == [
        "create configmaps settings 201",
        "patch configmaps settings 200",
        "create configmaps settings 201",
        "create configmaps settings 201",
        "delete configmaps settings 200",
        "delete configmaps settings 200",
    ]


async def test_the_watcher_tells_of_pods_without_a_manager(target: Target, tmp_path: Path) -> None:
    client, clock = target.client, target.clock
    spec = {"nodeName": "nowhere", "containers": [{"name": "c", "image": "example.org/c:1"}]}
    log = tmp_path / "watch.log"

    def told(*words: str) -> Callable[[], bool]:
        return lambda: any(line.split()[: len(words)] == list(words) for line in log.read_text().splitlines())

    await client.create(PODS, {"metadata": {"name": "before", "namespace": "default"}, "spec": spec})
    try:
        async with running(target, log, "02_watch_pods.py", "default") as process:
            await eventually(told("seen", "default/before", "Pending"), clock, 30)
            await eventually(told("1", "pods;"), clock, 10)
            await client.create(PODS, {"metadata": {"name": "after", "namespace": "default"}, "spec": spec})
            await eventually(told("new", "default/after", "Pending"), clock, 10)
            await delete_pod(target, "after")
            await eventually(told("gone", "default/after"), clock, 10)
            process.send_signal(signal.SIGINT)
            async with asyncio.timeout(20):
                assert await process.wait() == 0, log.read_text()
    finally:
        await delete_pod(target, "before")
    assert "Traceback" not in log.read_text()
    assert not target.writes("watch-pods/1")


async def delete_pod(target: Target, name: str) -> None:
    """Delete a pod at once: its node does not exist, so nobody would end it gracefully."""
    body = msgspec.json.encode({"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0})
    with contextlib.suppress(NotFound):
        await target.client._rest.call("delete", "DELETE", PODS, namespace="default", name=name, body=body)


async def clean_up(target: Target, *namespaces: str) -> None:
    for name in namespaces:
        with contextlib.suppress(NotFound):
            await target.client.delete(NAMESPACES, await target.client.live.get(NAMESPACES, Key("", name)))
    original = await get(target, Key("default", "settings"))
    if original is not None:
        await target.client.delete(CONFIGMAPS, original)


WEBHOOK = "03_settings_webhook"


async def test_web4_web5_a_webhook_of_a_users_own_completes_and_checks(target: Target, tmp_path: Path) -> None:
    client, clock = target.client, target.clock
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path / "webhook.log"
    manifest = (ROOT / "examples" / f"{WEBHOOK}.yaml").read_text()
    configurations = [*yaml.safe_load_all(manifest)]
    resources = {f"{kind}WebhookConfiguration": _configurations(kind) for kind in ("Mutating", "Validating")}

    async def trusted() -> bool:
        found = [await client.live.get(r, Key("", "settings.example.org")) for r in resources.values()]
        listens = "listening" in await asyncio.to_thread(log.read_text)
        return listens and all(one.webhooks[0]["clientConfig"].get("caBundle") for one in found)

    async def create(name: str, **data: str) -> ConfigMap:
        meta = {"name": name, "namespace": "default", "labels": {"example.org/settings": "true"}}
        await client.create(CONFIGMAPS, {"metadata": meta, "data": data})
        return await client.live.get(CONFIGMAPS, Key("default", name))

    for one in configurations:
        await client.create(resources[one["kind"]], {"metadata": one["metadata"], "webhooks": one["webhooks"]})
    try:
        async with running(target, log, f"{WEBHOOK}.py", str(port)) as process:
            await eventually(trusted, clock, 30, what="a webhook that the API server can call")
            good = await create("good", size="big")
            assert good.data == {"replicas": "1", "colour": "green", "size": "big"}
            with pytest.raises(Invalid, match=r"data\.replicas: 'many' is no number"):
                await create("bad", replicas="many")
            with pytest.raises(Invalid, match="the colour is chosen once"):
                await client.mutate(CONFIGMAPS, good.key, lambda _: {"data": {"colour": "red"}})
            await client.mutate(CONFIGMAPS, good.key, lambda _: {"data": {"replicas": "3"}})
            assert (await client.live.get(CONFIGMAPS, good.key)).data["replicas"] == "3"
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(20):
                assert await process.wait() == 0, log.read_text()
    finally:
        for resource in resources.values():
            await client.delete(resource, await client.live.get(resource, Key("", "settings.example.org")))
        with contextlib.suppress(NotFound):
            await client.delete(CONFIGMAPS, await client.live.get(CONFIGMAPS, Key("default", "good")))
    assert "Traceback" not in log.read_text()


class Configuration(Object, frozen=True):
    webhooks: list[dict[str, Any]] = msgspec.field(default_factory=list)


def _configurations(kind: str) -> Resource[Configuration]:
    plural = f"{kind.lower()}webhookconfigurations"
    return Resource(
        "admissionregistration.k8s.io", "v1", f"{kind}WebhookConfiguration", plural, Configuration, namespaced=False
    )
