"""Webhooks as they run in a cluster: called through a Service, with a certificate of our own or of somebody else."""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.cluster.api import ApiCallError
from kruise.runtime.webhook.certs import DAY, CertificateRules, Keyring, successor
from tests.e2e.harness import service
from tests.e2e.harness.manager import USER_AGENT, ManagerProcess, get
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.sidecars import containers, pod, sidecarset
from tests.e2e.harness.webhooks import DRY_PODS, HOST, SECRET, Load
from tests.e2e.harness.world import MERGE, NAMESPACE, World, until
from tests.integration.real_cluster import need_binaries

pytestmark = pytest.mark.real

Body = dict[str, Any]
ALPHA, BETA = "/apis/apps.kruise.io/v1alpha1", "/apis/apps.kruise.io/v1beta1"
RIGHTS = (
    "/apis/rbac.authorization.k8s.io/v1/clusterroles/kruise-webhook-certificates",
    f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/kruise-webhook-certificates",
)


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """An API server that dials the endpoints of a Service, with everything that is shipped for the webhooks."""
    if problem := need_binaries():
        pytest.skip(f"no control plane: {problem}")
    if service.address() is None:
        pytest.skip("this machine has no address but loopback, and an endpoint of a Service may not be loopback")
    world = World(tmp_path_factory.mktemp("routed"), nodes=0, options=service.OPTIONS).start()
    try:
        service.install(world)
        yield world
    finally:
        world.stop()


@pytest.fixture
def behind(routed: World) -> Iterator[Callable[..., ManagerProcess]]:
    """Start a manager without ``WEBHOOK_HOST``, and let the Service lead to it."""
    started: list[ManagerProcess] = []

    def start(*flags: str, **env: str) -> ManagerProcess:
        manager = routed.manager(*flags, webhooks=True, env={"WEBHOOK_HOST": "", **env})
        started.append(manager)
        service.lead_to(routed, str(service.address()), manager.webhook_port)
        return manager.start()

    try:
        yield start
        for one in routed.call("GET", f"{BETA}/sidecarsets")["items"]:
            routed.call("DELETE", f"{BETA}/sidecarsets/{one['metadata']['name']}")
        for manager in started:
            manager.stop()
    finally:
        for manager in started:
            manager.kill()


def works(world: World, name: str) -> None:
    """See defaults, a refusal, a conversion and an injection by the API server, through the Service."""
    body = sidecarset(name, app=name, version="v1alpha1", namespace="default")
    body["metadata"]["labels"] = {"apps.kruise.io/sidecarset-custom-version": "v1"}
    # The API server learns of endpoints and bundles a moment after they are written.
    until(lambda: world.cluster.api.ask("POST", f"{ALPHA}/sidecarsets?dryRun=All", body)[0] == 201, 30.0, "it is asked")
    made = world.call("POST", f"{ALPHA}/sidecarsets", body)
    assert made["metadata"]["annotations"]["kruise.io/sidecarset-hash"]
    assert made["spec"]["containers"][0]["podInjectPolicy"] == "BeforeAppContainer"
    stored = world.call("GET", f"{BETA}/sidecarsets/{name}")
    assert stored["spec"]["customVersion"] == "v1" and "namespace" not in stored["spec"]
    read = world.call("GET", f"{ALPHA}/sidecarsets/{name}")
    assert read["metadata"]["labels"] == body["metadata"]["labels"]
    with pytest.raises(ApiCallError, match=r"spec\.selector"):
        world.call("POST", f"{BETA}/sidecarsets", sidecarset("bad", selector={"matchLabels": {}}))

    def injected() -> bool:
        code, raw = world.cluster.api.ask("POST", DRY_PODS, pod("one", name))
        assert code == 201, raw
        return containers(json.loads(raw)) == ["mesh", "main"]

    until(injected, 30.0, "a pod gets its sidecar")


def served(port: int) -> str:
    """Return the certificate that a manager serves."""
    return ssl.get_server_certificate((HOST, port), timeout=10.0)


def readiness(manager: ManagerProcess) -> str:
    """Return what ``/readyz`` tells."""
    return get(manager.health_port, "/readyz?verbose")[1]


def written(world: World, mark: int) -> list[str]:
    """Return what managers have written since *mark* to whatever says how they are called."""
    places = (
        "secrets",
        "customresourcedefinitions",
        "mutatingwebhookconfigurations",
        "validatingwebhookconfigurations",
    )
    audit = world.cluster.audit
    return [one.what for one in audit.entries(USER_AGENT, since=mark) if one.writes and one.resource in places]


@contextlib.contextmanager
def under_load(world: World, app: str) -> Iterator[Load]:
    """Create pods again and again; none of them may be refused, or miss its sidecar."""
    load = Load(world, pod("load", app), "mesh", threads=2).start()
    try:
        yield load
    finally:
        load.stop()
    assert load.took
    assert not load.failures, f"{len(load.failures)} of {len(load.took)} failed: {load.failures[:3]}"


