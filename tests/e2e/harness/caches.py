"""Compare what a manager has cached with what the API server has.

Purpose: the end of every fault test: G11, cache truth, without anybody's help.

What this does not do: it compares keys, uids and versions, not contents; a version has one content.
"""

from __future__ import annotations

import time

from tests.e2e.harness.jobs import Body
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.observer import LEASES, PATHS
from tests.e2e.harness.world import World

CACHED = tuple(resource for resource in PATHS if resource != LEASES)

Objects = dict[str, tuple[str, str]]
"""``namespace/name`` to uid and version."""


def cached(manager: ManagerProcess) -> dict[str, Objects]:
    """Return what the manager holds, by resource."""
    found: dict[str, Objects] = {resource: {} for resource in CACHED}
    for line in manager.debug("objects").splitlines():
        if line.count(" ") == 3:
            resource, key, uid, version = line.split(" ")
            found[resource][key] = (uid, version)
    return found


def listed(world: World) -> dict[str, Objects]:
    """Return what the API server holds, by resource: quorum lists."""

    def entry(item: Body) -> tuple[str, tuple[str, str]]:
        meta = item["metadata"]
        name = f"{meta['namespace']}/{meta['name']}" if meta.get("namespace") else meta["name"]
        return name, (meta["uid"], meta["resourceVersion"])

    return {resource: dict(entry(item) for item in world.call("GET", PATHS[resource])["items"]) for resource in CACHED}


def compare(world: World, manager: ManagerProcess, *, timeout: float = 30.0) -> float:
    """Wait until the caches equal a fresh list; return how long that took. Fails with the differences.

    Nodes and pods change while they are looked at (heartbeats, kubelets), so a difference counts only when it stays.
    """
    began = time.monotonic()
    while True:
        before, held, after = listed(world), cached(manager), listed(world)
        if before == after and held == after:
            return time.monotonic() - began
        if time.monotonic() - began > timeout:
            for resource in CACHED:
                lacking = dict(sorted(set(after[resource].items()) - set(held[resource].items()))[:5])
                surplus = dict(sorted(set(held[resource].items()) - set(after[resource].items()))[:5])
                assert not (lacking or surplus), f"{resource}: the cache lacks {lacking} and holds {surplus} instead"
            assert before == after, "the cluster does not come to rest"
            return time.monotonic() - began
        time.sleep(0.5)
