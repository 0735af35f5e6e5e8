"""What one admitted pod costs over TLS, with the client in a process of its own.

The servers run here, in one event loop: the injection behind :class:`WebhookServer`, and a plain aiohttp handler that
parses, copies, changes and diffs (``webhook_plain.py``). They are asked in turns, at 1, 4 and 16 requests at once, with
1 and with 100 SidecarSets of which one selects the pod. CPU is that of this process; latencies are the client's, and
are stored as a ratio to those of the plain handler in the same run. Both must make the same pod.

Targets: a third of the plain handler's CPU from the bytes of a review to those of the answer, and two thirds with all
that aiohttp and TLS cost either of them; the same with 1 and with 100 sets. Five times is asked against a handler in
the manner of controller-runtime, which is no part of this run.

Besides, what a review of 7 MiB costs that somebody made as nasty as he could. C8 asks for 100 ms; a review of
more values than an object can have is refused before it is read, or it would take longer.
"""

from __future__ import annotations

import asyncio
import base64
import json
import ssl
import statistics
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import msgspec
from aiohttp import web

from kruise.apis.sidecarset import SidecarSet
from kruise.runtime.clock import SystemClock
from kruise.runtime.manager.certs import Pair, ServingCertificate, self_signed
from kruise.runtime.manager.http import Address
from kruise.runtime.manager.process import loop_factory
from kruise.runtime.metrics import Metrics
from kruise.runtime.webhook.admission import MAX_VALUES, AdmissionRequest, Answer, open_review, patch, respond
from kruise.runtime.webhook.patching import apply_patch
from kruise.runtime.webhook.server import WebhookServer
from kruise.webhooks.inject_handler import PATH, PodInjector
from kruise.webhooks.inject_snapshot import InjectionIndex
from tests.perf import samples, webhook_plain
from tests.perf.harness import Bench, calibrate, cpu, settled

SETS: Final = (1, 100)
AT_ONCE: Final = (1, 4, 16)
REQUESTS: Final = {"ours": 800, "plain": 200}
LARGEST: Final = 7 << 20
SELECTED: Final = {"app.kubernetes.io/name": "node-image-warmer"}

Json = dict[str, Any]


def sidecar_set(number: int) -> Json:
    """Return a set with two sidecars and a volume; the one with the number 0 selects the pod."""
    mount = {"name": f"config-{number}", "mountPath": f"/etc/mesh-{number}", "readOnly": True}
    plain = {"upgradeStrategy": {"upgradeType": "ColdUpgrade"}, "shareVolumePolicy": {"type": "disabled"}}
    mesh = {
        "name": f"mesh-{number}",
        "image": "registry.example.com/mesh/proxy:1.29.4",
        "args": ["proxy", "--config=/etc/mesh/proxy.json", "--drain-time=30s"],
        "env": [{"name": "POD_IP", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "status.podIP"}}}],
        "ports": [{"name": "metrics", "containerPort": 15090, "protocol": "TCP"}],
        "resources": {"limits": {"cpu": "500m", "memory": "256Mi"}, "requests": {"cpu": "50m", "memory": "64Mi"}},
        "volumeMounts": [mount],
        "readinessProbe": {"httpGet": {"path": "/ready", "port": 15021}, "periodSeconds": 5},
        "podInjectPolicy": "BeforeAppContainer",
        **plain,
    }
    log = {
        "name": f"log-{number}",
        "image": "registry.example.com/log/agent:3.2",
        "podInjectPolicy": "AfterAppContainer",
        **plain,
    }
    return {
        "metadata": {
            "name": f"set-{number:03}",
            "annotations": {webhook_plain.HASH: "h" * 64, webhook_plain.NO_IMAGE: "n" * 64},
        },
        "spec": {
            "selector": {"matchLabels": SELECTED if number == 0 else {"app": f"other-{number}"}},
            "containers": [mesh, log],
            "volumes": [{"name": f"config-{number}", "configMap": {"name": "mesh"}}],
        },
    }


def review() -> bytes:
    """Return the review of a pod that is about to be created: 7 KB."""
    pod = samples.pod(0)
    for gone in ("uid", "resourceVersion", "creationTimestamp", "name"):
        del pod["metadata"][gone]
    pod["metadata"]["generateName"] = "rollout-"
    del pod["spec"]["nodeName"]
    pod["metadata"]["managedFields"] = pod["metadata"]["managedFields"][:1]
    pod["status"] = {"phase": "Pending"}
    kind = {"group": "", "version": "v1", "kind": "Pod"}
    resource = {"group": "", "version": "v1", "resource": "pods"}
    request = {
        "uid": samples.uid("review", 0),
        "kind": kind,
        "resource": resource,
        "requestKind": kind,
        "requestResource": resource,
        "namespace": pod["metadata"]["namespace"],
        "operation": "CREATE",
        "userInfo": {
            "username": "system:serviceaccount:kube-system:job-controller",
            "groups": ["system:serviceaccounts"],
        },
        "object": pod,
        "oldObject": None,
        "dryRun": False,
        "options": {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"},
    }
    return samples.as_bytes({"kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1", "request": request})


class Client:
    """The client process."""

    def __init__(self, child: asyncio.subprocess.Process) -> None:
        self._child = child

    @classmethod
    @asynccontextmanager
    async def started(cls, body: bytes) -> AsyncIterator[Client]:
        """Run it until the end of the block."""
        with tempfile.TemporaryDirectory(prefix="kruise-perf-") as directory:
            path = Path(directory) / "review.json"
            path.write_bytes(body)
            pipe = asyncio.subprocess.PIPE
            child = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.perf.webhook_client", str(path), stdin=pipe, stdout=pipe
            )
            assert child.stdin is not None
            try:
                yield cls(child)
            finally:
                child.stdin.close()
                await child.wait()

    async def load(self, port: int, *, at_once: int, requests: int) -> Json:
        """Let it send *requests*; return what it found."""
        asked = {"port": port, "path": PATH, "at_once": at_once, "requests": requests}
        assert self._child.stdin is not None
        assert self._child.stdout is not None
        self._child.stdin.write(json.dumps(asked).encode() + b"\n")
        answer: Json = json.loads(await self._child.stdout.readline())
        return answer


