"""A neutral observer: its own watches as the administrator, with none of the project's client in them.

Purpose: the truth of the server for the checkers, and something to wait on in tests.

Guarantees:

* Every event of a resource is kept in the order in which the watch told it. A watch that ends is resumed at the last
  version that was seen; when that is too old, a list stands in, and its differences are kept as events.
* The API server may be away at any time: the observer waits for it and goes on.
* :meth:`Observer.stop` ends the threads, and closes every socket.

What this does not do: it does not know who made a change; the audit log does.
"""

from __future__ import annotations

import contextlib
import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from hack.cluster import Cluster

Body = dict[str, Any]

PATHS: Final = {
    "pods": "/api/v1/pods",
    "nodes": "/api/v1/nodes",
    "persistentvolumeclaims": "/api/v1/persistentvolumeclaims",
    "broadcastjobs.apps.kruise.io": "/apis/apps.kruise.io/v1beta1/broadcastjobs",
    "statefulsets.apps.kruise.io": "/apis/apps.kruise.io/v1beta1/statefulsets",
    "sidecarsets.apps.kruise.io": "/apis/apps.kruise.io/v1beta1/sidecarsets",
    "controllerrevisions.apps": "/apis/apps/v1/controllerrevisions",
    "namespaces": "/api/v1/namespaces",
    "leases.coordination.k8s.io": "/apis/coordination.k8s.io/v1/namespaces/kruise-system/leases",
}
JOBS: Final = "broadcastjobs.apps.kruise.io"
SETS: Final = "statefulsets.apps.kruise.io"
SIDECARSETS: Final = "sidecarsets.apps.kruise.io"
LEASES: Final = "leases.coordination.k8s.io"
_QUIET: Final = 5.0
"""Seconds without a byte after which the thread looks whether it should end."""


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch, and when it came."""

    resource: str
    type: str
    obj: Body
    at: float
    """Monotonic seconds."""


class Observer:
    """Watches some resources of a cluster, one thread each."""

    def __init__(self, cluster: Cluster, resources: Iterable[str] = tuple(PATHS)) -> None:
        self._cluster = cluster
        self._resources = tuple(resources)
        self._changed = threading.Condition()
        self._events: list[Seen] = []
        self._objects: dict[str, dict[tuple[str, str], Body]] = {r: {} for r in self._resources}
        self._listed: set[str] = set()
        self._ending = threading.Event()
        self._threads: list[threading.Thread] = []
        self._sockets: dict[str, socket.socket] = {}
        self._tls = ssl.create_default_context(cafile=str(cluster.pki.cert("ca")))
        self._tls.load_cert_chain(cluster.pki.cert("admin"), cluster.pki.key("admin"))
        self.relists = 0

    def start(self) -> Observer:
        """Begin; return when each resource was listed."""
        for resource in self._resources:
            thread = threading.Thread(target=self._run, args=(resource,), name=f"observer {resource}", daemon=True)
            self._threads.append(thread)
            thread.start()
        self.until(lambda: self._listed == set(self._resources), 30.0, "the observer's first lists")
        return self

    def stop(self) -> None:
        """End every thread."""
        self._ending.set()
        for sock in list(self._sockets.values()):
            # Wakes the thread that reads from it; the thread closes it.
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(15.0)

    # What a test asks.

    @property
    def events(self) -> list[Seen]:
        """Every event so far, in the order of arrival."""
        with self._changed:
            return list(self._events)

    def all(self, resource: str) -> list[Body]:
        """Return the present objects of *resource*."""
        with self._changed:
            return list(self._objects[resource].values())

    def get(self, resource: str, namespace: str, name: str) -> Body | None:
        """Return one object."""
        with self._changed:
            return self._objects[resource].get((namespace, name))

    def pods(self, job: str, namespace: str = "default") -> list[Body]:
        """Return the present pods of a job."""
        return [
            pod
            for pod in self.all("pods")
            if pod["metadata"]["namespace"] == namespace
            and (pod["metadata"].get("labels") or {}).get("broadcastjob-name") == job
        ]

    def job(self, name: str, namespace: str = "default") -> Body | None:
        """Return a job."""
        return self.get(JOBS, namespace, name)

    def set(self, name: str, namespace: str = "default") -> Body | None:
        """Return a StatefulSet of ours."""
        return self.get(SETS, namespace, name)

    def sidecarset(self, name: str) -> Body | None:
        """Return a SidecarSet."""
        return self.get(SIDECARSETS, "", name)

    def pods_of(self, app: str, namespace: str = "default") -> list[Body]:
        """Return the present pods with a label ``app``, whoever made them, by name."""
        mine = [
            pod
            for pod in self.all("pods")
            if pod["metadata"]["namespace"] == namespace and (pod["metadata"].get("labels") or {}).get("app") == app
        ]
        return sorted(mine, key=lambda pod: str(pod["metadata"]["name"]))

    def set_pods(self, name: str, namespace: str = "default") -> list[Body]:
        """Return the present pods whose label says that they are a set's, by ordinal."""
        return sorted(self.pods_of(name, namespace), key=lambda pod: int(pod["metadata"]["name"].rpartition("-")[2]))

    def until(self, condition: Callable[[], Any], timeout: float, what: str = "") -> Any:
        """Wait until *condition* is truthy, looked at after each event; return its value. Fails the test after that."""
        end = time.monotonic() + timeout
        while True:
            if found := condition():
                return found
            with self._changed:
                left = end - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"not within {timeout:g} s: {what or condition}")
                self._changed.wait(min(left, 0.25))

    # The threads.

    def _run(self, resource: str) -> None:
        version = ""
        while not self._ending.is_set():
            try:
                if not version:
                    version = self._list(resource)
                version = self._watch(resource, version)
            except (OSError, http.client.HTTPException, ValueError):
                self._ending.wait(0.2)

    def _connect(self, resource: str) -> http.client.HTTPSConnection:
        connection = http.client.HTTPSConnection(
            "127.0.0.1", self._cluster.ports.api, timeout=_QUIET, context=self._tls
        )
        connection.connect()
        assert connection.sock is not None
        self._sockets[resource] = connection.sock
        return connection

    def _ask(self, resource: str, query: str) -> tuple[http.client.HTTPSConnection, http.client.HTTPResponse]:
        connection = self._connect(resource)
        try:
            connection.request("GET", f"{PATHS[resource]}?{query}", headers={"User-Agent": "observer"})
            return connection, connection.getresponse()
        except BaseException:
            connection.close()
            raise

    def _list(self, resource: str) -> str:
        connection, answer = self._ask(resource, "limit=0")
        with contextlib.closing(connection):
            raw = answer.read()
            if answer.status == 404:  # the kind is not served yet
                self._note_list(resource, [])
                raise OSError("not served")
            if answer.status != 200:
                raise OSError(f"{answer.status}")
        page = orjson.loads(raw)
        kind = {"apiVersion": page.get("apiVersion", "v1"), "kind": page["kind"].removesuffix("List")}
        self._note_list(resource, [{**kind, **item} for item in page["items"]])
        version: str = page["metadata"]["resourceVersion"]
        return version

    def _note_list(self, resource: str, items: list[Body]) -> None:
        with self._changed:
            again = resource in self._listed
            self.relists += again
            known = self._objects[resource]
            fresh = {_key(item): item for item in items}
            for key in [k for k in known if k not in fresh]:
                self._take(resource, "DELETED", known[key])
            for key, item in sorted(fresh.items(), key=lambda pair: int(pair[1]["metadata"]["resourceVersion"])):
                old = known.get(key)
                if old is None or old["metadata"]["resourceVersion"] != item["metadata"]["resourceVersion"]:
                    self._take(resource, "ADDED" if old is None else "MODIFIED", item)
            self._listed.add(resource)
            self._changed.notify_all()

    def _take(self, resource: str, kind: str, obj: Body) -> None:
        self._events.append(Seen(resource, kind, obj, time.monotonic()))
        if kind == "DELETED":
            self._objects[resource].pop(_key(obj), None)
        else:
            self._objects[resource][_key(obj)] = obj

    def _watch(self, resource: str, version: str) -> str:
        """Follow one watch; return the version at which to go on, empty for a new list."""
        connection, answer = self._ask(
            resource, f"watch=true&allowWatchBookmarks=true&timeoutSeconds=600&resourceVersion={version}"
        )
        with contextlib.closing(connection), contextlib.closing(answer):
            if answer.status != 200:
                answer.read()
                return "" if answer.status == 410 else self._pause(version)
            for line in self._lines(answer):
                event = orjson.loads(line)
                if event["type"] == "ERROR":
                    return "" if event["object"].get("code") == 410 else self._pause(version)
                version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] != "BOOKMARK":
                    with self._changed:
                        self._take(resource, event["type"], event["object"])
                        self._changed.notify_all()
        return version

    def _pause(self, version: str) -> str:
        self._ending.wait(0.2)
        return version

    def _lines(self, answer: http.client.HTTPResponse) -> Iterator[bytes]:
        # A read that timed out spoils the response, so a quiet watch is simply opened anew.
        while not self._ending.is_set():
            try:
                line = answer.readline()
            except (OSError, http.client.HTTPException):
                return
            if not line.endswith(b"\n"):
                return
            yield line


def _key(obj: Body) -> tuple[str, str]:
    return obj["metadata"].get("namespace") or "", obj["metadata"]["name"]
