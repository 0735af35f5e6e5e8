"""A real Kubernetes control plane on 127.0.0.1, and simulated nodes on it.

Purpose: :class:`Cluster` for tests and for ``python -m hack.cluster``::

    with Cluster(tmp_path, nodes=50) as cluster:
        env = {"KUBECONFIG": str(cluster.admin)}
        cluster.kubectl("get", "nodes")
        cluster.pause("etcd"); cluster.resume("etcd")
        cluster.restart("kube-apiserver", kill=True)
        cluster.audit.counts("kruise-manager")

Guarantees:

* :meth:`Cluster.start` returns when the API server is ready, our CRDs are served, the default ServiceAccount is there
  and every simulated node is Ready; or it raises, and nothing is left running.
* CRDs are installed before the controller manager starts: its garbage collector learns kinds that come later by a
  rediscovery every 30 s only.
* Everything about a cluster is in its directory, so that any process can stop it: :meth:`Cluster.open`.

What this does not do: pods have no network and no DNS. Webhooks are registered by URL
(``https://127.0.0.1:PORT/...`` with a caBundle), or by a Service whose endpoints the API server dials itself:
``--enable-aggregator-routing``, and an EndpointSlice with an address of this machine that is not loopback.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from hack.cluster import binaries, components, gomod, kubeconfig, registry
from hack.cluster.api import Api
from hack.cluster.audit import AuditLog
from hack.cluster.certs import Pki
from hack.cluster.components import API_SERVER, CONTROLLER_MANAGER, ETCD, NODES, ORDER, SCHEDULER, Options, Ports
from hack.cluster.errors import ClusterError
from hack.cluster.processes import Process

ROOT: Final = Path(__file__).resolve().parents[2]
_STATE: Final = "cluster.json"


class Cluster:
    """One control plane in one directory."""

    def __init__(
        self,
        directory: Path | str,
        *,
        options: Options | None = None,
        nodes: int = 0,
        node_flags: Sequence[str] = (),
        crds: Path | None = ROOT / "config" / "crd",
        version: str = gomod.DEFAULT_VERSION,
        detached: bool = False,
        say: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Describe a cluster; nothing happens yet.

        *nodes* simulated nodes are started with it (*node_flags*: more of their options). *detached* clusters go on
        when this process ends; the others are stopped by the next cluster that starts, should this process be killed.
        """
        self.directory = Path(directory).resolve()
        self.options = options or Options()
        self.pki = Pki(self.directory / "pki")
        self.audit = AuditLog(self.directory / "audit.log")
        self._nodes = nodes
        self._node_flags = tuple(node_flags)
        self._crds = crds
        self._version = version
        self._detached = detached
        self._say = say
        self._ports: Ports | None = None
        self._binaries: Path | None = None

    @classmethod
    def open(cls, directory: Path | str) -> Cluster:
        """Return the cluster that was started in *directory*, by whatever process. Raises ClusterError."""
        directory = Path(directory).resolve()
        try:
            kept: dict[str, Any] = json.loads((directory / _STATE).read_text())
        except FileNotFoundError:
            raise ClusterError(f"there is no cluster in {directory}") from None
        options: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in kept["options"].items()}
        cluster = cls(
            directory, options=Options(**options), nodes=kept["nodes"], node_flags=kept["node_flags"], detached=True
        )
        cluster._ports = Ports(**kept["ports"])
        cluster._binaries = Path(kept["binaries"])
        return cluster

    # What a caller asks of a running cluster.

    @property
    def ports(self) -> Ports:
        """The ports; they exist once the cluster was started."""
        if self._ports is None:
            raise ClusterError("the cluster was not started")
        return self._ports

    @property
    def binaries(self) -> Path:
        """The directory of the binaries that it runs from."""
        if self._binaries is None:
            raise ClusterError("the cluster was not started")
        return self._binaries

    @property
    def url(self) -> str:
        """Where the API server listens."""
        return f"https://127.0.0.1:{self.ports.api}"

    @property
    def control_url(self) -> str:
        """Where the control API of the simulated nodes listens."""
        return f"http://127.0.0.1:{self.ports.control}"

    @property
    def admin(self) -> Path:
        """The administrator's kubeconfig."""
        return self.directory / "admin.kubeconfig"

    @property
    def api(self) -> Api:
        """Plain requests as the administrator."""
        return Api(self.ports.api, self.pki)

    def process(self, name: str) -> Process:
        """Return the process of a component: one of :data:`hack.cluster.components.ORDER`."""
        if name not in ORDER:
            raise ClusterError(f"there is no component {name}; there are {', '.join(ORDER)}")
        return Process(name, self.directory)

    def running(self) -> dict[str, int]:
        """Return the pid of each component that runs."""
        found = {name: self.process(name).pid() for name in ORDER}
        return {name: pid for name, pid in found.items() if pid is not None}

    def expected(self) -> list[str]:
        """Return the components that belong to this cluster, in the order of starting."""
        return [name for name in ORDER if name not in self.options.without and (name != NODES or self._nodes)]

    def kubectl(
        self, *args: str, stdin: str | None = None, check: bool = True, timeout: float = 60.0
    ) -> subprocess.CompletedProcess[str]:
        """Run kubectl as the administrator. Raises ClusterError when *check* is set and it fails."""
        argv = (str(self.binaries / "kubectl"), f"--kubeconfig={self.admin}", *args)
        done = subprocess.run(argv, input=stdin, text=True, capture_output=True, check=False, timeout=timeout)
        if check and done.returncode != 0:
            raise ClusterError(f"kubectl {' '.join(args)}: {done.stderr.strip()}")
        return done

    def service_account_kubeconfig(
        self, namespace: str, name: str, *, seconds: int = 86400, path: Path | None = None
    ) -> Path:
        """Return a kubeconfig with a fresh token of a ServiceAccount: a process then runs with its own rights."""
        answer = self.api.call(
            "POST",
            f"/api/v1/namespaces/{namespace}/serviceaccounts/{name}/token",
            {
                "apiVersion": "authentication.k8s.io/v1",
                "kind": "TokenRequest",
                "spec": {"expirationSeconds": seconds},
            },
        )
        return kubeconfig.of_token(
            path or self.directory / f"{namespace}.{name}.kubeconfig",
            server=self.url,
            pki=self.pki,
            user=f"system:serviceaccount:{namespace}:{name}",
            token=answer["status"]["token"],
            namespace=namespace,
        )

    # Starting and stopping the whole.

    def start(self) -> Self:
        """Start it and wait until it is ready. Raises ClusterError, and then nothing runs."""
        for orphan in registry.orphans():
            self._say(f"stopping the cluster in {orphan}, whose owner is gone")
            _stop(Cluster.open(orphan) if (orphan / _STATE).exists() else Cluster(orphan))
        if running := self.running():
            raise ClusterError(f"a cluster runs in {self.directory} already: {running}")
        self._binaries = binaries.ensure(self._version, say=self._say)
        self.directory.mkdir(parents=True, exist_ok=True)
        self._ports = registry.register(self.directory, detached=self._detached)
        try:
            self._start()
        except BaseException:
            _stop(self)
            raise
        return self

    def _start(self) -> None:
        # A used directory keeps its certificates and, when it was stopped with keep, its data; an old log would be
        # counted twice.
        self.audit.path.unlink(missing_ok=True)
        self.pki.make()
        (self.directory / "audit-policy.yaml").write_text(components.AUDIT_POLICY)
        state = {
            "ports": asdict(self.ports),
            "binaries": str(self.binaries),
            "options": asdict(self.options),
            "nodes": self._nodes,
            "node_flags": self._node_flags,
        }
        (self.directory / _STATE).write_text(json.dumps(state, indent=1))
        for name in ("admin", "scheduler", "nodes"):
            kubeconfig.of_certificate(self.directory / f"{name}.kubeconfig", server=self.url, pki=self.pki, name=name)
        self.start_component(ETCD)
        self.start_component(API_SERVER)
        self.wait_ready()
        if self._crds is not None and (names := self.api.install_crds(self._crds)):
            self._say(f"installed {', '.join(names)}")
        for name in (CONTROLLER_MANAGER, SCHEDULER):
            if name not in self.options.without:
                self.start_component(name)
        if CONTROLLER_MANAGER not in self.options.without:
            # Pods are refused until their namespace has it.
            account = "/api/v1/namespaces/default/serviceaccounts/default"
            self._until("the default ServiceAccount", lambda: self.api.ask("GET", account)[0] == 200, 60.0)
        if self._nodes:
            self.start_component(NODES)
            ready = self.api.ready_nodes
            self._until(f"{self._nodes} ready nodes", lambda: ready() >= self._nodes, 60.0 + self._nodes * 0.1)

    def stop(self, *, keep: bool = False) -> None:
        """Stop exactly the processes of this cluster. Its data go, logs stay; with *keep*, data stay as well."""
        _stop(self)
        if not keep:
            shutil.rmtree(self.directory / "etcd", ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # Single components.

    def start_component(self, name: str) -> None:
        """Start one component, on the ports and data that it had before."""
        env = {"PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])}
        self.process(name).start(self._argv(name), env=env if name == NODES else None)

    def _argv(self, name: str) -> list[str]:
        argv = {
            ETCD: lambda: components.etcd(self.binaries, self.directory, self.ports),
            API_SERVER: lambda: components.api_server(
                self.binaries, self.directory, self.ports, self.pki, self._minor(), self.options
            ),
            CONTROLLER_MANAGER: lambda: components.controller_manager(
                self.binaries, self.ports, self.pki, self.admin, self.options
            ),
            SCHEDULER: lambda: components.scheduler(
                self.binaries, self.ports, self.directory / "scheduler.kubeconfig", self.options
            ),
            NODES: self._node_argv,
        }
        return argv[name]()

    def _node_argv(self) -> list[str]:
        argv = [sys.executable, "-m", "kruise.simulator.nodes"]
        argv += [f"--kubeconfig={self.directory / 'nodes.kubeconfig'}", f"--nodes={self._nodes}"]
        argv += [f"--control=127.0.0.1:{self.ports.control}"]
        grace = self.options.node_monitor_grace
        if grace.endswith("s") and grace[:-1].isdigit() and int(grace[:-1]) < 40:
            # A kubelet renews every 10 s; four renewals must fit the grace, or a busy machine loses nodes.
            argv.append(f"--lease-seconds={int(grace[:-1])}")
        return [*argv, *self._node_flags]

    def _minor(self) -> int:
        return int(binaries.version_of(self.binaries).split(".")[1])

    def kill_component(self, name: str) -> None:
        """End one component with SIGKILL."""
        self.process(name).kill()

    def restart(self, name: str, *, kill: bool = False, down: float = 0.0) -> None:
        """End one component, leave it away for *down* seconds, and start it again. Returns when the API is ready."""
        self.process(name).kill() if kill else self.process(name).stop()
        time.sleep(down)
        self.start_component(name)
        if name in (ETCD, API_SERVER):
            self.wait_ready()

    def pause(self, name: str) -> None:
        """Stop one component in its tracks (SIGSTOP): it holds its connections and answers nothing."""
        self._signal(name, signal.SIGSTOP)

    def resume(self, name: str) -> None:
        """Let a paused component go on (SIGCONT)."""
        self._signal(name, signal.SIGCONT)

    def _signal(self, name: str, number: signal.Signals) -> None:
        if not self.process(name).signal(number):
            raise ClusterError(f"{name} does not run: {self.process(name).tail()}")

    def wait_ready(self, *, timeout: float = 120.0) -> None:
        """Wait until the API server says that it is ready. Raises ClusterError."""
        self._until("the API server", lambda: self.api.ask("GET", "/readyz")[0] == 200, timeout)

    def _until(self, what: str, condition: Callable[[], bool], timeout: float) -> None:
        end = time.monotonic() + timeout
        watched = [name for name in ORDER if self.process(name).pid_file.exists()]
        while True:
            for name in watched:
                process = self.process(name)
                if process.pid() is None:
                    raise ClusterError(f"{name} ended while waiting for {what}; {process.log} ends:\n{process.tail()}")
            asked = time.monotonic()
            try:
                if condition():
                    return
            except ClusterError:
                if time.monotonic() > end:
                    raise
            if time.monotonic() > end:
                raise ClusterError(f"{what}: not there after {timeout:.0f} s; the logs are in {self.directory}")
            # A condition that is dear, such as a list of 1,000 nodes, is asked less often.
            time.sleep(max(0.1, 4 * (time.monotonic() - asked)))


def _stop(cluster: Cluster) -> None:
    for name in reversed(ORDER):
        # Backwards, so that nothing complains in its log of what it lost; the API server ends its watches first.
        cluster.process(name).stop(timeout=20.0)
    registry.forget(cluster.directory)
