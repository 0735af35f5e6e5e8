"""What happens in the demo, scene by scene, and whether it really did.

Purpose: nodes appear, a BroadcastJob runs on them, a node joins, a pod fails, the job completes, the numbers are right.

Guarantees:

* The lines come from commits of the API server, in their order. What a scene announces is waited for, and NotSeen is
  raised when it does not come.
* The waves are half a run apart: the first node is told to be twice as fast. So the order of the lines is the same
  each time.

What this does not do: it does not act for the manager; nobody but the manager creates a pod or writes a status.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import re
import shutil
import sys
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import aiohttp

from kruise.cli import demo_counts, status
from kruise.cli.cluster import connect
from kruise.cli.demo_picture import JOBS, Happening, Interrupted, Kind, NotSeen, Picture
from kruise.cli.demo_stage import Stage
from kruise.cli.demo_view import View
from kruise.runtime.client.rest import USER_AGENT
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.behaviour import DOMAIN

__all__ = ["Show", "job_body"]

Body = dict[str, Any]

JOB: Final = "sweep"
EXIT_CODE: Final = 3
RUN_SECONDS: Final = 4.0
PATIENCE: Final = 30.0
"""Seconds beyond its own length that a scene may take before it counts as not seen."""
MANY: Final = 16
"""With more nodes than this, pods are told of in tenths and not one by one."""
ACTOR: Final = "demo"
_RECONCILES: Final = re.compile(
    r'^controller_runtime_reconcile_total\{controller="broadcastjob-controller",result="\w+"\} ([0-9.e+]+)$',
    re.MULTILINE,
)


def job_body(name: str, *, parallelism: int, run_seconds: float) -> Body:
    """Return the job of the demo."""
    return {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "BroadcastJob",
        "metadata": {"name": name},
        "spec": {
            "parallelism": parallelism,
            "failurePolicy": {"type": "Continue"},
            "template": {
                "metadata": {"annotations": {f"{DOMAIN}/run-seconds": f"{run_seconds:g}"}},
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{"name": "sweep", "image": "busybox:1.37", "command": ["sh", "-c", "df -h /"]}],
                },
            },
        },
    }


class Show:
    """One performance."""

    def __init__(
        self, stage: Stage, view: View, *, nodes: int, speed: float, stop: asyncio.Event, keep: bool = False
    ) -> None:
        self._stage = stage
        self._view = view
        self._nodes = nodes
        self._speed = speed
        self._stop = stop
        self._keep = keep
        self._server = stage.cluster.server
        self._clock = stage.clock
        self._began = stage.clock.monotonic()
        self._commits: deque[Commit] = deque()
        self._wake = asyncio.Event()
        self.picture = Picture(JOB)
        self.parallelism = max(2, math.ceil(nodes / 3))
        self.failing = f"node-{min(3, nodes - 2)}"
        self.joining = f"node-{nodes}"
        self._ended_after_failure = 0

    async def run(self) -> bool:
        """Play; tell whether every number is right. Raises NotSeen, Interrupted."""
        listeners = self._server.storage.listeners
        backlog = list(self._server.storage.commits)
        listeners.append(self._on_commit)
        self._commits.extend(backlog)
        try:
            await self._the_cluster()
            began = await self._the_job()
            await self._a_node_joins()
            await self._a_pod_fails()
            running = await self._the_end(began)
            self._view.draw(None)
            await self._the_reasons()
            right = await self._the_numbers(running)
        finally:
            listeners.remove(self._on_commit)
        self._view.title("And now" if right else "NOT as it should be: see WRONG above")
        if right:
            self._how_to_go_on()
        return right

    async def hold(self) -> None:
        """Leave everything running until the person at the keyboard ends it. Raises NotSeen when the manager ends."""
        while not self._stop.is_set():
            if not self._stage.manager.running:
                raise NotSeen(f"the manager has ended: {self._stage.manager.error}")
            self._server.log.clear()
            try:
                async with asyncio.timeout(1.0):
                    await self._stop.wait()
            except TimeoutError:
                continue

    # Scenes.

    async def _the_cluster(self) -> None:
        self._view.say("A cluster in this process: API server, scheduler, garbage collector, nodes; and the manager.")
        self._view.title("The cluster")
        self._say(f"the API server listens on {self._stage.cluster.url}")
        await self._until(lambda: bool(self.picture.holder), "a manager that holds the Lease")
        agent = self._stage.cluster.agent
        assert agent is not None
        rest = [f"node-{number}" for number in range(1, self._nodes)]
        step = 1 if self._nodes <= MANY else math.ceil(self._nodes / 10)
        for first in range(0, len(rest), step):
            names = rest[first : first + step]
            await agent.keeper.register([name for name in names if name != self.failing])
            if self.failing in names:
                await agent.keeper.register([self.failing], annotations={f"{DOMAIN}/exit-codes": str(EXIT_CODE)})
            await self._pause(min(0.4, 4.0 * step / self._nodes))
        await self._until(lambda: self._ready() == self._nodes, f"{self._nodes} nodes that are Ready")
        if self._nodes > MANY:
            self._say(f"{self._nodes} nodes are Ready")
        await self._pause(1.0)

    async def _the_job(self) -> float:
        self._view.title(f"A BroadcastJob: one pod on every node, {self.parallelism} at a time")
        seconds = RUN_SECONDS / self._speed
        fast = {"metadata": {"annotations": {f"{DOMAIN}/run-seconds": f"{seconds / 2:g}"}}}
        self._server.patch("nodes", "node-0", fast, actor=ACTOR)
        began = self._clock.monotonic()
        self._server.create(JOBS, job_body(JOB, parallelism=self.parallelism, run_seconds=seconds), actor=ACTOR)
        self._say(f"{JOB} is created: parallelism {self.parallelism}, failurePolicy Continue")
        await self._until(lambda: self.picture.ended() >= 2, "two pods that end", 2 * seconds)
        return began

    async def _a_node_joins(self) -> None:
        self._view.title("A node joins while the job runs")
        agent = self._stage.cluster.agent
        assert agent is not None
        await agent.keeper.register([self.joining])
        await self._until(
            lambda: self.picture.totals()[0] == self._nodes + 1, f"a job that wants {self._nodes + 1} pods"
        )

    async def _a_pod_fails(self) -> None:
        seconds = 4 * RUN_SECONDS / self._speed
        await self._until(
            lambda: any(p.phase == "Failed" for p in self.picture.on(self.failing)),
            f"a pod that fails on {self.failing}",
            seconds,
        )
        if (code := self.picture.on(self.failing)[0].exit_code) != EXIT_CODE:
            raise NotSeen(f"the pod on {self.failing} ended with exit code {code}, not {EXIT_CODE}")
        await self._until(lambda: self._ended_after_failure > 0, "a pod that ends after the failed one", seconds)

    async def _the_end(self, began: float) -> float:
        seconds = 4 * RUN_SECONDS / self._speed
        await self._until(lambda: self.picture.status.get("phase") == "completed", "a job that completes", seconds)
        running = self._clock.monotonic() - began
        total = self._nodes + 1
        self._must("desired, active, succeeded, failed", self.picture.totals(), (total, 0, total - 1, 1))
        self._must("pods of each node", {len(self.picture.on(n)) for n in self.picture.nodes}, {1})
        self._must("pods of the node that joined", [p.phase for p in self.picture.on(self.joining)], ["Succeeded"])
        most = self.picture.most_active
        # With very many nodes pods may end faster than the next ones are created.
        self._must("most pods active at once", most, min(most, self.parallelism))
        self._must("pods side by side", most > 1, True)
        desired, _, succeeded, failed = self.picture.totals()
        self._say(f"{JOB} is completed: {desired} nodes, {succeeded} succeeded, {failed} failed")
        self._say(f"never more than {self.picture.most_active} pods at once, never two on a node")
        await self._pause(1.0)
        return running

    async def _the_reasons(self) -> None:
        self._view.title("Which node failed, and why?")
        self._view.say(f"$ kruise status bcj/{JOB}")
        async with connect(argparse.Namespace(kubeconfig=str(self._stage.kubeconfig), context=None)) as cluster:
            job, seen = await status.observe(cluster, Key("default", JOB))
        for line in status.as_table(job, seen).splitlines():
            self._view.say(line)
        nodes = {n["node"]: (n["reason"], n.get("exitCode")) for n in json.loads(status.as_json(job, seen))["nodes"]}
        wanted = dict.fromkeys(self.picture.nodes, ("PodSucceeded", None))
        self._must("reasons of `kruise status`", nodes, wanted | {self.failing: ("PodFailed", EXIT_CODE)})
        await self._pause(1.0)

    async def _the_numbers(self, running: float) -> bool:
        self._view.title("What it took")
        manager = self._stage.manager
        found = demo_counts.figures(
            self._server.log.find(actor=USER_AGENT),
            nodes=self._nodes + 1,
            running=running,
            alive=self._clock.monotonic() - self._began,
            reconciles=await self._reconciles(),
            cpu=await manager.cpu_seconds(),
        )
        for line in demo_counts.render(found):
            self._view.say(line)
        return all(figure.right for figure in found)

    async def _reconciles(self) -> float:
        address = await self._metrics_address()
        try:
            timeout = aiohttp.ClientTimeout(total=PATIENCE)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(address) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotSeen(f"metrics on {address}: {error}") from error
        return sum(map(float, _RECONCILES.findall(text)))

    async def _metrics_address(self) -> str:
        server = await self._stage.manager.ask(lambda m: m.metrics_server.server)
        if server is None or server.bound is None:
            raise NotSeen("a manager that serves metrics")
        return f"http://{server.bound}/metrics"

    def _how_to_go_on(self) -> None:
        say = self._view.say
        if not self._keep:
            say("The cluster is gone with this process. To keep one for kubectl:")
            say("  make demo ARGS=--keep     (or: kruise demo --keep)")
            return
        again = self._stage.folder / "again.yaml"
        body = job_body("again", parallelism=self.parallelism, run_seconds=RUN_SECONDS)
        again.write_text(json.dumps(body, indent=2) + "\n", "utf-8")  # JSON is YAML, and kubectl reads it
        kruise = "kruise" if shutil.which("kruise") else sys.argv[0]
        say("The cluster keeps running. In a second terminal:")
        say(f"  export KUBECONFIG={self._stage.kubeconfig}")
        say("  kubectl get nodes,bcj,pods -o wide")
        say(f"  kubectl describe bcj {JOB}")
        say(f"  kubectl annotate node {self.failing} {DOMAIN}/exit-codes-     # repair the node")
        say(f"  kubectl create -f {again}     # and run the job once more")
        say("  kubectl get bcj again -w")
        say(f"  {kruise} status bcj/again -w")
        say("Ctrl-C here ends it.")

    # Time, and what it brings.

    async def _until(
        self, condition: Callable[[], bool], what: str, length: float = 0.0, *, every: float = 0.2
    ) -> None:
        """Tell what happens until *condition* holds. Raises NotSeen after *length* and some patience.

        *every* is for how many seconds nothing may happen before *condition* is asked again.
        """
        deadline = self._clock.monotonic() + length + PATIENCE
        while True:
            while not condition() and self._commits:
                for happening in self.picture.take(self._commits.popleft()):
                    await self._tell(happening)
            if condition():
                return
            if self._stop.is_set():
                raise Interrupted
            if not self._stage.manager.running:
                raise NotSeen(f"{what}; the manager has ended: {self._stage.manager.error}")
            if self._clock.monotonic() > deadline:
                raise NotSeen(f"{what}; waited {length + PATIENCE:.0f} s")
            self._view.draw(self.picture)
            await self._next(every)

    async def _pause(self, seconds: float) -> None:
        """Give a person time to read; what happens meanwhile is told."""
        length = seconds / self._speed
        end = self._clock.monotonic() + length
        await self._until(lambda: self._clock.monotonic() >= end, "the end of a pause", length, every=min(0.2, length))

    async def _next(self, seconds: float) -> None:
        self._wake.clear()
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return

    def _on_commit(self, commit: Commit) -> None:
        self._commits.append(commit)
        self._wake.set()

    async def _tell(self, happening: Happening) -> None:
        node = happening.subject
        match happening.kind:
            case Kind.LEADS:
                self._say("the manager leads: it holds the Lease kruise-system/kruise-manager")
                self._say(f"its metrics: {await self._metrics_address()}")
            case Kind.READY if self._nodes <= MANY or node == self.joining:
                self._say(f"{node}: Ready")
            case Kind.WANTS if happening.number > self._nodes:
                self._say(f"{JOB} wants {happening.number} pods now")
            case Kind.RUNS if self._nodes <= MANY:
                self._say(f"{node}: pod runs")
            case Kind.SUCCEEDED:
                self._after_failure()
                if self._nodes <= MANY:
                    self._say(f"{node}: pod succeeded")
                elif self.picture.ended() % (self._nodes // 10) == 0:
                    self._say(f"{self.picture.ended()} of {len(self.picture.nodes)} nodes are done")
            case Kind.FAILED:
                self._view.title("A pod fails; failurePolicy Continue lets the job go on")
                self._say(f"{node}: pod failed, exit code {happening.number}")
            case Kind.ENDED if node != "completed":
                raise NotSeen(f"a job that completes: it is {node}")

    def _after_failure(self) -> None:
        if any(pod.phase == "Failed" for pod in self.picture.pods.values()):
            self._ended_after_failure += 1

    def _ready(self) -> int:
        return sum(self.picture.nodes.values())

    def _must(self, what: str, seen: object, wanted: object) -> None:
        if seen != wanted:
            raise NotSeen(f"{what}: {seen}, must be {wanted}")

    def _say(self, text: str) -> None:
        self._view.say(f"{self._clock.monotonic() - self._began:6.1f} s  {text}")
