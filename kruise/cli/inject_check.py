"""``kruise inject-check``: which SidecarSets a pod gets, or would get, and why not the others.

Purpose: read the sets of the cluster, ask the code of the webhook, and print what it says.

Guarantees: it reads and never writes; ``-o json`` has everything that the table has; the exit code tells a pod for
which all is well (0), a set that selects the pod and gives it nothing though nobody wanted that, or a pod that would be
refused (2), and any error (1).

What this does not do: it asks neither a manager nor the API server to create anything, so other webhooks have no part
in the answer.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec

from kruise.apis.podtemplate import default_pod_template
from kruise.apis.podtemplate.validation import validate_pod_spec
from kruise.apis.sidecarset import SidecarSet
from kruise.apis.sidecarset_rules import convert_sidecarset, decode_problem, default_sidecarset, version_of
from kruise.apis.sidecarset_validation import Surroundings, validate_sidecarset
from kruise.cli.answer import DEGRADED, DONE, columns
from kruise.cli.cluster import Cluster, add_connection_flags, add_manager_flags, as_told, connect
from kruise.cli.documents import Document, ManifestError, PodSource, Sorted, read_files, sort_out
from kruise.cli.preview import Preview, preview, text_of
from kruise.cli.seen_sets import WHOLE_PODS, World, read_world
from kruise.runtime.client.nulls import decode_as
from kruise.runtime.clock import format_time
from kruise.runtime.errors import ConfigError, NotFound, RuntimeFault
from kruise.runtime.objects import Key

__all__ = ["add_parser", "run"]

_PODS: Final = ("pod", "pods", "po")
_WORKLOADS: Final = frozenset(
    [
        *("asts", "bcj", "cj", "deploy", "ds", "rs", "sts"),
        *("broadcastjob", "cronjob", "daemonset", "deployment", "job", "replicaset", "statefulset"),
        *("broadcastjobs", "cronjobs", "daemonsets", "deployments", "jobs", "replicasets", "statefulsets"),
    ]
)
_EPILOG: Final = """\
exit codes: 0 every set that selects the pod gives it its sidecars, or none selects it; 1 an error; 2 a pod would be
refused, lacks sidecars that it should have got, or a set that selects it is left out (conflict, Pod Security) or
cannot be used.

A SidecarSet or a Namespace among the documents counts as if it were applied, in the place of that of the cluster:
  kruise inject-check -f new-set.yaml -f web.yaml --diff
