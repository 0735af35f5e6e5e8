"""What the webhooks count beside what every webhook of the runtime counts.

Guarantees: reasons and results are bounded; names of objects stand only where OpenKruise has them, for deletions that
were refused.

What this does not do: nothing is counted here.
"""

from __future__ import annotations

from typing import Final

from prometheus_client import Counter, Gauge

from kruise.runtime.metrics import Family, Metrics

__all__ = ["FAIL_ENTRIES", "INJECTIONS", "PROTECTIONS", "fail_entries", "injections", "protections"]

INJECTIONS: Final = "kruise_sidecarset_injections_total"
FAIL_ENTRIES: Final = "kruise_sidecarset_fail_entries"
PROTECTIONS: Final = "workload_deletion_protection_total"


def fail_entries(metrics: Metrics) -> Family[Gauge]:
    """Return the gauge of the sets whose pods wait for an answer, and of those for which there was no room."""
    text = "SidecarSets whose pods wait while no manager answers (components/webhook-fail), and those left out of it."
    return metrics.gauge(FAIL_ENTRIES, text, ("state",))


def injections(metrics: Metrics) -> Family[Counter]:
    """Return the counter of what became of sets and the pods that they select."""
    text = "Decisions of the pod webhook about a SidecarSet and a pod that it selects, by result and reason."
    return metrics.counter(INJECTIONS, text, ("result", "reason"))


def protections(metrics: Metrics) -> Family[Counter]:
    """Return the counter of deletions that were refused; OpenKruise's labels."""
    text = "Deletions that were refused because the object is protected."
    return metrics.counter(PROTECTIONS, text, ("kind_namespace_name", "username"))
