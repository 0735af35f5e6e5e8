"""What only a simulation can check: read your own writes, and counts that were never true.

Purpose: G6 needs to look into a process, and B8's "a failed create is never counted" needs every status, not the last.

Guarantees:

* G6: when a reconcile of a key starts, the stores show every write that an earlier reconcile of that key sent and got
  an answer to; a reconcile that reads live is exempt, since that is what it does about it.
* B8: no status counts more active pods than existed at any moment of the last seconds.

What this does not do: a write whose answer was lost is known to nobody, and not waited for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import msgspec

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.statefulset import STATEFULSETS
from kruise.runtime.cache.cache import Cache
from kruise.runtime.client.transport import ByteStream, Request, Response, Transport
from kruise.runtime.controller.controller import Controller
from kruise.runtime.controller.reconcile import Reconcile, Result, current
from kruise.runtime.manager.manager import Manager
from kruise.runtime.objects import Key, Resource
from kruise.simulator.invariants.model import Actor, Checker, Observed, World, controller_ref

JOBS: Final = str(BROADCASTJOBS)
_OWNERS: Final[dict[str, Resource[Any]]] = {one.kind: one for one in (BROADCASTJOBS, STATEFULSETS, SIDECARSETS)}
"""Kind -> what a controller of ours reconciles."""


class Answers:
    """A middleware in front of the transport of one process: it sees what the process gets to know.

    It remembers the answers to writes per key (G6), and can let the process die of an answer.
    """

    def __init__(self, crash: Callable[[], None]) -> None:
        self.crash_next = False
        """The next answer to a write is the last thing that the process sees."""
        self.violations: list[str] = []
        self._crash = crash
        self._written: dict[tuple[str, Key], dict[str, int]] = {}
        """(controller, key) -> resource -> the newest version that was written for it."""
        self._uids: dict[tuple[str, Key], str] = {}

    async def call(self, request: Request, nxt: Transport) -> Response:
        response = await nxt.request(request)
        if request.mutating and request.controller:
            self._remember(request, response)
            if self.crash_next and request.resource != "events":
                self.crash_next = False
                self._crash()
        return response

    async def stream(self, request: Request, nxt: Transport) -> ByteStream:
        return await nxt.stream(request)

    def _remember(self, request: Request, response: Response) -> None:
        context = current.get()
        if context is None or response.status >= 300 or request.resource == "events":
            return
        try:
            meta: dict[str, Any] = msgspec.json.decode(response.body).get("metadata") or {}
        except (msgspec.DecodeError, UnicodeDecodeError):
            return  # a truncated answer tells nothing
        version = str(meta.get("resourceVersion") or "")
        if not version.isdigit() or (request.method == "DELETE" and not meta.get("deletionTimestamp")):
            return
        seen = self._written.setdefault((context.controller, context.key), {})
        seen[request.resource] = max(int(version), seen.get(request.resource, 0))

    def attach(self, manager: Manager) -> None:
        """Look on at every reconcile of *manager*."""
        for controller in manager._controllers:  # noqa: SLF001 - an oracle looks where nobody else may
            self._look_on(controller, manager.cache)

    def _look_on(self, controller: Controller, cache: Cache) -> None:
        inner: Reconcile = controller._reconcile  # noqa: SLF001 - as above

        async def looked_at(key: Key) -> Result:
            self._check(controller, key, cache)
            return await inner(key)

        controller._reconcile = looked_at  # noqa: SLF001 - as above

    def _check(self, controller: Controller, key: Key, cache: Cache) -> None:
        resource = _OWNERS.get(controller._log_kind)  # noqa: SLF001 - as above
        owner = cache.store(resource).raw(key) if resource is not None else None
        uid, mine = "" if owner is None else owner.uid, (controller.name, key)
        if self._uids.get(mine, uid) != uid:
            self._written.pop(mine, None)  # another object has the name now: what was written belonged to the old one
        self._uids[mine] = uid
        context = current.get()
        if context is None or context.live:
            return
        for plural, version in self._written.get(mine, {}).items():
            for informer in cache.informers():
                if informer.resource.plural != plural:
                    continue
                have = informer.store.progress(key.namespace).version
                if not have.isdigit() or int(have) < version:
                    self.violations.append(
                        f"G6: a reconcile of {key} starts with {plural} at {have or '?'}, after a write of {version}"
                    )


class Counted(Checker):
    """B8, at each status: a pod that is counted as active has existed."""

    def __init__(self, manager: Actor, *, slack: float) -> None:
        super().__init__()
        self._manager = manager
        self._slack = slack
        self._gone: dict[str, list[float]] = {}
        """Job uid -> when pods of it stopped to be active."""

    def on_commit(self, commit: Observed, before: World) -> None:
        if commit.resource == "pods":
            ref = controller_ref(commit.obj)
            was = commit.old is not None and _active(commit.old)
            if ref is not None and was and (commit.new is None or not _active(commit.new)):
                self._gone.setdefault(str(ref["uid"]), []).append(commit.time)
            return
        if commit.resource != JOBS or commit.new is None or not self._manager(commit.actor):
            return
        active = (commit.new.get("status") or {}).get("active") or 0
        there = sum(1 for pod in before.owned("pods", commit.uid) if _active(pod))
        lately = sum(1 for time in self._gone.get(commit.uid, ()) if commit.time - time <= self._slack)
        if active > there + lately:
            self.violated("B8", commit, f"status.active is {active}, and only {there} pods are there")


def _active(pod: dict[str, Any]) -> bool:
    return (pod.get("status") or {}).get("phase") not in ("Succeeded", "Failed") and not pod["metadata"].get(
        "deletionTimestamp"
    )
