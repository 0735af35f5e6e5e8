"""The command lines of the control plane, each flag that is not obvious with its reason.

Purpose: a pure function from options to argument lists; nothing is started here.

What this does not do: no defaults are repeated. A flag that is absent has Kubernetes' own value.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

from hack.cluster.certs import Pki

ETCD: Final = "etcd"
API_SERVER: Final = "kube-apiserver"
CONTROLLER_MANAGER: Final = "kube-controller-manager"
SCHEDULER: Final = "kube-scheduler"
NODES: Final = "nodes"
ORDER: Final = (ETCD, API_SERVER, CONTROLLER_MANAGER, SCHEDULER, NODES)
"""In the order of starting; stopping goes backwards."""


@dataclass(frozen=True, slots=True)
class Ports:
    """The ports on 127.0.0.1."""

    etcd: int
    etcd_peer: int
    api: int
    controller_manager: int
    scheduler: int
    control: int
    """The control API of the simulated nodes."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a control plane runs."""

    api_server: tuple[str, ...] = ()
    """More flags of the API server, such as ``--watch-cache=false``, ``--etcd-compaction-interval=10s``,
    ``--goaway-chance=0.01``."""
    controller_manager: tuple[str, ...] = ()
    scheduler: tuple[str, ...] = ()
    node_monitor_grace: str = "50s"
    """After this a node whose Lease is not renewed is NotReady: Kubernetes' own value. 10s for tests of node loss."""
    audit: bool = True
    """Keep an audit log: bodies for writes of our kinds and of what we make, metadata for all other requests."""
    controllers: str = "*"
    """Which controllers the controller manager runs."""
    without: tuple[str, ...] = ()
    """Components that are not started, such as ``kube-scheduler``."""


# Writes of our kinds, of pods, claims and revisions, subresources included, with both bodies: a write that changes
# nothing shows, because its answer has the resourceVersion that the object had before. So with the configurations of
# webhooks. Everything else is only counted, Leases included, and Secrets, whose bodies belong in no log.
AUDIT_POLICY: Final = """\
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: RequestResponse
  verbs: [create, update, patch, delete, deletecollection]
  resources:
  - group: apps.kruise.io
  - group: ""
    resources: [pods, "pods/*", persistentvolumeclaims]
  - group: apps
    resources: [controllerrevisions]
  - group: admissionregistration.k8s.io
- level: Metadata
"""


def etcd(binaries: Path, directory: Path, ports: Ports) -> list[str]:
    """Return the command line of etcd."""
    client, peer = f"http://127.0.0.1:{ports.etcd}", f"http://127.0.0.1:{ports.etcd_peer}"
    return [
        str(binaries / ETCD),
        "--name=default",
        f"--data-dir={directory / 'etcd'}",
        f"--listen-client-urls={client}",
        f"--advertise-client-urls={client}",
        f"--listen-peer-urls={peer}",
        f"--initial-advertise-peer-urls={peer}",
        f"--initial-cluster=default={peer}",
        "--unsafe-no-fsync=true",  # the data is not worth a disk's latency
        "--quota-backend-bytes=4294967296",
        "--log-level=warn",
    ]


def api_server(binaries: Path, directory: Path, ports: Ports, pki: Pki, minor: int, options: Options) -> list[str]:
    """Return the command line of the API server."""
    argv = [
        str(binaries / API_SERVER),
        f"--etcd-servers=http://127.0.0.1:{ports.etcd}",
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.api}",
        # A machine may have no default route, and then the server finds no address to advertise and stops. Loopback is
        # no legal endpoint address, hence no reconciler of the Service "kubernetes".
        "--advertise-address=127.0.0.1",
        "--endpoint-reconciler-type=none",
        f"--tls-cert-file={pki.cert('apiserver')}",
        f"--tls-private-key-file={pki.key('apiserver')}",
        f"--client-ca-file={pki.cert('ca')}",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={pki.service_account_public}",
        f"--service-account-signing-key-file={pki.key('sa')}",
        "--service-cluster-ip-range=10.96.0.0/16",
        "--allow-privileged=true",
        "--authorization-mode=RBAC",
        f"--kubelet-client-certificate={pki.cert('kubelet-client')}",
        f"--kubelet-client-key={pki.key('kubelet-client')}",
        "--kubelet-preferred-address-types=InternalIP,Hostname",
        "--profiling=false",
        "--v=1",
    ]
    if minor < 35:
        argv.append("--feature-gates=InPlacePodVerticalScaling=true")  # always on since 1.35
    if options.audit:
        argv += [
            f"--audit-policy-file={directory / 'audit-policy.yaml'}",
            f"--audit-log-path={directory / 'audit.log'}",
            # One file: a test that counts writes must not lose the first ones to a rotation.
            "--audit-log-maxsize=4096",
        ]
    return [*argv, *options.api_server]


def controller_manager(binaries: Path, ports: Ports, pki: Pki, kubeconfig: Path, options: Options) -> list[str]:
    """Return the command line of the controller manager."""
    return [
        str(binaries / CONTROLLER_MANAGER),
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.controller_manager}",
        "--authentication-skip-lookup=true",
        "--leader-elect=false",
        "--use-service-account-credentials=false",  # one identity does every controller's work
        f"--service-account-private-key-file={pki.key('sa')}",
        f"--root-ca-file={pki.cert('ca')}",
        f"--controllers={options.controllers}",
        "--kube-api-qps=200",  # a job of 1,000 pods must not wait for garbage collection behind a client-side limit
        "--kube-api-burst=400",
        "--node-monitor-period=1s",
        f"--node-monitor-grace-period={options.node_monitor_grace}",
        "--v=1",
        *options.controller_manager,
    ]


def scheduler(binaries: Path, ports: Ports, kubeconfig: Path, options: Options) -> list[str]:
    """Return the command line of the scheduler."""
    return [
        str(binaries / SCHEDULER),
        f"--kubeconfig={kubeconfig}",
        "--bind-address=127.0.0.1",
        f"--secure-port={ports.scheduler}",
        "--authentication-skip-lookup=true",
        "--leader-elect=false",
        "--kube-api-qps=200",
        "--kube-api-burst=400",
        "--v=1",
        *options.scheduler,
    ]
