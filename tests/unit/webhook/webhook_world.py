"""An embedded API server with our configurations, replicas that keep their certificates, and a caller that verifies."""

from __future__ import annotations

import base64
import datetime
from typing import Any

from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from kruise.runtime.client.client import Client
from kruise.runtime.client.rest import Rest
from kruise.runtime.clock import UTC, Clock, Random
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock
from kruise.runtime.webhook.certs import CertificateRules, Keyring
from kruise.runtime.webhook.keeper import CertificateKeeper
from kruise.runtime.webhook.stores import SecretStore
from kruise.runtime.webhook.targets import Reach, Target, TargetKind, Targets
from kruise.simulator.apiserver.server import ApiServer

NAMESPACE = "kruise-system"
HOST = f"kruise-webhook-service.{NAMESPACE}.svc"
SECRET = "kruise-webhook-certs"
NAME = "kruise-webhook"
CRD = "webs.example.com"
MUTATING = "mutatingwebhookconfigurations.admissionregistration.k8s.io"
VALIDATING = "validatingwebhookconfigurations.admissionregistration.k8s.io"
DEFINITIONS = "customresourcedefinitions.apiextensions.k8s.io"
TARGETS = (Target(TargetKind.MUTATING, NAME), Target(TargetKind.VALIDATING, NAME), Target(TargetKind.CONVERSION, CRD))


def webhook(name: str, path: str, **more: Any) -> dict[str, Any]:
    return {
        "name": name,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": {"namespace": NAMESPACE, "name": "kruise-webhook-service", "path": path}},
        **more,
    }


def definition() -> dict[str, Any]:
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    service = {"namespace": NAMESPACE, "name": "kruise-webhook-service", "path": "/convert"}
    return {
        "metadata": {"name": CRD},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "webs", "singular": "web", "kind": "Web", "listKind": "WebList"},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
            "conversion": {
                "strategy": "Webhook",
                "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"service": service}},
            },
        },
    }


class World:
    """The API server, and what an install of ours has put there."""

    def __init__(self, clock: VirtualClock, *, secret: bool = True, configurations: bool = True) -> None:
        self.clock = clock
        self.server = ApiServer(clock, Random(1))
        self.server.ensure_namespace(NAMESPACE)
        if secret:
            self.server.create("secrets", {"metadata": {"name": SECRET, "namespace": NAMESPACE}, "type": "Opaque"})
        if configurations:
            self.server.create(
                MUTATING,
                {
                    "metadata": {"name": NAME},
                    "webhooks": [webhook("a.x.io", "/mutate-a"), webhook("b.x.io", "/mutate-b")],
                },
            )
            self.server.create(
                VALIDATING,
                {"metadata": {"name": NAME}, "webhooks": [webhook("a.x.io", "/validate-a")]},
            )
            self.server.create(DEFINITIONS, definition())
        self.server.create(
            MUTATING,
            {"metadata": {"name": "of-others"}, "webhooks": [webhook("a.y.io", "/mutate-a")]},
        )

    def client(self, name: str) -> Client:
        metrics = Metrics(process=False)
        rest = Rest(self.server.transport(name), clock=self.clock, rng=Random(2), metrics=metrics)
        return Client(rest, metrics=metrics, clock=self.clock)

    def keeper(
        self,
        name: str,
        *,
        leads: bool = True,
        rules: CertificateRules | None = None,
        reach: Reach | None = None,
        targets: tuple[Target, ...] = TARGETS,
        clock: Clock | None = None,
        **more: Any,
    ) -> CertificateKeeper:
        client = self.client(name)
        return CertificateKeeper(
            SecretStore(client, NAMESPACE, SECRET),
            Targets(client, targets, reach or Reach(NAMESPACE, "kruise-webhook-service")),
            rules or CertificateRules((HOST,)),
            clock=clock or self.clock,
            rng=Random(3),
            metrics=Metrics(process=False),
            leading=lambda: leads,
            **more,
        )

    def secret(self) -> dict[str, bytes]:
        found = self.server.get("secrets", SECRET, NAMESPACE)
        assert found is not None
        return {name: base64.b64decode(value) for name, value in (found.get("data") or {}).items()}

    def ring(self) -> Keyring:
        return Keyring.read(self.secret())

    def configs(self) -> list[dict[str, Any]]:
        """Return every clientConfig of ours as it is stored."""
        found: list[dict[str, Any]] = []
        for resource in (MUTATING, VALIDATING):
            stored = self.server.get(resource, NAME)
            assert stored is not None
            found += [one["clientConfig"] for one in stored["webhooks"]]
        crd = self.server.get(DEFINITIONS, CRD)
        assert crd is not None
        return [*found, crd["spec"]["conversion"]["webhook"]["clientConfig"]]

    def bundles(self) -> list[bytes]:
        return [base64.b64decode(one.get("caBundle") or "") for one in self.configs()]


def trusted(leaf: bytes, bundle: bytes, now: float, host: str = HOST) -> str | None:
    """Verify *leaf* as a client would at *now*; return what is wrong."""
    try:
        store = Store(x509.load_pem_x509_certificates(bundle))
        verifier = PolicyBuilder().store(store).time(datetime.datetime.fromtimestamp(now, UTC).replace(tzinfo=None))
        verifier.build_server_verifier(x509.DNSName(host)).verify(x509.load_pem_x509_certificate(leaf), [])
    except (VerificationError, ValueError) as error:
        return str(error)
    return None
