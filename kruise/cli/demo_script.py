"""What happens in the demo, act by act, and whether it really did.

Purpose: nodes appear and a manager leads; a BroadcastJob runs (``demo_job``); an Advanced StatefulSet is updated in
place (``demo_set``); a sidecar joins pods and is upgraded in them (``demo_sidecar``); the numbers are right.

Guarantees: NotSeen is raised when something announced does not come; a number that is wrong makes the run end with
False.

What this does not do: it does not act for the manager.
"""

from __future__ import annotations

import asyncio
import json
import math
import re
import shutil
import sys
from typing import Any, Final

import aiohttp

from kruise.cli import demo_counts
from kruise.cli.demo_job import EXIT_CODE, JOB, MANY, RUN_SECONDS, JobAct, job_body
from kruise.cli.demo_set import SET, SetAct, image
from kruise.cli.demo_show import PATIENCE, NotSeen, Teller
from kruise.cli.demo_sidecar import SIDECARSET, SidecarAct
from kruise.cli.demo_stage import Stage
from kruise.cli.demo_view import View
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.apiserver.webhooks_config import MUTATING, VALIDATING
from kruise.simulator.behaviour import DOMAIN

__all__ = ["Show"]

Body = dict[str, Any]

_RECONCILES: Final = re.compile(
    r'^controller_runtime_reconcile_total\{controller="[\w-]+-controller",result="\w+"\} ([0-9.e+]+)$', re.MULTILINE
)


class Webhooks:
    """Whether the API server knows where the manager answers, and by which certificate it is known."""

    def __init__(self) -> None:
        self._known: dict[str, set[str]] = {}

    async def hear(self, commit: Commit) -> None:
        """Take in a commit."""
        if commit.resource in (MUTATING, VALIDATING):
            hooks = [hook["clientConfig"] for hook in commit.new.obj.get("webhooks") or ()]
            self._known[commit.resource] = {hook.get("url", "") if hook.get("caBundle") else "" for hook in hooks}

    @property
    def reached(self) -> bool:
        """Whether every webhook of both configurations can be called."""
        return (
            len(self._known) == 2 and all(self._known.values()) and not any("" in one for one in self._known.values())
        )

    @property
    def where(self) -> str:
        """Scheme, host and port of all of them."""
        return ", ".join(sorted({url[: url.index("/", 8)] for one in self._known.values() for url in one}))


