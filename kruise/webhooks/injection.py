"""The pod webhook in a running process: ready, counted, and told.

Purpose: around :class:`~kruise.webhooks.inject_handler.PodInjector`: a pod is judged only when the caches are complete,
what became of it is counted, and what an author of a SidecarSet should hear of becomes an event on the set.

Guarantees:

* An injection asks the API server for nothing (performance 2.2). Events are for what is odd, are combined, and wait for
  nobody; a dry run leaves none.
* The labels of the counter are bounded: results and reasons, never names.

What this does not do: it decides nothing about a pod.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kruise.apis.sidecarset import SIDECARSETS, SidecarSet
from kruise.runtime.clock import Clock
from kruise.runtime.manager.recorder import EventSink
from kruise.runtime.metrics import Metrics
from kruise.runtime.webhook.admission import AdmissionRequest, Answer, allow
from kruise.webhooks.counters import injections
from kruise.webhooks.feed import Feed
from kruise.webhooks.inject_handler import PodInjector
from kruise.webhooks.inject_outcome import LEFT_OUT, NoteReason, Outcome

__all__ = ["COMPONENT", "Injection", "leave_alone"]

COMPONENT: Final = "sidecarset-webhook"
"""In events."""
_ACTION: Final = "Inject"
_REFUSED: Final = "PodRefused"
_TOLD: Final = LEFT_OUT | {NoteReason.REPLACED}


def leave_alone(_: AdmissionRequest) -> Answer:
    """Answer without the gate PodWebhook: every pod starts as it is."""
    return allow()


class Injection:
    """Answers reviews of pods."""

    def __init__(
        self, feed: Feed, *, clock: Clock, metrics: Metrics, events: EventSink, sort_by_name: bool = False
    ) -> None:
        self._feed = feed
        self._events = events
        self._count = injections(metrics)
        self._injected = self._count.labels("injected", NoteReason.INJECTED.value)
        self._injector: Callable[[AdmissionRequest], Answer] = PodInjector(
            feed.index, clock, sort_by_name=sort_by_name, observe=self._observe
        )

    def __call__(self, request: AdmissionRequest) -> Answer:
        """Answer one review. Raises NotReady until the caches are complete."""
        self._feed.pods_ready()
        answer = self._injector(request)
        if not answer.allowed:
            self._count.labels("refused", _REFUSED).inc()
        return answer

    def _observe(self, request: AdmissionRequest, outcome: Outcome) -> None:
        if outcome.injected:
            self._injected.inc(len(outcome.injected))
        for note in outcome.notes:
            if note.reason not in _TOLD:
                continue
            if note.reason in LEFT_OUT:
                self._count.labels("left_out", note.reason.value).inc()
            found = self._feed.set_named(note.set_name)
            if found is not None and not request.dry_run:
                self._tell(found, note.reason, f"{_pod(request)}: {note.message}")

    def _tell(self, item: SidecarSet, reason: NoteReason, note: str) -> None:
        self._events.event(item, SIDECARSETS, type="Warning", reason=reason.value, action=_ACTION, note=note)


def _pod(request: AdmissionRequest) -> str:
    """Return how a user knows the pod; at creation it may have no name yet."""
    return f"Pod {request.namespace}/{request.name}" if request.name else f"a pod in {request.namespace}"
