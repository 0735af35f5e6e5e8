"""The invariants G1 to G8 and B1 to B8, over what the neutral observer and the audit log saw.

Purpose: every test here ends with them, whatever it is about.

Guarantees: commits come from the observer's watches, requests from the audit log; nothing comes from the manager.
Whether a node is eligible is decided here anew, for the few things that the templates of these tests use.

What this does not do: what a plain watch cannot tell (G6) is held by the runtime's own tests. G5 is asserted by the
tests that wait for quiet, G8 by the test of malformed jobs.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace

from hack.cluster import AuditLog, Entry
from kruise.apis.broadcastjob import NODE_UID_ANNOTATION
from kruise.simulator.invariants import Checker, Observed, Suite, Written, audited, observed, standard_checkers
from tests.e2e.harness.jobs import Body, node_of, pod_phase
from tests.e2e.harness.manager import USER_AGENT
from tests.e2e.harness.observer import LEASES, Observer, Seen

SLACK = 5.0
WITHOUT_BODIES = {LEASES, "secrets", "customresourcedefinitions.apiextensions.k8s.io"}
"""What the audit log only counts."""
LONG_SLACK = 40.0
"""For tests that pause a process: what it decided before the pause may land after it."""


def is_manager(actor: str) -> bool:
    """Recognise our manager by its user agent."""
    return actor.startswith(USER_AGENT)


def fits(job: Body, node: Body) -> bool:
    """Tell whether pods of *job* may run on *node*, as far as the templates of these tests go."""
    spec = job["spec"]["template"].get("spec") or {}
    if spec.get("tolerations") or spec.get("affinity"):
        raise NotImplementedError("a template of a test uses what the oracle does not know")
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(k) != v for k, v in (spec.get("nodeSelector") or {}).items()):
        return False
    if node["spec"].get("unschedulable"):
        return False
    return not any(t["effect"] in ("NoSchedule", "NoExecute") for t in node["spec"].get("taints") or ())


def check(
    events: Iterable[Seen],
    log: Iterable[Body],
    *,
    slack: float = SLACK,
    quiescent: bool = True,
    start_ordinal: bool = False,
    extra: Iterable[Checker] = (),
) -> Suite:
    """Run every checker; raise AssertionError with all violations."""
    raw = list(log)
    # What was refused before it was read has no body in the log, either.
    requests = [r for r in audited(raw) if r.resource not in WITHOUT_BODIES and not (r.body is None and r.code >= 400)]
    suite = Suite([*standard_checkers(is_manager, fits=fits, slack=slack, start_ordinal=start_ordinal), *extra])
    pairs = [(e.resource, {"type": e.type, "object": e.obj}) for e in events if e.resource != LEASES]
    for commit in _with_deletions(observed(pairs, raw), requests):
        suite.on_commit(commit)
    for request in requests:
        suite.on_request(request)
    if quiescent:
        suite.at_quiescence(time.time())
    suite.check()
    live_twins(events)
    return suite


def _with_deletions(commits: Iterable[Observed], requests: Iterable[Written]) -> Iterator[Observed]:
    """Say who deleted what: the version of a deletion stands in no answer, so it is found by the uid that was named."""
    deletions = {
        (r.resource, r.key, ((r.body or {}).get("preconditions") or {}).get("uid")): r
        for r in requests
        if r.verb == "delete" and r.code == 200 and is_manager(r.actor)
    }
    for commit in commits:
        request = deletions.get((commit.resource, commit.key, commit.uid)) if commit.verb == "delete" else None
        begun = (commit.old or {}).get("metadata", {}).get("deletionTimestamp")
        if request is None or commit.request is not None or begun:
            yield commit
        else:
            yield replace(commit, actor=request.actor, request=request, time=max(commit.time, request.time))


def live_twins(events: Iterable[Seen]) -> None:
    """Fail when at any moment two live pods of one job were on one node.

    Told by the node's name, unlike B1, so that pods without our annotation count as well. A node that was deleted and
    made anew is another node; the pods of the old one are the garbage collector's.
    """
    live: dict[tuple[str, str], set[str]] = {}
    orphans: set[str] = set()
    gone: set[str] = set()
    for event in sorted(events, key=lambda e: int(e.obj["metadata"]["resourceVersion"])):
        meta = event.obj["metadata"]
        if event.resource == "nodes" and event.type == "DELETED":
            gone.add(meta["uid"])
            for (_, node), uids in live.items():
                if node == meta["name"]:
                    orphans |= uids
                    uids.clear()
        job = (meta.get("labels") or {}).get("broadcastjob-controller-uid")
        if event.resource != "pods" or not job or meta["uid"] in orphans:
            continue
        if (meta.get("annotations") or {}).get(NODE_UID_ANNOTATION) in gone:
            continue  # its creation was under way when the node was deleted: it is the old node's pod, too
        node = node_of(event.obj)
        names = live.setdefault((job, node), set())
        if event.type == "DELETED" or pod_phase(event.obj) in ("Succeeded", "Failed"):
            names.discard(meta["uid"])
        elif not meta.get("deletionTimestamp"):
            names.add(meta["uid"])
            assert len(names) == 1, f"two live pods of one job on node {node}: {meta['name']} is the second"


def writes(log: AuditLog, since: int, *, agent: str = USER_AGENT) -> list[Entry]:
    """Return the writes of our user agent after the mark, each once, without Leases and Events."""
    return [
        entry
        for entry in log.entries(agent, since=since)
        if entry.writes
        and entry.stage == "ResponseComplete"
        and entry.resource not in ("leases", "events")
        and "dryRun" not in entry.uri
    ]


def tally(entries: Iterable[Entry]) -> Counter[str]:
    """Return how many requests there are of each kind and code: ``create pods 201``."""
    return Counter(f"{entry.what} {entry.code}" for entry in entries)


def own_conflicts(log: AuditLog, since: int, *, agent: str = USER_AGENT) -> list[str]:
    """Return our writes that were refused because of a version that we had written ourselves (performance 2.5)."""
    versions: dict[tuple[str, str, str], list[tuple[int, bool]]] = {}
    refused: list[tuple[tuple[str, str, str], int, Entry]] = []
    for entry in log.entries("", since=since):
        if not entry.writes or entry.stage != "ResponseComplete":
            continue
        key = (entry.resource, entry.namespace, entry.name)
        ours = entry.user_agent.startswith(agent)
        if entry.code < 300 and entry.response is not None:
            version = (entry.response.get("metadata") or {}).get("resourceVersion")
            if version:
                versions.setdefault(key, []).append((int(version), ours))
        elif entry.code == 409 and ours and entry.verb == "patch":
            decided = ((entry.request or {}).get("metadata") or {}).get("resourceVersion")
            if decided:
                refused.append((key, int(decided), entry))
    found = []
    for key, decided, entry in refused:
        later = sorted(one for one in versions.get(key, ()) if one[0] > decided)
        if later and later[0][1]:
            found.append(f"{entry.what} {key[2]} on version {decided}, after our own {later[0][0]}")
    return found


def by_kind(log: AuditLog, since: int, *, agent: str = USER_AGENT) -> Counter[str]:
    """Return how many requests our user agent made, of each kind, watches counted at their begin."""
    found: Counter[str] = Counter()
    for entry in log.entries(agent, since=since):
        if (entry.verb == "watch") == (entry.stage == "ResponseStarted"):
            found[entry.what] += 1
    return found


def finish(
    observer: Observer,
    log: AuditLog,
    since: int,
    *,
    slack: float = SLACK,
    quiescent: bool = True,
    start_ordinal: bool = False,
) -> Suite:
    """Check everything that *observer* saw, with the requests after the mark."""
    requests = log.raw(since=since)
    return check(observer.events, requests, slack=slack, quiescent=quiescent, start_ordinal=start_ordinal)
