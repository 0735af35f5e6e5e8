"""``python -m tests.perf.ideal_sidecars``: what an upgrade of sidecars costs when nobody has to decide anything.

The writes of a SidecarSet's upgrade by a client without any controller, like ``tests.perf.ideal`` for sets: the pods
have their sidecars from the start, and each pod is a chain of conditional requests.

* create, delete: POST or DELETE of every pod.
* cold: image of the sidecar, and the condition of the first upgrade; done when the container runs it and the pod is
  ready.
* hot: image of the idle twin, and the condition; once the pod is ready again, the image of the other twin.
"""

from __future__ import annotations

import sys
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from kruise.apis.core import Pod
from kruise.runtime.clock import format_time
from kruise.runtime.errors import Conflict
from kruise.runtime.objects import ObjectMeta, PartialObject
from tests.perf import ideal

STEPS: Final = ("create", "cold", "hot", "delete")
EMPTY: Final = "sim.kruise.io/empty:v1"
CONDITION: Final = "SidecarSetUpgradable"

Body = dict[str, Any]


def _runs(pod: Pod, container: str, image: str) -> bool:
    return any(s.name == container and s.image == image for s in pod.status.container_statuses)


def _ready(pod: Pod) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions)


class Sidecars(ideal.Driver):
    """Makes the writes of SidecarSet."""

    def updates(self) -> Mapping[str, Callable[[str], Awaitable[None]]]:
        """Return how one pod gets the next image, by step."""
        return {"cold": self._cold, "hot": self._hot}

    def body(self, name: str) -> Body:
        """Return a pod with its sidecars: two twins when there will be a hot upgrade."""
        made = super().body(name)
        application = {"name": "main", "image": "registry.example.com/app:v1"}
        if "hot" in self.args.steps:
            images = {"mesh-1": self.image, "mesh-2": EMPTY}
        else:
            images = {"mesh": self.image}
        made["spec"]["containers"] = [*({"name": n, "image": i} for n, i in images.items()), application]
        return made

    async def _cold(self, name: str) -> None:
        await self._set_image(self.pods.now[name], "mesh", self.image)
        await self.pods.pod(name, lambda p: _runs(p, "mesh", self.image) and _ready(p))

    async def _hot(self, name: str) -> None:
        pod = self.pods.now[name]
        idle, busy = ("mesh-2", "mesh-1") if _runs(pod, "mesh-2", EMPTY) else ("mesh-1", "mesh-2")
        await self._set_image(pod, idle, self.image)
        pod = await self.pods.pod(name, lambda p: _runs(p, idle, self.image) and _ready(p))
        await self._set_image(pod, busy, EMPTY)
        await self.pods.pod(name, lambda p: _runs(p, busy, EMPTY) and _ready(p))

    async def _set_image(self, pod: Pod, container: str, image: str) -> None:
        """Write the image of one container, and the condition when the pod has none yet."""
        first = all(c.type != CONDITION for c in pod.status.conditions)
        meta = {"annotations": {f"upgraded/{container}": image}}
        patch = {"metadata": meta, "spec": {"containers": [{"name": container, "image": image}]}}
        while True:
            try:
                answer: ObjectMeta = await self.patch(pod, patch)
                break
            except Conflict:
                pod = await self.newer(pod.metadata)
        seen: Pod | PartialObject = PartialObject(metadata=answer)
        while first:
            now = format_time(self.clock.now())
            condition = {"type": CONDITION, "status": "True", "lastTransitionTime": now}
            try:
                await self.patch(seen, {"status": {"conditions": [condition]}}, "status")
                break
            except Conflict:
                seen = await self.newer(seen.metadata)


if __name__ == "__main__":
    asked = ideal.parse(sys.argv[1:], prog="python -m tests.perf.ideal_sidecars", steps=STEPS)
    asked.gated = False  # SidecarSet touches no gate
    ideal.run(asked, Sidecars)