class Show:
    """One performance."""

    def __init__(
        self, stage: Stage, view: View, *, nodes: int, speed: float, stop: asyncio.Event, keep: bool = False
    ) -> None:
        self._stage = stage
        self._view = view
        self._nodes = nodes
        self._keep = keep
        self._teller = Teller(stage, view, speed=speed, stop=stop)
        self._job = JobAct(self._teller, nodes=nodes)
        self._set = SetAct(self._teller, nodes=nodes)
        self._sidecar = SidecarAct(self._teller, nodes=nodes)
        self._webhooks = Webhooks()
        self._teller.listeners += [self._webhooks.hear, self._job.hear, self._set.hear, self._sidecar.hear]

    async def run(self) -> bool:
        """Play; tell whether every number is right. Raises NotSeen, Interrupted."""
        with self._teller:
            await self._the_cluster()
            await self._job.play()
            await self._set.play()
            await self._sidecar.play()
            right = await self._the_numbers()
        self._view.title("And now" if right else "NOT as it should be: see WRONG above")
        if right:
            self._how_to_go_on()
        return right

    async def hold(self) -> None:
        """Leave everything running until the person at the keyboard ends it. Raises NotSeen when the manager ends."""
        stop = self._teller.stop
        while not stop.is_set():
            if not self._stage.manager.running:
                raise NotSeen(f"the manager has ended: {self._stage.manager.error}")
            self._teller.server.log.clear()
            try:
                async with asyncio.timeout(1.0):
                    await stop.wait()
            except TimeoutError:
                continue

    async def _the_cluster(self) -> None:
        teller, job = self._teller, self._job
        self._view.say("A cluster in this process: API server, scheduler, garbage collector, nodes; and the manager.")
        self._view.title("The cluster")
        teller.say(f"the API server listens on {self._stage.cluster.url}")
        await teller.until(lambda: bool(job.picture.holder), "a manager that holds the Lease")
        await teller.until(lambda: self._webhooks.reached, "webhooks that the API server can call")
        teller.say(f"its webhooks: {self._webhooks.where}, with a certificate of its own")
        agent = self._stage.cluster.agent
        assert agent is not None
        rest = [f"node-{number}" for number in range(1, self._nodes)]
        step = 1 if self._nodes <= MANY else math.ceil(self._nodes / 10)
        for first in range(0, len(rest), step):
            names = rest[first : first + step]
            await agent.keeper.register([name for name in names if name != job.failing])
            if job.failing in names:
                await agent.keeper.register([job.failing], annotations={f"{DOMAIN}/exit-codes": str(EXIT_CODE)})
            await teller.pause(min(0.4, 4.0 * step / self._nodes))
        await teller.until(
            lambda: sum(job.picture.nodes.values()) == self._nodes, f"{self._nodes} nodes that are Ready"
        )
        if self._nodes > MANY:
            teller.say(f"{self._nodes} nodes are Ready")
        await teller.pause(1.0)

    async def _the_numbers(self) -> bool:
        self._view.title("What it took")
        calls = self._teller.server.log.calls
        manager = self._stage.manager
        before = self._set.phases["create"].first
        sidecars = self._sidecar.figures
        assert sidecars is not None
        jobs = demo_counts.Job(self._nodes + 1, self._job.running)
        found = [
            *demo_counts.job_figures(calls[:before], jobs),
            *demo_counts.set_figures(calls[: sidecars.first], list(self._set.phases.values()), lasted=self._set.lasted),
            *demo_counts.sidecar_figures(calls, sidecars),
            *demo_counts.manager_figures(
                calls,
                pods=jobs.nodes + 4 * self._set.replicas + 2 * sidecars.pods,
                alive=self._teller.seconds,
                reconciles=await self._reconciles(),
                cpu=await manager.cpu_seconds(),
            ),
        ]
        for line in demo_counts.render(found):
            self._view.say(line)
        return all(figure.right for figure in found)

    async def _reconciles(self) -> float:
        address = await self._stage.metrics_address()
        try:
            timeout = aiohttp.ClientTimeout(total=PATIENCE)
            async with aiohttp.ClientSession(timeout=timeout) as session, session.get(address) as answer:
                text = await answer.text()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise NotSeen(f"metrics on {address}: {error}") from error
        return sum(map(float, _RECONCILES.findall(text)))

    def _how_to_go_on(self) -> None:
        say = self._view.say
        if not self._keep:
            say("The cluster is gone with this process. To keep one for kubectl:")
            say("  make demo ARGS=--keep     (or: kruise demo --keep)")
            return
        again = self._stage.folder / "again.yaml"
        body = job_body("again", parallelism=self._job.parallelism, run_seconds=RUN_SECONDS)
        again.write_text(json.dumps(body, indent=2) + "\n", "utf-8")  # JSON is YAML, and kubectl reads it
        kruise = "kruise" if shutil.which("kruise") else sys.argv[0]
        replace = f'[{{"op":"replace","path":"/spec/template/spec/containers/0/image","value":"{image(5)}"}}]'
        say("The cluster keeps running. In a second terminal:")
        say(f"  export KUBECONFIG={self._stage.kubeconfig}")
        say("  kubectl get nodes,bcj,asts,scs,pods -o wide")
        say(f"  kubectl patch asts {SET} --type json -p '{replace}'     # one more update in place")
        say(f"  {kruise} status asts/{SET} -w")
        say(f"  kubectl scale asts {SET} --replicas=3")
        say(f"  {kruise} status scs/{SIDECARSET}")
        say(f"  kubectl describe bcj {JOB}")
        say(f"  kubectl annotate node {self._job.failing} {DOMAIN}/exit-codes-     # repair the node")
        say(f"  kubectl create -f {again}     # and run the job once more")
        say("  kubectl get bcj again -w")
        say(f"  {kruise} status bcj/again -w")
        say("Ctrl-C here ends it.")
