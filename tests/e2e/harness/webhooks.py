"""The webhooks of a manager outside the cluster: their configurations, a client of them, and load.

Purpose: what a test arranges so that a real API server calls a manager of this machine (``WEBHOOK_HOST``), and what it
asks of the webhooks itself, as the API server would.

Guarantees:

* :func:`installed` leaves no configuration, no Secret and no conversion behind: later tests run without webhooks.
* :class:`Caller` trusts what the live configuration trusts, and nothing else.

What this does not do: it starts no manager.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import yaml

from hack.cluster import ROOT
from tests.e2e.harness import sidecars
from tests.e2e.harness.world import JSON, NAMESPACE, World, until

Body = dict[str, Any]

HOST: Final = "127.0.0.1"
MUTATING: Final = (
    "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kruise-mutating-webhook-configuration"
)
VALIDATING: Final = (
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/kruise-validating-webhook-configuration"
)
FAIL: Final = f"{MUTATING}-fail"
DEFINITIONS: Final = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
SECRET: Final = f"/api/v1/namespaces/{NAMESPACE}/secrets/kruise-webhook-certs"
INJECT: Final = "/mutate-pod"


@contextlib.contextmanager
def installed(world: World, *, fail: bool = False) -> Iterator[None]:
    """Install the configurations as they are shipped, until the end of the block; *fail*: selected pods wait."""
    before = {name: _definition(world, name).get("conversion") for name in _definitions(world)}
    world.cluster.kubectl("apply", "-k", str(ROOT / "config" / "webhook"))
    try:
        if fail:
            folder = ROOT / "config" / "components" / "webhook-fail" / "kustomization.yaml"
            (component,) = yaml.safe_load(folder.read_text())["patches"]
            world.call("PATCH", FAIL, yaml.safe_load(component["patch"]), content_type=JSON)
        yield
    finally:
        for path in (MUTATING, FAIL, VALIDATING, SECRET):
            world.cluster.api.ask("DELETE", path)
        for name, conversion in before.items():
            # A merge would keep the webhook beside the strategy.
            path = f"{DEFINITIONS}/{name}"
            if _definition(world, name).get("conversion") != conversion:
                change = [{"op": "replace", "path": "/spec/conversion", "value": conversion or {"strategy": "None"}}]
                world.call("PATCH", path, change, content_type=JSON)
        # A definition that changed is not served for a moment.
        for plural in PLURALS:
            until(lambda path=plural: world.cluster.api.ask("GET", path)[0] == 200, 30.0, f"{plural} is served")  # type: ignore[misc]
        # The API server forgets a configuration a moment after it is gone.
        probe = sidecars.pod("are-the-webhooks-gone")
        until(lambda: world.cluster.api.ask("POST", DRY_PODS, probe)[0] == 201, 30.0, "pods can be created again")


DRY_PODS: Final = "/api/v1/namespaces/default/pods?dryRun=All"
PLURALS: Final = tuple(
    f"/apis/apps.kruise.io/v1beta1/{plural}?limit=1" for plural in ("sidecarsets", "statefulsets", "broadcastjobs")
)


def _place(world: World) -> int:
    names = [one["name"] for one in world.call("GET", MUTATING)["webhooks"]]
    return names.index("mpod.kb.io")


def _definitions(world: World) -> list[str]:
    items = world.call("GET", DEFINITIONS)["items"]
    return [one["metadata"]["name"] for one in items if one["spec"]["group"] == "apps.kruise.io"]


def _definition(world: World, name: str) -> Body:
    spec: Body = world.call("GET", f"{DEFINITIONS}/{name}")["spec"]
    return spec


def url(world: World) -> str:
    """Return where the live configuration sends pods."""
    config: Body = world.call("GET", MUTATING)["webhooks"][_place(world)]["clientConfig"]
    return str(config.get("url") or "")


def entries(world: World) -> dict[str, Body]:
    """Return the webhooks that let pods wait, by their names."""
    return {one["name"]: one for one in world.call("GET", FAIL).get("webhooks") or ()}


def bundle(world: World) -> str:
    """Return whom the live configuration trusts, in PEM."""
    config: Body = world.call("GET", MUTATING)["webhooks"][_place(world)]["clientConfig"]
    return base64.b64decode(config.get("caBundle") or "").decode()


def wait_published(world: World, port: int, *, timeout: float = 60.0) -> None:
    """Wait until the API server calls the manager that listens on *port*: what it injects shows in a dry run."""
    until(lambda: f":{port}/" in url(world), timeout, f"the configuration points to port {port}")


# ---- the webhooks, asked directly ------------------------------------------------------------------------------------


def review(obj: Any, *, uid: str = "e2e", operation: str = "CREATE", namespace: str = "default", **more: Any) -> Body:
    """Return the review of a pod."""
    request = {
        "uid": uid,
        "kind": {"group": "", "version": "v1", "kind": "Pod"},
        "resource": {"group": "", "version": "v1", "resource": "pods"},
        "namespace": namespace,
        "operation": operation,
        "userInfo": {"username": "e2e"},
        "object": obj,
        **more,
    }
    return {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}


class Caller:
    """A client of one manager's webhooks. Connections stay, one for each thread."""

    def __init__(self, world: World, port: int) -> None:
        self.port = port
        self._tls = ssl.create_default_context(cadata=bundle(world))
        self._local = threading.local()
        self._all: list[http.client.HTTPSConnection] = []

    def ask(self, path: str, body: bytes, *, content_type: str = "application/json") -> tuple[int, bytes]:
        """Send one request; return status and body. (0, reason) when there was no answer."""
        for last in (False, True):
            known = getattr(self._local, "connection", None)
            connection = known or http.client.HTTPSConnection(HOST, self.port, timeout=30.0, context=self._tls)
            if known is None:
                self._local.connection = connection
                self._all.append(connection)
            try:
                connection.request("POST", path, body, {"Content-Type": content_type})
                answer = connection.getresponse()
                return answer.status, answer.read()
            except (OSError, http.client.HTTPException) as error:
                connection.close()
                self._local.connection = None
                if last or known is None:  # one that stayed may have been closed meanwhile
                    return 0, repr(error).encode()
        raise AssertionError("unreachable")

    def inject(self, pod: Body) -> Body:
        """Return what the webhook answers to the creation of *pod*. Fails without an answer."""
        code, raw = self.ask(INJECT, json.dumps(review(pod)).encode())
        assert code == 200, raw
        answer: Body = json.loads(raw)["response"]
        return answer

    def close(self) -> None:
        """End all connections."""
        for one in self._all:
            one.close()


