"""Where the checkers get their history from: the embedded server, or a real one.

Purpose: translate commits and requests of both into what ``model.py`` describes.

Guarantees:

* Embedded: each commit is checked as it happens, with the request that made it; each request once it is answered.
* Real: watch events in the order of their versions are the commits, and the audit log (level RequestResponse for
  writes of our kinds and pods) the requests; a write whose answer has a version that was there before is one that
  changed nothing.

What this does not do: a real watch does not say who made a commit; the audit log does, by the version of the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import orjson

from kruise.runtime.clock import parse_time
from kruise.runtime.objects import Key
from kruise.simulator.apiserver.call import Call
from kruise.simulator.apiserver.server import ApiServer
from kruise.simulator.apiserver.storage import Commit
from kruise.simulator.invariants.model import Body, Checker, Observed, Suite, Verb, Written, key_of

_VERBS: dict[str, Verb] = {"ADDED": "create", "MODIFIED": "update", "DELETED": "delete"}


def written(call: Call) -> Written:
    """Return a request of the embedded server's log."""
    return Written(
        actor=call.actor,
        verb=call.verb,
        resource=call.resource,
        key=call.key,
        subresource=call.subresource,
        code=call.code,
        body=_body(call),
        changed=call.changed,
        time=call.time,
        dry_run=call.dry_run,
        ordinal=call.ordinal,
        controller=call.controller,
        message=call.reason,
    )


def _body(call: Call) -> Any:
    """Return the decoded body; of one that the server refused before it looked at it as well."""
    if call.document is not None or call.code < 400 or not call.body:
        return call.document
    try:
        return orjson.loads(call.body)
    except orjson.JSONDecodeError:
        return None


class Attached:
    """A suite that looks on at an embedded server. Requests are fed by :meth:`drain`, which ``finish`` calls."""

    def __init__(self, server: ApiServer, checkers: Sequence[Checker]) -> None:
        self.suite = Suite(checkers)
        self._server = server
        self._fed = len(server.log)
        for resource in server.storage.resources():
            records = server.storage.snapshot(resource).records.values()
            self.suite.world.load(resource, (record.obj for record in records))
        server.storage.listeners.append(self._on_commit)

    def _on_commit(self, commit: Commit) -> None:
        call = None
        if commit.request >= 0:
            call = next((c for c in reversed(self._server.log.calls) if c.ordinal == commit.request), None)
        previous = commit.previous.obj if commit.previous is not None else None
        self.suite.on_commit(
            Observed(
                rv=commit.rv,
                verb=_VERBS[commit.type],
                resource=commit.resource,
                key=commit.key,
                old=previous,
                new=None if commit.type == "DELETED" else commit.new.obj,
                actor=commit.actor,
                request=written(call) if call is not None else None,
                time=commit.time,
            )
        )

    def drain(self) -> None:
        """Feed the requests that were answered since the last call."""
        calls = self._server.log.calls
        for call in calls[self._fed :]:
            self.suite.on_request(written(call))
        self._fed = len(calls)

    def finish(self, *, quiescent: bool = True) -> None:
        """Feed what is left, look at the state at rest, and raise AssertionError on any violation."""
        self.drain()
        if quiescent:
            self.suite.at_quiescence(self._server.clock.now())
        self.suite.check()

    def detach(self) -> None:
        """Look away."""
        self._server.storage.listeners.remove(self._on_commit)


def _controller(agent: str) -> str:
    """Return the controller that ``kruise-manager/1.0 sidecarset-controller term/3`` names; empty where none is."""
    words = agent.split(" ")
    return words[1] if len(words) > 1 and not words[1].startswith("term/") else ""


def audited(events: Iterable[Body]) -> list[Written]:
    """Return the answered requests of an audit log (``audit.k8s.io/v1``), in its order.

    The actor is the user agent. A write is known to have changed nothing when the version in its answer was the answer
    of an earlier request for the same object.
    """
    seen: dict[tuple[str, Key], str] = {}
    found: list[Written] = []
    for event in events:
        if event.get("stage", "ResponseComplete") != "ResponseComplete":
            continue
        ref = event.get("objectRef") or {}
        resource = ref.get("resource", "")
        if ref.get("apiGroup"):
            resource = f"{resource}.{ref['apiGroup']}"
        answer = event.get("responseObject") or {}
        meta = answer.get("metadata") or {}
        key = Key(ref.get("namespace", ""), ref.get("name") or meta.get("name", ""))
        version = meta.get("resourceVersion")
        code = int((event.get("responseStatus") or {}).get("code") or 0)
        changed = None
        if version and code < 300:
            if event.get("verb") in ("update", "patch"):
                changed = seen.get((resource, key)) != version
            seen[resource, key] = version
        found.append(
            Written(
                actor=event.get("userAgent", ""),
                verb=event.get("verb", ""),
                resource=resource,
                key=key,
                subresource=ref.get("subresource", ""),
                code=code,
                body=event.get("requestObject"),
                changed=changed,
                time=parse_time(event.get("requestReceivedTimestamp")) or 0.0,
                dry_run="dryRun=All" in event.get("requestURI", ""),
                ordinal=len(found),
                controller=_controller(event.get("userAgent", "")),
                message=(event.get("responseStatus") or {}).get("message", ""),
            )
        )
    return found


def observed(events: Iterable[tuple[str, Body]], log: Iterable[Body] = ()) -> list[Observed]:
    """Return the commits behind watch events, given as ``(resource, event)`` pairs, in the order of their versions.

    *log* is the audit log: it tells who made a commit and how, by object and version. Bookmarks are left out.
    """
    raw = list(log)
    makers: dict[tuple[str, Key, str], Written] = {}
    complete = [e for e in raw if e.get("stage", "ResponseComplete") == "ResponseComplete"]
    for event, request in zip(complete, audited(raw), strict=True):
        version = ((event.get("responseObject") or {}).get("metadata") or {}).get("resourceVersion")
        if version:
            makers.setdefault((request.resource, request.key, version), request)
    current: dict[tuple[str, Key], Body] = {}
    commits: list[Observed] = []
    ordered = sorted(
        (pair for pair in events if pair[1]["type"] in _VERBS),
        key=lambda pair: int(pair[1]["object"]["metadata"]["resourceVersion"]),
    )
    for resource, event in ordered:
        obj: Any = event["object"]
        key, version = key_of(obj), obj["metadata"]["resourceVersion"]
        old = current.get((resource, key))
        if old is not None and old["metadata"]["resourceVersion"] == version:
            continue
        deleted = event["type"] == "DELETED"
        maker = makers.get((resource, key, version))
        if deleted:
            current.pop((resource, key), None)
        else:
            current[resource, key] = obj
        commits.append(
            Observed(
                rv=int(version),
                verb="delete" if deleted else "create" if old is None else "update",
                resource=resource,
                key=key,
                old=old if old is not None else (obj if deleted else None),
                new=None if deleted else obj,
                actor=maker.actor if maker is not None else "",
                request=maker,
                time=maker.time if maker is not None else 0.0,
            )
        )
    return _timed(commits)


def _timed(commits: list[Observed]) -> list[Observed]:
    """Give commits without a known request the time of the one before."""
    last = 0.0
    timed: list[Observed] = []
    for commit in commits:
        last = max(last, commit.time)
        timed.append(replace(commit, time=last))
    return timed