@pytest.mark.timeout(300)
def test_crt2_through_the_service_with_an_authority_of_our_own(
    routed: World, behind: Callable[..., ManagerProcess]
) -> None:
    shipped = service.client_configs(routed)
    manager = behind().wait_ready().wait_leading()
    live = service.client_configs(routed)
    bundle = routed.call("GET", SECRET)["data"]["ca.crt"]
    assert live == {place: {**config, "caBundle": bundle} for place, config in shipped.items()}
    assert all(config["service"]["name"] == service.SERVICE and "url" not in config for config in live.values())
    works(routed, "own")

    # What is stored is about to end. The leader makes the next one within a minute, and no admission fails.
    before, mark = served(manager.webhook_port), routed.cluster.audit.mark()
    with under_load(routed, "own") as load:
        data = routed.call("GET", SECRET)["data"]
        ring = Keyring.read({name: base64.b64decode(value) for name, value in data.items()})
        old = CertificateRules((*service.HOSTS, "old.example.com"), lifetime=20 * DAY)
        aged, news = successor(ring, old, now=time.time(), published=False)
        assert news, "it differs by a host"
        fields = {name: base64.b64encode(value).decode() for name, value in aged.data().items()}
        routed.call("PATCH", SECRET, {"data": fields}, content_type=MERGE)
        manager.until(lambda: served(manager.webhook_port) != before, 90.0, "the new certificate is served")
        time.sleep(1.0)
    assert service.client_configs(routed) == live, "the authority is the same"
    assert written(routed, mark) == ["patch secrets"]
    works(routed, "later")
    REPORT.add("webhooks through a Service, certificate renewed under load", admissions=len(load.took), failures=0)


@pytest.mark.timeout(300)
def test_crt5_through_the_service_with_a_certificate_of_somebody_else(
    routed: World, behind: Callable[..., ManagerProcess], tmp_path: Path
) -> None:
    """cert-manager's layout and order: files that are links, a bundle that somebody else writes, no right to write."""
    rules = CertificateRules(service.HOSTS)
    theirs = successor(None, rules, now=time.time(), published=False)[0]
    files = service.Mounted(tmp_path / "certs")
    rights = {path: routed.call("GET", path)["rules"] for path in RIGHTS}
    try:
        # What components/cert-manager leaves.
        for path in RIGHTS:
            left = [{**rule, "verbs": ["get"]} for rule in rights[path] if rule["resources"] != ["secrets"]]
            routed.call("PATCH", path, {"rules": left}, content_type=MERGE)
        foreign = successor(None, rules, now=time.time(), published=False)[0]
        service.inject_bundle(routed, foreign.signer.certificate)
        secret, mark = routed.call("GET", SECRET), routed.cluster.audit.mark()
        manager = behind("--feature-gates=EnableExternalCerts=true", WEBHOOK_CERT_DIR=str(files.folder))
        time.sleep(2.0)
        files.put(theirs)  # a Secret may come after the pod that mounts it
        manager.wait_leading()
        manager.until(lambda: "does not trust the certificate" in readiness(manager), 30.0, "WEB7: it is not trusted")
        service.inject_bundle(routed, theirs.signer.certificate)
        manager.wait_ready(15.0)
        assert served(manager.webhook_port).split() == theirs.leaf.certificate.decode().split()
        works(routed, "external")

        with under_load(routed, "external") as load:
            follows = successor(None, rules, now=time.time(), published=False)[0]
            both = theirs.signer.certificate + follows.signer.certificate
            service.inject_bundle(routed, both)
            # A pair whose parts do not fit: the last good one stays.
            files.put(follows, tls_key=theirs.leaf.key)
            manager.until(
                lambda: manager.metrics()["certwatcher_read_certificate_errors_total"] > 0, 30.0, "the pair is refused"
            )
            assert served(manager.webhook_port).split() == theirs.leaf.certificate.decode().split()
            files.put(follows)
            new = follows.leaf.certificate.decode().split()
            manager.until(lambda: served(manager.webhook_port).split() == new, 30.0, "the new pair is served")
        # Connections that are up keep theirs; after a new one the old authority is needed no more.
        service.inject_bundle(routed, follows.signer.certificate)
        works(routed, "replaced")
        assert {base64.b64decode(one["caBundle"]) for one in service.client_configs(routed).values()} == {
            follows.signer.certificate
        }
        assert readiness(manager).endswith("readyz check passed\n")
        assert written(routed, mark) == [] and routed.call("GET", SECRET) == secret
        assert not manager.said("Forbidden") and not manager.said("Traceback")
        REPORT.add("webhooks with files of somebody else, replaced under load", admissions=len(load.took), failures=0)
    finally:
        for path, rules_before in rights.items():
            routed.call("PATCH", path, {"rules": rules_before}, content_type=MERGE)
