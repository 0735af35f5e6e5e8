"""Webhooks behind a Service, as they are shipped: an API server that finds the endpoints of a Service by itself.

Purpose: what stands between the API server and a manager in a cluster, without a cluster's network: the Service of
``config/webhook``, and an EndpointSlice that leads to a process of this machine.

Guarantees: the API server resolves the Service itself (``--enable-aggregator-routing``), so neither kube-proxy nor DNS
is needed. An endpoint may not be loopback: :func:`address` is one of the machine's other addresses.

What this does not do: it starts no manager, and makes no certificate of a manager's own.
"""

from __future__ import annotations

import base64
import contextlib
import fcntl
import socket
import struct
from pathlib import Path
from typing import Any, Final

from hack.cluster import ROOT, Options
from hack.cluster.components import CONTROLLER_MANAGER, SCHEDULER
from hack.kustomize import render
from kruise.runtime.webhook.certs import Keyring
from tests.e2e.harness.webhooks import DEFINITIONS, MUTATING, VALIDATING
from tests.e2e.harness.world import JSON, NAMESPACE, World

Body = dict[str, Any]

SERVICE: Final = "kruise-webhook-service"
HOSTS: Final = (f"{SERVICE}.{NAMESPACE}.svc", f"{SERVICE}.{NAMESPACE}.svc.cluster.local")
CONVERTED: Final = ("sidecarsets.apps.kruise.io", "statefulsets.apps.kruise.io")
OPTIONS: Final = Options(
    api_server=("--enable-aggregator-routing=true",),
    # What this Service leads to is written here, and nobody else has a say in it; nothing runs pods.
    without=(CONTROLLER_MANAGER, SCHEDULER),
)
_GET_ADDRESS: Final = 0x8915


def address() -> str | None:
    """Return an IPv4 address of this machine that may be an endpoint, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asked:
        for _, name in socket.if_nameindex():
            with contextlib.suppress(OSError):  # this one has none
                raw = fcntl.ioctl(asked.fileno(), _GET_ADDRESS, struct.pack("256s", name.encode()[:15]))
                found = socket.inet_ntoa(raw[20:24])
                if not found.startswith(("127.", "169.254.")):
                    return found
    return None


def install(world: World) -> None:
    """Install configurations, Service and Secret as they are shipped, and let both definitions be converted."""
    world.cluster.kubectl("apply", "-k", str(ROOT / "config" / "webhook"))
    # The controller manager makes one in every namespace; no pod can be created without.
    account = {"metadata": {"name": "default"}}
    assert world.cluster.api.ask("POST", "/api/v1/namespaces/default/serviceaccounts", account)[0] in (201, 409)
    shipped = {one["metadata"]["name"]: one for one in render(ROOT / "config" / "default")}
    for name in CONVERTED:
        change = [{"op": "replace", "path": "/spec/conversion", "value": shipped[name]["spec"]["conversion"]}]
        world.call("PATCH", f"{DEFINITIONS}/{name}", change, content_type=JSON)


def lead_to(world: World, ip: str, port: int) -> None:
    """Let the Service lead to a process of this machine, and to nothing else."""
    path = f"/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices"
    world.cluster.api.ask("DELETE", f"{path}/webhooks")
    world.call(
        "POST",
        path,
        {
            "metadata": {"name": "webhooks", "labels": {"kubernetes.io/service-name": SERVICE}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": [ip], "conditions": {"ready": True}}],
            "ports": [{"name": "webhook", "port": port, "protocol": "TCP"}],
        },
    )


def client_configs(world: World) -> dict[str, Body]:
    """Return every clientConfig that leads to us, by where it stands."""
    found = {
        f"{path.rsplit('/', 1)[1]}/{hook['name']}": hook["clientConfig"]
        for path in (MUTATING, VALIDATING)
        for hook in world.call("GET", path)["webhooks"]
    }
    for name in CONVERTED:
        found[name] = world.call("GET", f"{DEFINITIONS}/{name}")["spec"]["conversion"]["webhook"]["clientConfig"]
    return found


def inject_bundle(world: World, pem: bytes) -> None:
    """Write *pem* as the bundle of every clientConfig, as cert-manager's injector does."""
    value = base64.b64encode(pem).decode()
    for path in (MUTATING, VALIDATING):
        places = range(len(world.call("GET", path)["webhooks"]))
        change = [{"op": "add", "path": f"/webhooks/{one}/clientConfig/caBundle", "value": value} for one in places]
        world.call("PATCH", path, change, content_type=JSON)
    for name in CONVERTED:
        place = "/spec/conversion/webhook/clientConfig/caBundle"
        change = [{"op": "add", "path": place, "value": value}]
        world.call("PATCH", f"{DEFINITIONS}/{name}", change, content_type=JSON)


class Mounted:
    """A Secret as a kubelet mounts it: files are links into a directory that is changed as a whole."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._times = 0
        folder.mkdir()

    def put(self, ring: Keyring, **files: bytes) -> None:
        """Let the files be those of *ring*, in cert-manager's layout; *files* are others in their place."""
        data = {"tls.crt": ring.leaf.certificate, "tls.key": ring.leaf.key, "ca.crt": ring.signer.certificate}
        data |= {name.replace("_", "."): content for name, content in files.items()}
        self._times += 1
        now = self.folder / f"..{self._times}"
        now.mkdir()
        for name, content in data.items():
            (now / name).write_bytes(content)
            if not (self.folder / name).is_symlink():
                (self.folder / name).symlink_to(Path("..data") / name)
        new = self.folder / "..data_tmp"
        new.symlink_to(now.name)
        new.replace(self.folder / "..data")
