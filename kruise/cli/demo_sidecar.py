"""The third act of the demo: a sidecar joins pods when they are created, and is upgraded while they run.

Guarantees:

* What a scene announces is waited for; NotSeen is raised when it does not come, or a number is wrong.
* "Injected" is checked: what the person sends has one container, and what the API server stores has two. "The
  application does not notice" is checked too: uid, node, IP and the application's own container of every pod are what
  they were.
* What was out of service at once is counted at every commit.

What this does not do: it does not act for the manager; the person creates pods and changes the SidecarSet, no more.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.cli.answer import DONE, columns
from kruise.cli.demo_counts import Sidecars
from kruise.cli.demo_pods import is_ready, told
from kruise.cli.demo_show import ACTOR, Teller
from kruise.cli.demo_sidecar_pods import APP, SIDECAR, SIDECARS, Pair, SidecarPicture, image_of
from kruise.cli.demo_view import Cell, Sheet
from kruise.simulator.apiserver.bodies import JSON_PATCH
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.behaviour import DOMAIN

__all__ = ["BUDGET", "SIDECARSET", "SidecarAct", "pod_body", "sidecarset_body"]

Body = dict[str, Any]

SIDECARSET: Final = "logs"
APPLICATION: Final = "shop"
BUDGET: Final = 2
MOST: Final = 4
"""Pods of the application; fewer on a smaller cluster."""
START: Final = 0.5
READY: Final = 0.8
"""Seconds until a container runs, and from there until it is ready."""
HEADER: Final = ("POD", "NODE", "IP", "APP", "SIDECAR", "RESTARTS", "STATE")


def sidecar_image(version: int) -> str:
    """Return the image of a version of the sidecar."""
    return f"registry.example.com/{SIDECAR}:v{version}"


def sidecarset_body(name: str) -> Body:
    """Return the SidecarSet of the demo."""
    return {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "SidecarSet",
        "metadata": {"name": name},
        "spec": {
            "selector": {"matchLabels": {"app": APPLICATION}},
            "updateStrategy": {"type": "RollingUpdate", "maxUnavailable": BUDGET},
            "containers": [{"name": SIDECAR, "image": sidecar_image(1)}],
        },
    }


def pod_body(name: str, *, speed: float = 1.0) -> Body:
    """Return a pod of the application, as a person or any workload sends it: without a sidecar."""
    times = {f"{DOMAIN}/start-seconds": f"{START / speed:g}", f"{DOMAIN}/ready-seconds": f"{READY / speed:g}"}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": APPLICATION}, "annotations": times},
        "spec": {"containers": [{"name": APP, "image": "registry.example.com/shop:v7"}]},
    }


class SidecarAct:
    """The act."""

    def __init__(self, teller: Teller, *, nodes: int) -> None:
        self._teller = teller
        self.pods = min(nodes, MOST)
        self.picture = SidecarPicture(SIDECARSET, APPLICATION)
        self.figures: Sidecars | None = None
        """What the request log has of the act; known at its end."""

    async def play(self) -> None:
        """Play the act. Raises NotSeen, Interrupted."""
        teller = self._teller
        first, began = len(teller.server.log), teller.clock.monotonic()
        teller.sheet = self._sheet
        await self._the_set()
        upgrade = await self._the_pods()
        await self._a_new_sidecar()
        lasted = teller.clock.monotonic() - began
        self.figures = Sidecars(first, upgrade, len(teller.server.log), self.pods, lasted)
        teller.sheet = None
        teller.view.draw(None)

    # Scenes.

    async def _the_set(self) -> None:
        teller = self._teller
        teller.view.title("A SidecarSet: its container joins every new pod of an application")
        await teller.does(lambda: teller.server.create(SIDECARS, sidecarset_body(SIDECARSET), actor=ACTOR))
        teller.say(f"{SIDECARSET} is created: {SIDECAR} for pods with app={APPLICATION}, maxUnavailable {BUDGET}")
        # A pod gets what the manager knows of by then; its status says that it has seen the set.
        await teller.until(
            lambda: self.picture.status.get("observedGeneration") == 1, "a SidecarSet that the manager has seen"
        )

    async def _the_pods(self) -> int:
        teller = self._teller
        for number in range(self.pods):
            sent = pod_body(f"{APPLICATION}-{number}", speed=teller.speed)
            stored = await teller.does(lambda body=sent: teller.server.create("pods", body, actor=ACTOR))  # type: ignore[misc]
            before, after = ([c["name"] for c in one["spec"]["containers"]] for one in (sent, stored))
            teller.must(f"containers of {APPLICATION}-{number} as it was sent", before, [APP])
            teller.must(f"containers of {APPLICATION}-{number} as it is stored", sorted(after), sorted([APP, SIDECAR]))
            teller.say(f"{APPLICATION}-{number} is created with {before[0]}; stored with {' and '.join(after)}")
        await teller.until(self._complete(sidecar_image(1)), f"{self.pods} pods with a sidecar", START + READY)
        upgrade = len(teller.server.log)
        await teller.pause(0.3)
        self._show_pods()
        await teller.pause(0.7)
        return upgrade

    async def _a_new_sidecar(self) -> None:
        teller, before = self._teller, self.picture.pairs()
        teller.view.title(f"A new sidecar: upgraded while the application runs, {BUDGET} pods at a time")
        self.picture.forget()
        began = teller.clock.monotonic()
        wanted = sidecar_image(2)
        path = {"op": "replace", "path": "/spec/containers/0/image", "value": wanted}
        await teller.does(
            lambda: teller.server.patch(SIDECARS, SIDECARSET, [path], content_type=JSON_PATCH, actor=ACTOR)
        )
        teller.say(f"{SIDECARSET}: the image of {SIDECAR} is now {wanted}")
        waves = -(-self.pods // BUDGET)
        await teller.until(self._complete(wanted), f"{self.pods} pods with {wanted}", waves * (START + READY))
        took = teller.clock.monotonic() - began
        self._only_the_sidecar(before, self.picture.pairs())
        teller.say(
            f"{SIDECARSET} is upgraded in {took:.1f} s: same pods, and no container of the application restarted"
        )
        teller.say(f"never more than {self.picture.most_out} of {self.pods} out of service")
        await teller.pause(0.3)
        self._show_pods()
        answer = await teller.ask(f"scs/{SIDECARSET}")
        teller.must("exit code of `kruise status`", answer.code, DONE)
        await teller.pause(1.0)

    # What happens.

    def _complete(self, wanted: str) -> Callable[[], bool]:
        """Return whether the sidecar of every pod runs *wanted*, every pod is in service, and the set says so."""

        def done() -> bool:
            picture = self.picture
            return (
                len(picture.pods) == picture.ready() == self.pods
                and all(pair.image == wanted for pair in picture.pairs().values())
                and picture.counts() == (self.pods,) * 4
                and picture.status.get("observedGeneration") == picture.set["metadata"]["generation"]
            )

        return done

    def _only_the_sidecar(self, before: dict[str, Pair], after: dict[str, Pair]) -> None:
        must = self._teller.must
        untouched = {name: pair.untouched for name, pair in before.items()}
        must("uid, node, IP and application", {name: pair.untouched for name, pair in after.items()}, untouched)
        must("other sidecars", all(after[name].sidecar[0] != before[name].sidecar[0] for name in before), True)
        must("restarts of sidecars", {pair.sidecar[1] for pair in after.values()}, {1})
        must("deleted pods", self.picture.deleted, 0)
        most = self.picture.most_out
        must("pods out of service at once", most, min(most, BUDGET))

    # What is told.

    async def hear(self, commit: Commit) -> None:
        """Take in a commit, and tell of it."""
        for event in self.picture.take(commit):
            self._teller.say(told(event, image="the image of its sidecar"))

    def _rows(self) -> list[tuple[str, ...]]:
        return [
            (
                name,
                pair.node or "-",
                pair.ip or "-",
                "runs" if pair.app[0] else "-",
                image_of(self.picture.pods[name]).rpartition(":")[2] or "-",
                f"{pair.app[1]} + {pair.sidecar[1]}",
                "Ready" if is_ready(self.picture.pods[name]) else "NotReady",
            )
            for name, pair in self.picture.pairs().items()
        ]

    def _show_pods(self) -> None:
        for line in columns([HEADER, *self._rows()]):
            self._teller.view.say(line)

    def _sheet(self) -> Sheet:
        matched, updated, ready, _ = self.picture.counts()
        return Sheet(
            f"SidecarSet {SIDECARSET}",
            HEADER,
            tuple((*row[:6], Cell(row[6], "good" if row[6] == "Ready" else "busy")) for row in self._rows()),
            f"matched {matched}   updated {updated}   ready {ready}",
        )
