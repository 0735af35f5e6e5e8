"""One control plane for the whole session, with the manager's ServiceAccount and generated roles in it.

Purpose: what a test arranges: nodes, jobs, managers, faults; and how the cluster is put back afterwards.

Guarantees: :meth:`World.clean` leaves no job, no pod, no rule and no cordon; it is called after every test.

What this does not do: it starts no manager by itself.
"""

from __future__ import annotations

import contextlib
import json
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import yaml

from hack.cluster import API_SERVER, ROOT, Cluster, Options
from tests.e2e.harness.jobs import Body
from tests.e2e.harness.manager import ManagerProcess

NAMESPACE: Final = "kruise-system"
ACCOUNT: Final = "kruise-manager"
ACTOR: Final = f"system:serviceaccount:{NAMESPACE}:{ACCOUNT}"
MERGE: Final = "application/merge-patch+json"
JOBS_PATH: Final = "/apis/apps.kruise.io/v1beta1/namespaces/{}/broadcastjobs"
SETS_PATH: Final = "/apis/apps.kruise.io/v1beta1/namespaces/{}/statefulsets"
SIDECARSETS_PATH: Final = "/apis/apps.kruise.io/v1beta1/sidecarsets"
JSON: Final = "application/json-patch+json"
PLURALS: Final = {
    "Pod": "pods",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "DaemonSet": "daemonsets",
    "Job": "jobs",
    "BroadcastJob": "broadcastjobs",
}
OTHERS: Final = (
    "/apis/apps/v1/deployments",
    "/apis/apps/v1/statefulsets",
    "/apis/apps/v1/daemonsets",
    "/apis/batch/v1/jobs",
)
"""Workloads of Kubernetes that make pods."""


def collection(body: Body) -> str:
    """Return where objects like *body* are created."""
    api, plural = body["apiVersion"], PLURALS[body["kind"]]
    root = "/api" if "/" not in api else "/apis"
    return f"{root}/{api}/namespaces/{body['metadata'].get('namespace', 'default')}/{plural}"


def until(condition: Callable[[], Any], timeout: float, what: str) -> Any:
    """Wait until *condition* is truthy; return its value."""
    end = time.monotonic() + timeout
    while True:
        if found := condition():
            return found
        assert time.monotonic() < end, f"not within {timeout:g} s: {what}"
        time.sleep(0.1)