class _Certificate:
    """One pair for both servers."""

    def __init__(self, clock: SystemClock, metrics: Metrics) -> None:
        self._clock = clock
        self._metrics = metrics
        self._pair: Pair = self_signed(["localhost"], now=clock.now())

    async def serving(self) -> ServingCertificate:
        """Return it as :class:`WebhookServer` wants it."""
        return ServingCertificate(
            "webhook", lambda: self._pair, tuple, clock=self._clock, metrics=self._metrics, renews=False
        )

    def context(self) -> ssl.SSLContext:
        """Return it for a server of somebody else."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.NamedTemporaryFile() as file:
            file.write(self._pair.certificate + self._pair.key)
            file.flush()
            context.load_cert_chain(file.name)
        return context


@asynccontextmanager
async def servers(sets: int) -> AsyncIterator[dict[str, int]]:
    """Serve both; yield their ports."""
    clock, metrics = SystemClock(), Metrics(process=False)
    certificate = _Certificate(clock, metrics)
    bodies = [sidecar_set(number) for number in range(sets)]
    index = InjectionIndex()
    for body in bodies:
        index.set_sidecarset(body["metadata"]["name"], msgspec.json.decode(samples.as_bytes(body), type=SidecarSet))
    ours = WebhookServer(Address("127.0.0.1", 0), certificate.serving, clock=clock, metrics=metrics)
    ours.admission(PATH, PodInjector(index, clock))
    async with AsyncExitStack() as stack:
        tasks = await stack.enter_async_context(asyncio.TaskGroup())
        running = tasks.create_task(ours.run())
        stack.callback(running.cancel)
        runner = web.AppRunner(webhook_plain.app(bodies, "2026-03-01T00:00:00Z", PATH), access_log=None)
        await runner.setup()
        stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=certificate.context())
        await site.start()
        await ours.ready()
        assert ours.bound is not None
        yield {"ours": ours.bound.port, "plain": runner.addresses[0][1]}


@dataclass(slots=True)
class _Samples:
    """What the repeats found."""

    cpu: list[float] = field(default_factory=list)
    unit: list[float] = field(default_factory=list)
    found: list[Json] = field(default_factory=list)

    def median(self, what: str) -> float:
        return float(statistics.median(one[what] for one in self.found))

    @property
    def seconds(self) -> float:
        return statistics.median(self.cpu)

    @property
    def units(self) -> float:
        return statistics.median(cost / unit for cost, unit in zip(self.cpu, self.unit, strict=True))


async def _measure(bench: Bench, client: Client, ports: dict[str, int], at_once: int) -> dict[str, _Samples]:
    """Ask both servers in turns."""
    found = {name: _Samples() for name in ports}
    for number in range(bench.repeats + 1):
        for name, port in ports.items():
            requests = REQUESTS[name]
            with settled():
                before, began = calibrate(), cpu()
                answer = await client.load(port, at_once=at_once, requests=requests)
                took = cpu() - began
                unit = (before + calibrate()) / 2
            if number:
                found[name].cpu.append(took / (requests + at_once))
                found[name].unit.append(unit)
                found[name].found.append({**answer, "rate": requests / answer["seconds"]})
    return found


def _report(bench: Bench, what: str, found: dict[str, _Samples]) -> float:
    """Note the figures of one setting; return what our CPU is to the plain one's."""
    ours, plain = found["ours"], found["plain"]
    bench.report.add(f"webhook: CPU, {what}", ours.seconds * 1e6, "us", ours.units)
    ratio = ours.seconds / plain.seconds
    bench.report.add(f"webhook: requests/s of a core, {what}", 1 / ours.seconds, "/s", ratio)
    bench.report.add(
        f"webhook: requests/s, {what}", ours.median("rate"), "/s", plain.median("rate") / ours.median("rate")
    )
    for share, slack in (("p50", 3.0), ("p99", 6.0)):
        value = ours.median(share)
        bench.report.add(f"webhook: {share}, {what}", value * 1e3, "ms", value / plain.median(share), slack=slack)
    bench.report.add(f"webhook: CPU of the plain handler, {what}", plain.seconds * 1e6, "us", plain.units)
    return ratio