"""


@dataclass(frozen=True, slots=True)
class _Asked:
    """One pod to look at."""

    title: str
    pod: dict[str, Any]
    namespace: str
    live: bool = False
    source: PodSource | None = None


def add_parser(commands: Any) -> None:
    """Add the subcommand to *commands*."""
    parser = commands.add_parser(
        "inject-check",
        help="say which SidecarSets a pod gets, and why not the others",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", nargs="?", help="pod/NAME: a pod that runs")
    parser.add_argument(
        "-f",
        "--filename",
        action="append",
        default=[],
        metavar="FILE",
        help="a manifest, a folder of them, or - for standard input: pods, and workloads with a pod template",
    )
    parser.add_argument("-n", "--namespace", default=None, help="default: that of the document, or of the context")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    parser.add_argument("--diff", action="store_true", help="also print what changes in the pod, as a diff of YAML")
    add_manager_flags(parser)
    add_connection_flags(parser)
    parser.set_defaults(run=run)


async def run(args: argparse.Namespace) -> int:
    """Run the subcommand; return the exit code."""
    name = _target(args)
    found = sort_out(read_files(args.filename)) if args.filename else Sorted()
    if args.filename and not found.pods:
        raise ManifestError(f"{', '.join(args.filename)}: there is no pod in it, and no workload with a pod template")
    async with connect(args) as there:
        cluster = as_told(there, args, "inject-check")
        world = _applied(await read_world(cluster), found)
        asked = [_from_file(one, args.namespace, cluster) for one in found.pods]
        if name:
            asked.append(await _living(cluster, Key(args.namespace or cluster.namespace, name)))
    notes = [*_remarks(world, cluster), *(f"{other}: it has no pod; skipped" for other in found.others)]
    for note in notes:
        print(f"kruise inject-check: {note}", file=sys.stderr)
    snapshot, now = world.snapshot(), format_time(cluster.clock.now())
    sort_by_name = cluster.gates.enabled("EnableSortSidecarContainerByName")
    answers = []
    for one in asked:
        seen = preview(one.pod, one.namespace, world, snapshot, now=now, sort_by_name=sort_by_name, live=one.live)
        answers.append((one, replace(seen, remarks=(*_flaws(one), *seen.remarks))))
    if args.output == "json":
        pods = [_document(one, seen, diff=args.diff) for one, seen in answers]
        print(json.dumps({"notes": notes, "pods": pods}, indent=2))
    else:
        print("\n\n".join(_table(one, seen, diff=args.diff) for one, seen in answers))
    return DEGRADED if any(seen.bad for _, seen in answers) else DONE


def _remarks(world: World, cluster: Cluster) -> Iterable[str]:
    """Yield what is to say of the cluster, whatever the pod."""
    if not cluster.gates.enabled("PodWebhook"):
        yield "the gate PodWebhook is off: the manager injects nothing"
    if world.uncalled:
        yield world.uncalled
    if world.hidden:
        yield f"{world.hidden}; a set that names one for new pods refuses them"


# ---- what is asked ---------------------------------------------------------------------------------------------------


def _target(args: argparse.Namespace) -> str:
    """Return the name of the pod that runs, ``""`` for files. Raises ConfigError that says what is wanted."""
    if bool(args.target) == bool(args.filename):
        both = "not both" if args.target else "such as pod/web-0, or -f web.yaml"
        raise ConfigError(f"want pod/NAME or -f FILE, {both}")
    if not args.target:
        return ""
    kind, slash, name = args.target.partition("/")
    if kind.lower() in _WORKLOADS and name:
        raise ConfigError(
            f"{args.target}: inject-check looks at pods; for the template of a workload: "
            f"kubectl get {args.target} -o yaml | kruise inject-check -f -"
        )
    if not slash:
        raise ConfigError(f"{args.target!r}: want pod/NAME, such as pod/{args.target}")
    if kind.lower() not in _PODS:
        near = difflib.get_close_matches(kind.lower(), _PODS, n=1)
        raise ConfigError(f"{kind!r} is no kind that inject-check knows; want {near[0] if near else 'pod'}/{name}")
    if not re.fullmatch(r"[A-Za-z0-9.-]+", name):
        raise ConfigError(f"{name!r} is no name of an object")
    return str(name)


async def _living(cluster: Cluster, key: Key) -> _Asked:
    try:
        pod = await cluster.client.live.get(WHOLE_PODS, key)
    except NotFound as error:
        text = f"there is no pod {key.name} in the namespace {key.namespace}; another one is named with -n"
        raise RuntimeFault(text) from error
    return _Asked(f"Pod {key}", pod.as_json(), key.namespace, live=True)


def _from_file(source: PodSource, namespace: str | None, cluster: Cluster) -> _Asked:
    document = source.document
    own = source.namespace
    if namespace and own and namespace != own:
        raise document.error("metadata.namespace", f"it is {own}, and -n says {namespace}")
    where = own or namespace or cluster.namespace
    name = document.name or "(no name)"
    path = f", {source.path}" if source.path else ""
    place = f"{document.file}, document {document.number}" + (f", item {document.item}" if document.item else "")
    return _Asked(f"{document.kind} {where}/{name} ({place}{path})", source.pod, where, source=source)


def _flaws(asked: _Asked) -> Iterable[str]:
    """Yield why the API server would refuse the pod, whatever is injected."""
    if asked.source is None:
        return
    path = f"{asked.source.path}.spec" if asked.source.path else "spec"
    spec = default_pod_template({"spec": asked.pod.get("spec") or {}})["spec"]
    for error in validate_pod_spec(spec, path):
        yield f"the API server would refuse the pod: {error}"


# ---- as if it were applied -------------------------------------------------------------------------------------------


def _applied(world: World, found: Sorted) -> World:
    """Return *world* with the sets and namespaces of the files in it. Raises ManifestError."""
    sets, spaces = dict(world.sets), dict(world.namespaces)
    for document in found.namespaces:
        name = document.name
        labels = (document.body.get("metadata") or {}).get("labels") or {}
        spaces[name] = {"kubernetes.io/metadata.name": name, **labels}
    # Who is in the way of whom is seen at the pod: of the others, validation needs their names and marks.
    marks = {name: dict(one.metadata.annotations) for name, one in sets.items()}
    marks |= {one.name: (one.body.get("metadata") or {}).get("annotations") or {} for one in found.sets}
    others = [{"metadata": {"name": name, "annotations": mark}} for name, mark in marks.items()]
    for document in found.sets:
        one = _set_of(document, Surroundings(others=others, revisions=world.revisions, metadata_allowed=True))
        sets[one.metadata.name] = one
    unreadable = {name: why for name, why in world.unreadable.items() if name not in sets}
    return replace(world, sets=sets, namespaces=spaces, unreadable=unreadable)


def _set_of(document: Document, around: Surroundings) -> SidecarSet:
    """Return the set as admission would store it; the white list of annotations is not read. Raises ManifestError."""
    problem = decode_problem(document.body, version_of(document.body))
    if problem:
        raise document.error("", problem)
    body = default_sidecarset(convert_sidecarset(document.body, "v1beta1"))
    errors = validate_sidecarset(body, None, around)
    if errors:
        raise document.error("", "; ".join(map(str, errors)))
    return decode_as(SidecarSet, msgspec.json.encode({**body, "status": {}}))


# ---- showing ---------------------------------------------------------------------------------------------------------

_HEADER: Final = ("SIDECARSET", "INJECTED", "REVISION", "REASON", "WHAT")


def _table(asked: _Asked, seen: Preview, *, diff: bool) -> str:
    lines = [asked.title]
    if seen.refused:
        lines.append(f"it would be refused: {seen.refused}")
    elif seen.rows:
        rows = [(r.name, "yes" if r.injected else "no", r.revision or "-", r.reason, r.message) for r in seen.rows]
        lines += columns([_HEADER, *rows])
    else:
        lines.append("there is no SidecarSet")
    lines += [f"note: {remark}" for remark in seen.remarks]
    if diff:
        lines += ["", *(_diff(asked, seen) or ["the pod stays as it is"])]
    return "\n".join(lines)


def _diff(asked: _Asked, seen: Preview) -> list[str]:
    before, after = text_of(seen.before), text_of(seen.after)
    return list(difflib.unified_diff(before, after, asked.title, f"{asked.title}, with sidecars", lineterm=""))


def _document(asked: _Asked, seen: Preview, *, diff: bool) -> dict[str, Any]:
    found: dict[str, Any] = {"title": asked.title, "namespace": asked.namespace, "live": asked.live}
    if asked.source is not None:
        document = asked.source.document
        found |= {"file": document.file, "document": document.number, "kind": document.kind, "name": document.name}
        found["field"] = asked.source.path
    else:
        found |= {"kind": "Pod", "name": asked.pod["metadata"]["name"]}
    found |= {
        "refused": seen.refused,
        "notes": list(seen.remarks),
        "sidecarSets": [
            {
                "name": row.name,
                "injected": row.injected,
                "reason": str(row.reason),
                "revision": row.revision,
                "containers": list(row.containers),
                "message": row.message,
            }
            for row in seen.rows
        ],
        "patch": list(seen.patch),
    }
    return {**found, "diff": "\n".join(_diff(asked, seen))} if diff else found