# ---- load ------------------------------------------------------------------------------------------------------------


def load(port: int, body: bytes, *, at_once: int, requests: int) -> Body:
    """Send one review again and again from a process of its own; return its figures (``tests.perf.webhook_client``)."""
    with tempfile.NamedTemporaryFile(suffix=".json") as file:
        file.write(body)
        file.flush()
        asked = {"port": port, "path": INJECT, "at_once": at_once, "requests": requests}
        argv = [sys.executable, "-m", "tests.perf.webhook_client", file.name]
        done = subprocess.run(
            argv, input=json.dumps(asked) + "\n", cwd=ROOT, capture_output=True, text=True, timeout=300, check=False
        )
    assert done.returncode == 0, done.stderr[-2000:]
    found: Body = json.loads(done.stdout)
    return found


@dataclass(slots=True)
class Load:
    """Dry-run creations of a pod through the API server, from some threads, until :meth:`stop`."""

    world: World
    pod: Body
    container: str
    """What each pod must have got."""
    threads: int = 4
    took: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    _ending: threading.Event = field(default_factory=threading.Event)
    _running: list[threading.Thread] = field(default_factory=list)

    def start(self) -> Load:
        """Begin."""
        for number in range(self.threads):
            thread = threading.Thread(target=self._run, name=f"load {number}", daemon=True)
            self._running.append(thread)
            thread.start()
        return self

    def _run(self) -> None:
        api = self.world.cluster.api
        while not self._ending.is_set():
            began = time.monotonic()
            code, raw = api.ask("POST", DRY_PODS, self.pod)
            self.took.append(time.monotonic() - began)
            if code != 201:
                self.failures.append(f"{code} {raw[:300].decode(errors='replace')}")
            elif self.container not in sidecars.containers(json.loads(raw)):
                self.failures.append("the pod has no sidecar")

    def stop(self) -> None:
        """End; return when nothing is under way any more."""
        self._ending.set()
        for thread in self._running:
            thread.join(30.0)


def at_once(count: int, threads: int, work: Callable[[int], object]) -> None:
    """Call *work* with 0 to *count*, from some threads; raise what it raises."""
    numbers = iter(range(count))
    lock, problems = threading.Lock(), []

    def run() -> None:
        while not problems:
            with lock:
                number = next(numbers, None)
            if number is None:
                return
            try:
                work(number)
            except BaseException as error:
                problems.append(error)

    started = [threading.Thread(target=run, daemon=True) for _ in range(threads)]
    for one in started:
        one.start()
    for one in started:
        one.join()
    if problems:
        raise problems[0]