class World:
    """A running control plane."""

    def __init__(self, directory: Path, *, nodes: int, options: Options | None = None) -> None:
        self.directory = directory
        self.cluster = Cluster(directory / "cluster", nodes=nodes, options=options or Options())
        self.kubeconfig = directory / "manager.kubeconfig"
        self._plain = self.cluster.options
        self._managers = 0

    def start(self) -> World:
        """Start it, with namespace, ServiceAccount and roles as they are shipped."""
        self.cluster.start()
        try:
            self.cluster.kubectl("create", "namespace", NAMESPACE)
            self.cluster.kubectl("apply", "-k", str(ROOT / "config" / "rbac"))
            self.cluster.service_account_kubeconfig(NAMESPACE, ACCOUNT, path=self.kubeconfig)
        except BaseException:
            self.cluster.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop it."""
        self.cluster.stop()

    def manager(
        self,
        *flags: str,
        name: str = "",
        loop: str = "auto",
        env: dict[str, str] | None = None,
        webhooks: bool = False,
    ) -> ManagerProcess:
        """Return a manager that is not started yet."""
        self._managers += 1
        name = name or f"manager-{self._managers}"
        return ManagerProcess(name, self.directory, self.kubeconfig, *flags, loop=loop, env=env, webhooks=webhooks)

    @contextlib.contextmanager
    def component(self, name: str) -> Iterator[list[str]]:
        """Give the manager the rights of a feature gate's component, as it is shipped; yield the flags it sets."""
        folder = ROOT / "config" / "components" / name
        self.cluster.kubectl("apply", "-f", str(folder / "role.yaml"))
        try:
            (patch,) = yaml.safe_load((folder / "kustomization.yaml").read_text())["patches"]
            yield [step["value"] for step in yaml.safe_load(patch["patch"]) if step["path"].endswith("/args/-")]
        finally:
            self.cluster.kubectl("delete", "-f", str(folder / "role.yaml"))

    # The API, as the administrator.

    def call(self, method: str, path: str, body: Any = None, *, content_type: str = "application/json") -> Body:
        """Send one request; return the answer."""
        return self.cluster.api.call(method, path, body, content_type=content_type, timeout=60.0)

    def create(self, job: Body) -> Body:
        """Create a job, under the version that it names."""
        path = f"/apis/{job['apiVersion']}/namespaces/{job['metadata']['namespace']}/broadcastjobs"
        return self.call("POST", path, job)

    def job(self, name: str, namespace: str = "default") -> Body:
        """Return a job."""
        return self.call("GET", f"{JOBS_PATH.format(namespace)}/{name}")

    def patch_job(self, name: str, patch: Body, namespace: str = "default") -> Body:
        """Merge *patch* into a job."""
        return self.call("PATCH", f"{JOBS_PATH.format(namespace)}/{name}", patch, content_type=MERGE)

    def delete_job(self, name: str, namespace: str = "default") -> None:
        """Delete a job."""
        self.call("DELETE", f"{JOBS_PATH.format(namespace)}/{name}")

    def create_set(self, body: Body) -> Body:
        """Create a StatefulSet of ours."""
        return self.call("POST", SETS_PATH.format(body["metadata"]["namespace"]), body)

    def set(self, name: str, namespace: str = "default") -> Body:
        """Return a StatefulSet of ours."""
        return self.call("GET", f"{SETS_PATH.format(namespace)}/{name}")

    def patch_set(self, name: str, patch: Body | list[Body], namespace: str = "default") -> Body:
        """Merge *patch* into a set; a list is a JSON patch."""
        kind = JSON if isinstance(patch, list) else MERGE
        return self.call("PATCH", f"{SETS_PATH.format(namespace)}/{name}", patch, content_type=kind)

    def delete_set(self, name: str, namespace: str = "default") -> None:
        """Delete a set."""
        self.call("DELETE", f"{SETS_PATH.format(namespace)}/{name}")

    def create_sidecarset(self, body: Body) -> Body:
        """Create a SidecarSet, under the version that it names."""
        return self.call("POST", f"/apis/{body['apiVersion']}/sidecarsets", body)

    def sidecarset(self, name: str) -> Body:
        """Return a SidecarSet."""
        return self.call("GET", f"{SIDECARSETS_PATH}/{name}")

    def patch_sidecarset(self, name: str, patch: Body | list[Body]) -> Body:
        """Merge *patch* into a SidecarSet; a list is a JSON patch."""
        kind = JSON if isinstance(patch, list) else MERGE
        return self.call("PATCH", f"{SIDECARSETS_PATH}/{name}", patch, content_type=kind)

    def start_workload(self, body: Body) -> Body:
        """Create a pod, or anything that makes pods."""
        return self.call("POST", collection(body), body)

    def namespace(self, name: str, labels: dict[str, str] | None = None) -> None:
        """Make sure of a namespace with *labels*. It stays: to delete one takes longer than most tests."""
        meta = {"name": name, "labels": labels or {}}
        code, _ = self.cluster.api.ask("POST", "/api/v1/namespaces", {"metadata": meta})
        if code == 409:
            self.call("PATCH", f"/api/v1/namespaces/{name}", {"metadata": meta}, content_type=MERGE)

    def storage_class(self, name: str = "simulated") -> None:
        """Make sure of a default class whose claims the simulated provisioner binds and expands."""
        meta = {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}
        body = {"metadata": meta, "provisioner": "sim.kruise.io/provisioner", "allowVolumeExpansion": True}
        path = "/apis/storage.k8s.io/v1/storageclasses"
        if all(item["metadata"]["name"] != name for item in self.call("GET", path)["items"]):
            self.call("POST", path, {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", **body})

    def pods(self) -> list[Body]:
        """Return all pods."""
        found: list[Body] = self.call("GET", "/api/v1/pods")["items"]
        return found

    def events(self, name: str, namespace: str = "default") -> list[Body]:
        """Return the Events on the present job of this name; those on an earlier one live on for an hour."""
        uid = self.job(name, namespace)["metadata"]["uid"]
        items = self.call("GET", f"/apis/events.k8s.io/v1/namespaces/{namespace}/events?limit=0")["items"]
        return [e for e in items if (e.get("regarding") or {}).get("uid") == uid]

    def cordon(self, name: str, *, on: bool = True) -> None:
        """Cordon a node, or uncordon it."""
        self.call("PATCH", f"/api/v1/nodes/{name}", {"spec": {"unschedulable": on or None}}, content_type=MERGE)

    def annotate_node(self, name: str, **settings: str | None) -> None:
        """Set settings of the simulated node, such as ``exit_code="1"``; ``None`` takes one away."""
        annotations = {f"sim.kruise.io/{k.replace('_', '-')}": v for k, v in settings.items()}
        self.call("PATCH", f"/api/v1/nodes/{name}", {"metadata": {"annotations": annotations}}, content_type=MERGE)

    # The nodes.

    def control(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request to the control API of the simulated nodes."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.cluster.control_url}{path}", data=data, method=method)
        with urllib.request.urlopen(request, timeout=60.0) as answer:
            return json.loads(answer.read() or b"null")

    def nodes(self, count: int) -> list[str]:
        """Make it exactly *count* ready nodes; return their names."""
        names = self.node_names()
        for name in names[count:]:
            self.control("DELETE", f"/nodes/{name}")
        if len(names) < count:
            # A node that was deleted a moment ago may still be known to the process that plays it.
            until(
                lambda: self.control("GET", "/status")["nodes"] == len(names), 30.0, "the deleted nodes are forgotten"
            )
            self.control("POST", "/nodes", {"count": count - len(names)})
        until(lambda: self.cluster.api.ready_nodes() == count, 60.0 + count / 10, f"{count} ready nodes")
        return self.node_names()

    def node_names(self) -> list[str]:
        """Return the names of the nodes, by their numbers."""
        names = [n["metadata"]["name"] for n in self.call("GET", "/api/v1/nodes")["items"]]
        return sorted(names, key=lambda name: int(name.rpartition("-")[2]))

    def add_node(self) -> str:
        """Add one node; return its name once it is ready."""
        before = self.cluster.api.ready_nodes()
        name: str = self.control("POST", "/nodes", {"count": 1})["names"][0]
        until(lambda: self.cluster.api.ready_nodes() > before, 30.0, f"{name} is ready")
        return name

    # Faults.

    def api_server_flags(self, *flags: str) -> None:
        """Restart the API server with more flags; without any, as it was."""
        self.cluster.options = replace(self._plain, api_server=(*self._plain.api_server, *flags))
        # Killed: an orderly end waits for the watches of everybody.
        self.cluster.restart(API_SERVER, kill=True)

    # Upkeep.

    def clean(self) -> None:
        """Put the cluster back: no workloads, no sets, no claims, no pods, no rules, no cordons, no node's settings."""
        self.control("PUT", "/rules", [])
        for one in self.call("GET", SIDECARSETS_PATH)["items"]:
            self.call("DELETE", f"{SIDECARSETS_PATH}/{one['metadata']['name']}")
        for path in OTHERS:
            for one in self.call("GET", path)["items"]:
                base, plural = path.rsplit("/", 1)
                meta = one["metadata"]
                background = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
                self.call("DELETE", f"{base}/namespaces/{meta['namespace']}/{plural}/{meta['name']}", background)
        for job in self.call("GET", "/apis/apps.kruise.io/v1beta1/broadcastjobs")["items"]:
            self.delete_job(job["metadata"]["name"], job["metadata"]["namespace"])
        for one in self.call("GET", "/apis/apps.kruise.io/v1beta1/statefulsets")["items"]:
            self.delete_set(one["metadata"]["name"], one["metadata"]["namespace"])
        for claim in self.call("GET", "/api/v1/persistentvolumeclaims")["items"]:
            meta = claim["metadata"]
            self.cluster.api.ask(
                "DELETE", f"/api/v1/namespaces/{meta['namespace']}/persistentvolumeclaims/{meta['name']}"
            )
        for pod in self.pods():
            # The garbage collector would get there; a test run need not wait for it.
            meta = pod["metadata"]
            path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}"
            self.cluster.api.ask("DELETE", path, {"gracePeriodSeconds": 0})
        for node in self.call("GET", "/api/v1/nodes")["items"]:
            meta = node["metadata"]
            if node["spec"].get("unschedulable"):
                self.cordon(meta["name"], on=False)
            settings = {
                k: None
                for k in meta.get("annotations") or {}
                if "sim.kruise.io/" in k and not k.endswith(("/simulated", "/down"))
            }
            if settings:
                path = f"/api/v1/nodes/{meta['name']}"
                self.call("PATCH", path, {"metadata": {"annotations": settings}}, content_type=MERGE)
        until(lambda: not self.pods(), 60.0, "no pods are left")
