"""``kruise status bcj/NAME``: why is it not done yet.

Purpose: run the planner's own view on lists of the cluster and print, per reason, how many nodes and which; the first
failing nodes with their exit code.

Guarantees: it reads and never writes; ``-o json`` has everything that the table has; the exit code tells success (0),
failure or degradation (2), time-out of ``-w`` (3), and any error (1).

What this does not do: it needs no manager and asks none; it sees what the API server sees.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

from kruise.apis.broadcastjob import BROADCASTJOBS, LABEL_CONTROLLER_UID, PROGRESSING, BroadcastJob
from kruise.apis.core import NODES, PODS
from kruise.cli.cluster import Cluster, add_connection_flags, connect
from kruise.controllers.broadcastjob.explain import explain
from kruise.controllers.broadcastjob.status import wire
from kruise.controllers.broadcastjob.view import View
from kruise.controllers.common.reasons import Decision, Reason
from kruise.runtime.errors import ConfigError, NotFound, RuntimeFault
from kruise.runtime.objects import Key, Unreadable

__all__ = ["add_parser", "run"]

DONE: Final = 0
DEGRADED: Final = 2
TIMEOUT: Final = 3
_KINDS: Final = ("bcj", "broadcastjob", "broadcastjobs", "broadcastjob.apps.kruise.io", "broadcastjobs.apps.kruise.io")
_SHOWN: Final = 5
_FAILING: Final = frozenset(
    (Reason.POD_FAILED, Reason.IMAGE_PULL_FAILED, Reason.CRASH_LOOPING, Reason.POD_UNSCHEDULABLE, Reason.POD_UNREADABLE)
)


def add_parser(commands: Any) -> None:
    """Add the subcommand to *commands*."""
    parser = commands.add_parser("status", help="say how far a workload is, and why it is not done")
    parser.add_argument("target", help="KIND/NAME, such as bcj/sweep")
    parser.add_argument("-n", "--namespace", default=None, help="default: the namespace of the context")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("-w", "--watch", action="store_true", help="print again until it ended")
    parser.add_argument(
        "--timeout", type=float, default=0.0, help="with -w: give up after so many seconds (exit code 3)"
    )
    add_connection_flags(parser)
    parser.set_defaults(run=run)


def parse_target(text: str) -> str:
    """Return the name in ``bcj/NAME``. Raises ConfigError that says what is wanted."""
    kind, slash, name = text.partition("/")
    if not slash or not name:
        raise ConfigError(f"{text!r}: want KIND/NAME, such as bcj/sweep")
    if kind.lower() not in _KINDS:
        raise ConfigError(f"{kind!r} is no kind that status knows; want bcj (BroadcastJob)")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise ConfigError(f"{name!r} is no name of an object")
    return name


async def run(args: argparse.Namespace) -> int:
    """Run the subcommand; return the exit code."""
    name = parse_target(args.target)
    async with connect(args) as cluster:
        key = Key(args.namespace or cluster.namespace, name)
        began = cluster.clock.monotonic()
        shown = ""
        while True:
            job, view = await observe(cluster, key)
            text = as_json(job, view) if args.output == "json" else as_table(job, view)
            if text != shown:
                print(text, flush=True)
                shown = text
            if not args.watch or job.status.phase in ("completed", "failed"):
                return exit_code(job)
            if args.timeout and cluster.clock.monotonic() - began >= args.timeout:
                return TIMEOUT
            await cluster.clock.sleep(1.0)


async def observe(cluster: Cluster, key: Key) -> tuple[BroadcastJob, View]:
    """Read the job, its pods and all nodes live. Raises NotFound and RuntimeFault with what to do."""
    live = cluster.client.live
    try:
        job = await live.get(BROADCASTJOBS, key)
    except NotFound as error:
        if "could not find the requested resource" in error.status.message:
            raise RuntimeFault(f"the cluster does not serve {BROADCASTJOBS}; install its CRD (make install)") from error
        raise
    selector = f"{LABEL_CONTROLLER_UID}={job.metadata.uid}"
    pods = await live.list(PODS, namespace=key.namespace, label_selector=selector)
    nodes = [n for n in await live.list(NODES) if not isinstance(n, Unreadable)]
    return job, View.of(job, sorted(nodes, key=lambda n: n.key), pods)


def exit_code(job: BroadcastJob) -> int:
    """Return 2 for a job that failed, ended with failed pods, or does not get on, else 0."""
    if job.status.phase == "failed" or (job.status.phase == "completed" and job.status.failed):
        return DEGRADED
    moving = next((c for c in job.status.conditions if c.type == PROGRESSING), None)
    waits = (Reason.PAUSED, Reason.JOB_COMPLETE, Reason.ALL_NODES_DONE)
    return DEGRADED if moving is not None and moving.status == "False" and moving.reason not in waits else DONE


def as_json(job: BroadcastJob, view: View) -> str:
    """Return everything as one JSON document."""
    return json.dumps(
        {
            "kind": job.kind or BROADCASTJOBS.kind,
            "namespace": job.metadata.namespace,
            "name": job.metadata.name,
            "status": wire(job.status),
            "nodes": [
                {
                    "node": slot.name,
                    "pod": slot.pod.key.name if slot.pod is not None else "",
                    "reason": decision.reason,
                    **({"taint": decision.detail["taint"]} if "taint" in decision.detail else {}),
                    "evidence": decision.evidence,
                    "since": decision.since or "",
                    "unblockedBy": decision.unblocked_by,
                    **({"exitCode": int(decision.detail["exitCode"])} if "exitCode" in decision.detail else {}),
                }
                for slot, decision in explain(job, view)
            ],
        },
        indent=2,
    )


def as_table(job: BroadcastJob, view: View) -> str:
    """Return the summary for a person."""
    status = job.status
    lines = [
        f"BroadcastJob {job.key}: {status.phase or 'not seen by a manager yet'}",
        f"desired {status.desired}, active {status.active}, succeeded {status.succeeded}, failed {status.failed}",
    ]
    lines += [
        f"{c.type}={c.status} {c.reason}: {c.message}" for c in status.conditions if c.type in ("Failed", PROGRESSING)
    ]
    found = list(explain(job, view))
    counts = Counter(_label(decision) for _, decision in found)
    if counts:
        lines += [
            "",
            *_columns([("NODES", "REASON", "SUCH AS"), *(_row(r, n, found) for r, n in counts.most_common())]),
        ]
    failing = [(slot, d) for slot, d in found if d.reason in _FAILING]
    if failing:
        rows = [("NODE", "REASON", "EXIT CODE", "EVIDENCE", "UNBLOCKED BY")]
        rows += [
            (slot.name, _label(d), d.detail.get("exitCode", "-"), d.evidence, d.unblocked_by)
            for slot, d in failing[:_SHOWN]
        ]
        lines += ["", *_columns(rows)]
        if len(failing) > _SHOWN:
            lines.append(f"... and {len(failing) - _SHOWN} more nodes; -o json has them all")
    return "\n".join(lines)


def _label(decision: Decision) -> str:
    taint = decision.detail.get("taint")
    return f"{decision.reason}({taint})" if taint else str(decision.reason)


def _row(label: str, count: int, found: list[tuple[Any, Decision]]) -> tuple[str, ...]:
    return str(count), label, ", ".join([slot.name for slot, d in found if _label(d) == label][:3])


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["   ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
