"""The admission handler for pods: a review in, an answer out; the thin side of :mod:`kruise.webhooks.inject`.

Guarantees:

* The pod's bytes go to the injection as they came; the patch leaves as the bytes that it was joined from.
* A refusal is a user's fault and is told as one; everything else that fails passes through and becomes an HTTP error,
  so that the failurePolicy decides (rule 31).
* What was odd is a warning to whoever created the pod, and is given to *observe* for metrics and events.

What this does not do: it serves nothing. ``runtime.webhook`` opens reviews, tries patches and closes reviews.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Final

from kruise.runtime.clock import Clock, format_time
from kruise.runtime.webhook.admission import AdmissionRequest, Answer, allow, deny, patch
from kruise.webhooks.inject import inject
from kruise.webhooks.inject_outcome import LEFT_OUT, InjectionRefused, NoteReason, Outcome, Request
from kruise.webhooks.inject_snapshot import InjectionIndex

__all__ = ["PATH", "PodInjector"]

PATH: Final = "/mutate-pod"
"""Where the API server sends pods (spec/sidecarset 5.1)."""
_MAX_WARNING: Final = 256
_WARNED: Final = LEFT_OUT | {NoteReason.REPLACED}


@lru_cache(maxsize=8)
def _stamp(second: int) -> str:
    """Return a moment as annotations have it: many pods of one second share it."""
    return format_time(second)


def _unobserved(request: AdmissionRequest, outcome: Outcome) -> None:
    """Ignore what an injection did."""


class PodInjector:
    """Answers reviews of pods out of the snapshot of the moment."""

    def __init__(
        self,
        index: InjectionIndex,
        clock: Clock,
        *,
        sort_by_name: bool = False,
        observe: Callable[[AdmissionRequest, Outcome], None] = _unobserved,
    ) -> None:
        self._index = index
        self._clock = clock
        self._sort_by_name = sort_by_name
        self._observe = observe

    def __call__(self, request: AdmissionRequest) -> Answer:
        """Answer one review."""
        asked = Request(
            uid=request.uid,
            namespace=request.namespace,
            operation=request.operation,
            resource=request.resource.resource,
            sub_resource=request.sub_resource,
        )
        try:
            outcome = inject(
                bytes(request.object),
                asked,
                self._index.snapshot,
                now=_stamp(int(self._clock.now())),
                sort_by_name=self._sort_by_name,
            )
        except InjectionRefused as error:
            return deny(error.told, code=400, reason="BadRequest")
        self._observe(request, outcome)
        warnings = [
            f"SidecarSet {note.set_name}: {note.message}"[:_MAX_WARNING]
            if note.set_name
            else note.message[:_MAX_WARNING]
            for note in outcome.notes
            if note.reason in _WARNED
        ]
        if not outcome.patch:
            return allow(warnings=warnings)
        return patch(outcome.patch, warnings=warnings, audit={"injected": ",".join(outcome.injected)})