def _same_pod(body: bytes, answers: Iterator[str]) -> None:
    """Fail unless all answers make the same pod, but for the time in its annotations."""
    pod = json.loads(body)["request"]["object"]
    made = []
    for answer in answers:
        operations = json.loads(base64.b64decode(json.loads(answer)["response"]["patch"]))
        result = apply_patch(pod, operations)
        notes = result["metadata"].pop("annotations")
        entries = json.loads(notes.pop(webhook_plain.HASH)), json.loads(notes.pop(webhook_plain.NO_IMAGE))
        for entry in entries:
            for one in entry.values():
                del one["updateTimestamp"]
        made.append((result, notes, entries))
    assert all(one == made[0] for one in made), "the two webhooks make different pods"


def run(bench: Bench) -> None:
    """Measure."""
    costs: dict[tuple[int, int], float] = {}

    async def main() -> None:
        body = review()
        async with Client.started(body) as client:
            for sets in SETS:
                async with servers(sets) as ports:
                    for at_once in AT_ONCE:
                        found = await _measure(bench, client, ports, at_once)
                        _same_pod(body, (one.found[-1]["last"] for one in found.values()))
                        what = f"{sets} set{'s' if sets > 1 else ''}, {at_once} at once"
                        ratio = _report(bench, what, found)
                        bench.report.gate(f"webhook: CPU / plain handler, {what}", ratio, 0.67, "no diff, no copy")
                        costs[sets, at_once] = found["ours"].units

    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(main())
    for at_once in AT_ONCE:
        ratio = costs[SETS[-1], at_once] / costs[SETS[0], at_once]
        bench.report.gate(f"webhook: {SETS[-1]} sets / 1 set, {at_once} at once", ratio, 1.4, "flat in the sets")
    _injection(bench)
    _hostile(bench)


def _injection(bench: Bench) -> None:
    """Measure the injection, and all between the bytes of a review and those of its answer."""
    index = InjectionIndex()
    body = sidecar_set(0)
    index.set_sidecarset(body["metadata"]["name"], msgspec.json.decode(samples.as_bytes(body), type=SidecarSet))
    injector, raw = PodInjector(index, SystemClock()), review()
    asked = open_review(raw).request

    def inject() -> None:
        for _ in range(2000):
            injector(asked)

    def answer() -> None:
        for _ in range(1000):
            respond(raw, injector)

    bench.time("webhook: injection of one static set", inject, per=2000)

    def plain() -> None:
        for _ in range(200):
            webhook_plain.answer(raw, [body], "2026-03-01T00:00:00Z")

    bench.time("webhook: from review to answer", answer, per=1000)
    bench.time("webhook: from review to answer, plain handler", plain, per=200)
    ratio = bench.report.units("webhook: from review to answer") / bench.report.units(
        "webhook: from review to answer, plain handler"
    )
    bench.report.gate("webhook: from review to answer / plain handler", ratio, 0.33, "no diff, no copy")


def _hostile(bench: Bench) -> None:
    """Measure the reviews that cost most for their size."""
    for name, body in hostile():
        took: list[float] = []
        for _ in range(3):
            began = time.process_time()
            respond(body, _reads_all)
            took.append(time.process_time() - began)
        seconds = statistics.median(took)
        bench.report.add(f"webhook: 7 MiB of {name}", seconds * 1e3, "ms", seconds / calibrate())


def _reads_all(request: AdmissionRequest) -> Answer:
    """Change something, so that the whole object is read and the patch is tried."""
    return patch([{"op": "add", "path": "/metadata", "value": {"seen": bool(request.object)}}])


def hostile() -> Iterator[tuple[str, bytes]]:
    """Yield reviews of 7 MiB of which each is the worst for some step."""
    first = (
        b'{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"1","operation":"CREATE",'
        b'"object":{"spec":{},"a":'
    )
    last = b"}}}"
    room = LARGEST - len(first) - len(last) - 16
    most = MAX_VALUES - 4
    pad = b"x" * (room // most - 13)
    chain = b"[" * 190 + b"]" * 190 + b","
    inner: dict[str, Callable[[], bytes]] = {
        "brackets in a text": lambda: b'"' + b"[" * room + b'"',
        "short texts with brackets": lambda: b"[" + b'"[",' * (room // 4) + b"1]",
        "backslashes": lambda: b'"' + b"\\\\" * (room // 2) + b'"',
        "empty lists": lambda: b"[" + b"[]," * (room // 3) + b"1]",
        "deep lists": lambda: b"[" + chain * (room // len(chain)) + b"1]",
        "numbers": lambda: b"[" + b"1," * (room // 2) + b"1]",
        "as many members as may be": lambda: b"{" + b",".join(b'"k%07d":"%b"' % (n, pad) for n in range(most)) + b"}",
        "members": lambda: b"{" + b",".join(b'"k%07d":1' % n for n in range(room // 13)) + b"}",
    }
    for name, make in inner.items():
        yield name, first + make() + last
