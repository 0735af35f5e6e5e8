"""The first act of the demo: a BroadcastJob runs on every node, also on one that joins; a pod fails; it completes.

Guarantees:

* What a scene announces is waited for; NotSeen is raised when it does not come, or a number is wrong.
* The waves are half a run apart: the first node is told to be twice as fast. So the order of the lines is the same
  each time.

What this does not do: it does not act for the manager; nobody but the manager creates a pod or writes a status.
"""

from __future__ import annotations

import math
from typing import Any, Final

from kruise.cli.demo_picture import JOBS, Happening, Kind, Picture, sheet
from kruise.cli.demo_show import ACTOR, NotSeen, Teller
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.behaviour import DOMAIN

__all__ = ["EXIT_CODE", "JOB", "MANY", "RUN_SECONDS", "JobAct", "job_body"]

Body = dict[str, Any]

JOB: Final = "sweep"
EXIT_CODE: Final = 3
RUN_SECONDS: Final = 3.5
MANY: Final = 16
"""With more nodes than this, pods are told of in tenths and not one by one."""


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


class JobAct:
    """The act; its picture also has the nodes of the cluster, and who leads."""

    def __init__(self, teller: Teller, *, nodes: int) -> None:
        self._teller = teller
        self._nodes = nodes
        self.picture = Picture(JOB)
        self.parallelism = max(2, math.ceil(nodes / 3))
        self.failing = f"node-{min(3, nodes - 2)}"
        """The node on which the work fails."""
        self.joining = f"node-{nodes}"
        """The node that joins while the job runs."""
        self.running = 0.0
        """Seconds from the creation of the job to its end."""
        self._ended_after_failure = 0

    async def play(self) -> None:
        """Play the act. Raises NotSeen, Interrupted."""
        self._teller.sheet = lambda: sheet(self.picture)
        began = await self._the_job()
        await self._a_node_joins()
        await self._a_pod_fails()
        await self._the_end(began)
        self._teller.sheet = None
        self._teller.view.draw(None)
        # What a node says of how long containers run, it says of those of the next act too.
        slow = {"metadata": {"annotations": {f"{DOMAIN}/run-seconds": None}}}
        self._teller.server.patch("nodes", "node-0", slow, actor=ACTOR)
        await self._the_reasons()

    async def _the_job(self) -> float:
        teller = self._teller
        teller.view.title(f"A BroadcastJob: one pod on every node, {self.parallelism} at a time")
        seconds = RUN_SECONDS / teller.speed
        fast = {"metadata": {"annotations": {f"{DOMAIN}/run-seconds": f"{seconds / 2:g}"}}}
        teller.server.patch("nodes", "node-0", fast, actor=ACTOR)
        began = teller.clock.monotonic()
        body = job_body(JOB, parallelism=self.parallelism, run_seconds=seconds)
        await teller.does(lambda: teller.server.create(JOBS, body, actor=ACTOR))
        teller.say(f"{JOB} is created: parallelism {self.parallelism}, failurePolicy Continue")
        await teller.until(lambda: self.picture.ended() >= 2, "two pods that end", 2 * seconds)
        return began

    async def _a_node_joins(self) -> None:
        self._teller.view.title("A node joins while the job runs")
        agent = self._teller.stage.cluster.agent
        assert agent is not None
        await agent.keeper.register([self.joining])
        await self._teller.until(
            lambda: self.picture.totals()[0] == self._nodes + 1, f"a job that wants {self._nodes + 1} pods"
        )

    async def _a_pod_fails(self) -> None:
        seconds = 4 * RUN_SECONDS / self._teller.speed
        await self._teller.until(
            lambda: any(p.phase == "Failed" for p in self.picture.on(self.failing)),
            f"a pod that fails on {self.failing}",
            seconds,
        )
        if (code := self.picture.on(self.failing)[0].exit_code) != EXIT_CODE:
            raise NotSeen(f"the pod on {self.failing} ended with exit code {code}, not {EXIT_CODE}")
        await self._teller.until(lambda: self._ended_after_failure > 0, "a pod that ends after the failed one", seconds)

    async def _the_end(self, began: float) -> None:
        teller, must = self._teller, self._teller.must
        seconds = 4 * RUN_SECONDS / teller.speed
        await teller.until(lambda: self.picture.status.get("phase") == "completed", "a job that completes", seconds)
        self.running = teller.clock.monotonic() - began
        total = self._nodes + 1
        must("desired, active, succeeded, failed", self.picture.totals(), (total, 0, total - 1, 1))
        must("pods of each node", {len(self.picture.on(n)) for n in self.picture.nodes}, {1})
        must("pods of the node that joined", [p.phase for p in self.picture.on(self.joining)], ["Succeeded"])
        most = self.picture.most_active
        # With very many nodes pods may end faster than the next ones are created.
        must("most pods active at once", most, min(most, self.parallelism))
        must("pods side by side", most > 1, True)
        desired, _, succeeded, failed = self.picture.totals()
        teller.say(f"{JOB} is completed: {desired} nodes, {succeeded} succeeded, {failed} failed")
        teller.say(f"never more than {self.picture.most_active} pods at once, never two on a node")
        await teller.pause(1.0)

    async def _the_reasons(self) -> None:
        self._teller.view.title("Which node failed, and why?")
        answer = await self._teller.ask(f"bcj/{JOB}")
        nodes = {n["node"]: (n["reason"], n.get("exitCode")) for n in answer.document["nodes"]}
        wanted = dict.fromkeys(self.picture.nodes, ("PodSucceeded", None))
        self._teller.must("reasons of `kruise status`", nodes, wanted | {self.failing: ("PodFailed", EXIT_CODE)})
        await self._teller.pause(1.0)

    async def hear(self, commit: Commit) -> None:
        """Take in a commit, and tell of it."""
        for happening in self.picture.take(commit):
            await self._tell(happening)

    async def _tell(self, happening: Happening) -> None:
        node, say = happening.subject, self._teller.say
        match happening.kind:
            case Kind.LEADS:
                say("the manager leads: it holds the Lease kruise-system/kruise-manager")
                say(f"its metrics: {await self._teller.stage.metrics_address()}")
            case Kind.READY if self._nodes <= MANY or node == self.joining:
                say(f"{node}: Ready")
            case Kind.WANTS if happening.number > self._nodes:
                say(f"{JOB} wants {happening.number} pods now")
            case Kind.RUNS if self._nodes <= MANY:
                say(f"{node}: pod runs")
            case Kind.SUCCEEDED:
                self._after_failure()
                if self._nodes <= MANY:
                    say(f"{node}: pod succeeded")
                elif self.picture.ended() % (self._nodes // 10) == 0:
                    say(f"{self.picture.ended()} of {len(self.picture.nodes)} nodes are done")
            case Kind.FAILED:
                self._teller.view.title("A pod fails; failurePolicy Continue lets the job go on")
                say(f"{node}: pod failed, exit code {happening.number}")
            case Kind.ENDED if node != "completed":
                raise NotSeen(f"a job that completes: it is {node}")

    def _after_failure(self) -> None:
        if any(pod.phase == "Failed" for pod in self.picture.pods.values()):
            self._ended_after_failure += 1
