"""The second act of the demo: an Advanced StatefulSet is updated in place, stopped by a bad image, and repaired.

Guarantees:

* What a scene announces is waited for; NotSeen is raised when it does not come, or a number is wrong.
* "The same pod" is checked, not assumed: uid, node and IP of every pod before and after each update, and that its
  container is another one.
* What was out of service at once is counted at every commit.

What this does not do: it does not act for the manager; nobody but the manager creates, changes or deletes a pod.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.cli.answer import DEGRADED, DONE, columns
from kruise.cli.demo_counts import Phase
from kruise.cli.demo_pods import SETS, Face, SetPicture, is_ready, told
from kruise.cli.demo_show import ACTOR, Teller
from kruise.cli.demo_view import Cell, Sheet
from kruise.cli.seen_statefulset import Seen, pod_rows, seen_of
from kruise.controllers.common.readiness import IN_PLACE_GATE
from kruise.controllers.common.reasons import Reason
from kruise.simulator.apiserver.bodies import JSON_PATCH
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.behaviour import DOMAIN

__all__ = ["BAD", "BUDGET", "SET", "SetAct", "image", "set_body"]

Body = dict[str, Any]

SET: Final = "web"
BUDGET: Final = 2
MOST: Final = 8
"""Replicas on a large cluster: a set has no pod on every node, and a table has to be read."""
START: Final = 0.5
READY: Final = 1.0
"""Seconds until a container runs, and from there until it is ready."""
BAD: Final = f"{DOMAIN}/pull-fail:v3"
"""An image that no simulated node can pull."""
HEADER: Final = ("ORDINAL", "NODE", "IP", "REVISION", "RESTARTS", "STATE", "REASON")


def image(version: int) -> str:
    """Return the image of a version of the set."""
    return f"registry.example.com/web:v{version}"


def set_body(name: str, *, replicas: int, speed: float = 1.0) -> Body:
    """Return the set of the demo."""
    times = {f"{DOMAIN}/start-seconds": f"{START / speed:g}", f"{DOMAIN}/ready-seconds": f"{READY / speed:g}"}
    return {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "StatefulSet",
        "metadata": {"name": name},
        "spec": {
            "replicas": replicas,
            "serviceName": name,
            "selector": {"matchLabels": {"app": name}},
            "podManagementPolicy": "Parallel",
            "updateStrategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": BUDGET, "podUpdatePolicy": "InPlaceIfPossible"},
            },
            "template": {
                "metadata": {"labels": {"app": name}, "annotations": times},
                "spec": {
                    "readinessGates": [{"conditionType": IN_PLACE_GATE}],
                    "containers": [{"name": "main", "image": image(1)}],
                },
            },
        },
    }


class SetAct:
    """The act."""

    def __init__(self, teller: Teller, *, nodes: int) -> None:
        self._teller = teller
        self.replicas = min(nodes, MOST)
        self.picture = SetPicture(SET)
        self.phases: dict[str, Phase] = {}
        self.lasted = 0.0
        """Seconds from the creation of the set to the end of the act."""

    async def play(self) -> None:
        """Play the act. Raises NotSeen, Interrupted."""
        began = self._teller.clock.monotonic()
        self._teller.sheet = self._sheet
        await self._the_set()
        await self._a_new_image()
        await self._a_bad_image()
        await self._the_repair()
        self.lasted = self._teller.clock.monotonic() - began
        self._teller.sheet = None
        self._teller.view.draw(None)

    # Scenes.

    async def _the_set(self) -> None:
        teller = self._teller
        teller.view.title(f"An Advanced StatefulSet: {self.replicas} pods that can be updated in place")
        first = len(teller.server.log)
        body = set_body(SET, replicas=self.replicas, speed=teller.speed)
        await teller.does(lambda: teller.server.create(SETS, body, actor=ACTOR))
        teller.say(f"{SET} is created: Parallel, maxUnavailable {BUDGET}, InPlaceIfPossible")
        await teller.until(self._complete(image(1)), f"{self.replicas} pods that are ready", self._wave())
        self._end("create", first, self.replicas)
        await teller.pause(0.5)
        self._show_pods()
        await teller.pause(1.0)

    async def _a_new_image(self) -> None:
        teller, before = self._teller, self.picture.faces()
        teller.view.title(f"A new image: updated in place, {BUDGET} pods at a time")
        first, began = len(teller.server.log), teller.clock.monotonic()
        await self._set_image(image(2))
        waves = -(-self.replicas // BUDGET)
        await teller.until(self._complete(image(2)), f"{self.replicas} pods with {image(2)}", waves * self._wave())
        took = teller.clock.monotonic() - began
        self._end("update", first, self.replicas)
        self._same_pods(before, self.picture.faces(), restarted=set(before))
        teller.say(f"{SET} is updated in {took:.1f} s: the same {self.replicas} pods, on the same nodes, same IPs")
        teller.say(f"never more than {self.picture.most_out} of {self.replicas} out of service")
        await teller.pause(0.5)
        self._show_pods()
        await teller.pause(1.0)

    async def _a_bad_image(self) -> None:
        teller = self._teller
        teller.view.title("A bad image: the update stops at the budget, and says why")
        first = len(teller.server.log)
        await self._set_image(BAD)
        await teller.until(
            lambda: (
                len(self.picture.waiting()) == BUDGET
                and self.picture.condition("Progressing") == ("False", "ImagePullFailed")
            ),
            f"{BUDGET} pods that cannot pull, and a set that says so",
            self._wave(),
        )
        await teller.pause(1.5)
        self._end("bad", first, BUDGET)
        teller.must("pods that cannot pull", len(self.picture.waiting()), BUDGET)
        teller.must("pods in service", self.picture.ready(), self.replicas - BUDGET)
        answer = await teller.ask(f"asts/{SET}")
        reasons = [one["reason"] for one in answer.document["decisions"]]
        wanted = ["MaxUnavailableReached"] * (self.replicas - BUDGET) + ["ImagePullFailed"] * BUDGET
        teller.must("reasons of `kruise status`", reasons, wanted)
        teller.must("exit code of `kruise status`", answer.code, DEGRADED)
        await teller.pause(1.5)

    async def _the_repair(self) -> None:
        teller, before = self._teller, self.picture.faces()
        stuck = set(self.picture.waiting())
        teller.view.title("The next template repairs it")
        first = len(teller.server.log)
        await self._set_image(image(4))
        waves = 1 + -(-self.replicas // BUDGET)
        await teller.until(self._complete(image(4)), f"{self.replicas} pods with {image(4)}", waves * self._wave())
        self._end("repair", first, self.replicas, stuck=len(stuck))
        self._same_pods(before, self.picture.faces(), restarted=set(before) - stuck)
        teller.must("deleted pods", self.picture.deleted, 0)
        teller.say(f"{SET} is updated: the same {self.replicas} pods, none was deleted")
        answer = await teller.ask(f"asts/{SET}")
        teller.must("reasons of `kruise status`", answer.document["decisions"], [])
        teller.must("exit code of `kruise status`", answer.code, DONE)
        await teller.pause(1.0)

    # What happens.

    async def _set_image(self, wanted: str) -> None:
        teller = self._teller
        self.picture.forget()
        path = {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": wanted}
        await teller.does(lambda: teller.server.patch(SETS, SET, [path], content_type=JSON_PATCH, actor=ACTOR))
        teller.say(f"{SET}: the image in its template is now {wanted}")

    def _complete(self, wanted: str) -> Callable[[], bool]:
        """Return whether every pod runs *wanted* and is in service, and the set says so."""

        def done() -> bool:
            status, pods = self.picture.status, self.picture.pods
            return (
                len(pods) == self.replicas
                and all(is_ready(p) for p in pods.values())
                and all(f.image == wanted for f in self.picture.faces().values())
                and status.get("updatedReadyReplicas") == status.get("availableReplicas") == self.replicas
                and status.get("currentRevision") == status.get("updateRevision") == self._latest(wanted)
                and self.picture.condition("Ready")[0] == "True"
            )

        return done

    def _latest(self, wanted: str) -> str:
        """Return the name of the revision of *wanted*; ``?`` when there is none."""
        for name, revision in self.picture.revisions.items():
            if revision["data"]["spec"]["template"]["spec"]["containers"][0]["image"] == wanted:
                return name
        return "?"

    def _same_pods(self, before: dict[int, Face], after: dict[int, Face], *, restarted: set[int]) -> None:
        must = self._teller.must
        must("uid, node and IP", {o: f.place for o, f in after.items()}, {o: f.place for o, f in before.items()})
        must("other containers", all(after[o].container != before[o].container for o in before), True)
        must("restarts", {o: after[o].restarts - before[o].restarts for o in restarted}, dict.fromkeys(restarted, 1))
        most = self.picture.most_out
        must("pods out of service at once", most, min(most, BUDGET))

    def _wave(self) -> float:
        return (START + READY) / self._teller.speed

    def _end(self, what: str, first: int, pods: int, *, stuck: int = 0) -> None:
        self.phases[what] = Phase(what, first, len(self._teller.server.log), pods, stuck)

    # What is told.

    async def hear(self, commit: Commit) -> None:
        """Take in a commit, and tell of it."""
        for event in self.picture.take(commit):
            self._teller.say(told(event))

    def seen(self) -> Seen | None:
        """Return the set as the planner sees it; ``None`` before it has a revision."""
        picture = self.picture
        return seen_of(picture.set, picture.pods.values(), (), picture.revisions.values(), now=self._teller.clock.now())

    def _rows(self) -> list[tuple[str, ...]]:
        seen = self.seen()
        if seen is None:
            return []
        faces = self.picture.faces()
        return [
            (
                str(row.ordinal),
                row.node or "-",
                faces[row.ordinal].ip if row.ordinal in faces else "-",
                row.revision or "-",
                str(faces[row.ordinal].restarts) if row.ordinal in faces else "-",
                row.state,
                row.reason or "-",
            )
            for row in pod_rows(seen)
        ]

    def _show_pods(self) -> None:
        for line in columns([HEADER, *self._rows()]):
            self._teller.view.say(line)

    def _sheet(self) -> Sheet:
        status = self.picture.status
        said = self.picture.condition("Progressing")[1]
        counts = (status.get(name) or 0 for name in ("replicas", "updatedReplicas", "readyReplicas"))
        replicas, updated, ready = counts
        return Sheet(
            f"StatefulSet {SET}: {said or 'not seen by a manager yet'}",
            HEADER,
            tuple((*row[:5], Cell(row[5], _style(row[5], row[6])), row[6]) for row in self._rows()),
            f"pods {replicas}   updated {updated}   ready {ready}",
        )


_BAD: Final = frozenset(map(str, (Reason.IMAGE_PULL_FAILED, Reason.CRASH_LOOPING, Reason.POD_UNSCHEDULABLE)))


def _style(state: str, reason: str) -> str:
    if reason in _BAD:
        return "bad"
    return {"Available": "good", "Missing": "dim"}.get(state, "busy")
