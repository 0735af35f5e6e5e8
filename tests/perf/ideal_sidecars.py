"""``python -m tests.perf.ideal_sidecars``: what an upgrade of sidecars costs when nobody has to decide anything.

The writes of a SidecarSet's upgrade by a client without any controller, like ``tests.perf.ideal`` for sets: the pods
have their sidecars from the start, with the annotations that an injection leaves, and each pod is a chain of
conditional requests.

* create, delete: POST or DELETE of every pod.
* cold: image of the sidecar, and the condition of the first upgrade; done when the container runs it and the pod is
  ready.
* hot: image of the idle twin, and the condition; once the pod is ready again, the image of the other twin.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable, Iterable, Mapping
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
        made["metadata"]["annotations"] = {**self._hashes(images), "kruise.io/sidecarset-injected-list": ideal.APP}
        return made

    def _hashes(self, names: Iterable[str]) -> dict[str, str]:
        """Return the annotations that say which version of a set a pod has."""
        one = {
            "updateTimestamp": self.stamp(),
            "hash": f"{self.revision}-hash-of-the-whole-of-it-in-40-letters",
            "sidecarSetName": ideal.APP,
            "sidecarList": list(names),
            "controllerRevision": self.revision,
        }
        text = json.dumps({ideal.APP: one}, separators=(",", ":"))
        return {"kruise.io/sidecarset-hash": text, "kruise.io/sidecarset-hash-without-image": text}

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
        state = {
            "revision": self.revision,
            "updateTimestamp": self.stamp(),
            "lastContainerStatuses": {s.name: {"imageID": s.image_id} for s in pod.status.container_statuses},
        }
        text = json.dumps({ideal.APP: state}, separators=(",", ":"))
        annotations = {**self._hashes([container]), "kruise.io/sidecarset-inplace-update-state": text}
        meta = {"annotations": annotations}
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
