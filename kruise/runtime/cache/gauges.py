"""What informers tell a scrape.

Purpose: sizes and ages are computed when they are asked for (QUE11's rule, for caches).

Guarantees: STO8 and Appendix A: ``kruise_informer_objects``, ``_store_bytes``, ``_last_event_age_seconds``,
``_resource_version_lag_seconds`` and ``_pending_keys`` per group, version and resource. Two informers of one resource,
one full and one of metadata only, are one sample: a scrape refuses the same labels twice.

What this does not do: it counts no events; ``watcher.py`` does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from kruise.runtime.cache.informer import Informer
from kruise.runtime.metrics import Metrics, Sample, ScrapeFamily

Informers = Callable[[], Iterable[Informer[Any]]]


def register(informers: Informers, metrics: Metrics) -> Callable[[], None]:
    """Let *metrics* ask *informers* at every scrape; the function returned stops that."""

    def add(
        family: ScrapeFamily,
        value: Callable[[Informer[Any]], float | None],
        join: Callable[[float, float], float],
    ) -> Callable[[], None]:
        def samples() -> Iterable[Sample]:
            found: dict[tuple[str, ...], float] = {}
            for informer in informers():
                one = value(informer)
                if one is None:
                    continue
                r = informer.resource
                labels = (r.group, r.version, r.plural)
                found[labels] = join(found[labels], one) if labels in found else one
            return [Sample(labels, one) for labels, one in found.items()]

        return family.add(samples)

    stops = [
        add(metrics.informer_objects, lambda i: len(i.store), lambda a, b: a + b),
        add(metrics.informer_bytes, lambda i: i.store_bytes(), lambda a, b: a + b),
        add(metrics.informer_event_age, lambda i: i.event_age(), max),
        add(metrics.informer_version_lag, lambda i: i.store.lag(), max),
        add(metrics.pending_keys, lambda i: i.pending, lambda a, b: a + b),
    ]

    def stop() -> None:
        for one in stops:
            one()

    return stop
