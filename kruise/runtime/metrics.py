"""Every metric of the runtime, in one place and in one registry of its own.

Purpose: the metric surface of controller-runtime, name by name and bound by bound, so that dashboards and alerts made
for it work here; and what only this runtime can tell, beside it. ``docs/metrics.md`` is generated from this module.

Guarantees:

* MET1: names, labels and bucket bounds equal controller-runtime's, down to the bytes of a scrape: a bound of one second
  is ``le="1"``, as Go prints it, and not ``le="1.0"``.
* MET2: one registry per :class:`Metrics`, hence per manager; nothing global. A scrape has no ``*_created`` series;
  :func:`switch_off_created_series`, called once in ``main``, also saves keeping them (prometheus-client offers only a
  process-wide switch). A source of samples that fails loses its own samples only: it is counted, and told of once.
* MET3: label names are fixed at registration, and each family takes a bounded number of label sets; what comes above
  the bound is counted under ``exceeded_cardinality_limit``.
* MET4: :attr:`Metrics.catalog` lists every family; :func:`lint` holds their names to the rules of Prometheus.
* QUE11: values that a component can compute when it is asked are collected at scrape time: no ticker.

What this does not do: it serves nothing; see ``manager/metrics_server.py``.
"""

from __future__ import annotations

import functools
import gc
import platform
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

import prometheus_client
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

RECONCILE_BUCKETS: Final = (
    0.005, 0.01, 0.025, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.25, 1.5, 1.75,
    2.0, 2.5, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 60.0,
)  # fmt: skip
"""Seconds: the bounds of controller_runtime_reconcile_time_seconds."""
EXPONENTIAL_BUCKETS: Final = (
    1e-08, 1e-07, 1e-06, 9.999999999999999e-06, 9.999999999999999e-05, 0.001, 0.01, 0.1, 1.0, 10.0, 100.0, 1000.0,
)  # fmt: skip
"""Seconds: the floats that Go's ExponentialBuckets(10e-9, 10, 12) prints."""
LATENCY_BUCKETS: Final = (0.005, 0.025, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 30.0, 60.0)
SIZE_BUCKETS: Final = (64.0, 256.0, 512.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 4194304.0, 16777216.0)

OPT_IN: Final = frozenset(
    {
        "rest_client_request_duration_seconds",
        "rest_client_rate_limiter_duration_seconds",
        "rest_client_dns_resolution_duration_seconds",
        "rest_client_request_size_bytes",
        "rest_client_response_size_bytes",
        "rest_client_request_retries_total",
    }
)
"""Families that exist with ``clients=True`` only."""

MAX_LABEL_SETS: Final = 2000
"""How many label sets one family takes before the guard steps in (MET3)."""
EXCEEDED: Final = "exceeded_cardinality_limit"

M = TypeVar("M", Counter, Gauge, Histogram)


class Family(Generic[M]):
    """A metric with labels behind the cardinality guard (MET3)."""

    __slots__ = ("_known", "_limit", "_metric", "_names")

    def __init__(self, metric: M, names: Sequence[str], limit: int = MAX_LABEL_SETS) -> None:
        self._metric: M = metric
        self._names = tuple(names)
        self._limit = limit
        self._known: set[tuple[str, ...]] = set()

    def labels(self, *values: str) -> M:
        """Return the child for *values*, in the order of the label names; above the limit, the one shared child."""
        if values not in self._known:
            if len(values) != len(self._names):
                raise ValueError(f"labels {values} do not fit {self._names}")
            if len(self._known) >= self._limit:
                values = (EXCEEDED,) * len(self._names)
            self._known.add(values)
        child: M = self._metric.labels(*values)
        return child

    def remove(self, *values: str) -> None:
        """Forget a child whose object is gone."""
        if values in self._known:
            self._known.discard(values)
            self._metric.remove(*values)

    def __len__(self) -> int:
        return len(self._known)


@dataclass(frozen=True, slots=True)
class Sample:
    """One value that is computed at scrape time. ``labels`` in the order of the family's label names."""

    labels: tuple[str, ...]
    value: float


class ScrapeFamily(Collector):
    """A gauge or counter whose samples come from functions, asked at scrape time (QUE11)."""

    def __init__(
        self,
        name: str,
        text: str,
        labels: Sequence[str],
        *,
        counter: bool = False,
        fold: Callable[[float, float], float] | None = None,
    ) -> None:
        self.name = name
        self.text = text
        self.label_names = tuple(labels)
        self.counter = counter
        self._fold = fold
        """How two sources that give the same labels become one sample; without it they must not."""
        self._sources: list[Callable[[], Iterable[Sample]]] = []
        self.on_failure: Callable[[Exception], None] | None = None
        """Told of what a source raised."""

    def add(self, source: Callable[[], Iterable[Sample]]) -> Callable[[], None]:
        """Ask *source* at every scrape from now on; the function returned stops that."""
        self._sources.append(source)
        return lambda: self._sources.remove(source)

    def collect(self) -> Iterable[Metric]:
        """Yield the family with all its present samples. A source that fails loses its own samples only."""
        family: CounterMetricFamily | GaugeMetricFamily
        if self.counter:
            family = CounterMetricFamily(self.name, self.text, labels=self.label_names)
        else:
            family = GaugeMetricFamily(self.name, self.text, labels=self.label_names)
        found: dict[tuple[str, ...], float] = {}
        for source in self._sources:
            try:
                samples = list(source())
            except Exception as error:  # noqa: BLE001 - a scrape must never fail for one component
                if self.on_failure is not None:
                    self.on_failure(error)
                continue
            for sample in samples:
                if self._fold is None:
                    family.add_metric(sample.labels, sample.value)
                else:
                    before = found.get(sample.labels)
                    found[sample.labels] = sample.value if before is None else self._fold(before, sample.value)
        for labels, value in found.items():
            family.add_metric(labels, value)
        yield family


class _RuntimeInfo(Collector):
    """``python_info`` and ``python_gc_*``, for this registry instead of the global one."""

    def collect(self) -> Iterable[Metric]:
        info = GaugeMetricFamily("python_info", "Python platform information.", labels=("implementation", "version"))
        info.add_metric((platform.python_implementation(), platform.python_version()), 1)
        yield info
        stats = gc.get_stats()
        for name, key, text in (
            ("python_gc_objects_collected", "collected", "Objects collected during gc."),
            ("python_gc_objects_uncollectable", "uncollectable", "Uncollectable objects found during gc."),
            ("python_gc_collections", "collections", "Number of times this generation was collected."),
        ):
            family = CounterMetricFamily(name, text, labels=("generation",))
            for generation, stat in enumerate(stats):
                family.add_metric((str(generation),), stat[key])
            yield family


_KIND: Final = ("group", "version", "resource")

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
"""The media type of :meth:`Metrics.render`."""


class _AsGoPrints(Collector):
    """A view of a registry without ``*_created``, and with bucket bounds in Go's spelling (MET1, MET2)."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry

    def collect(self) -> Iterable[Metric]:
        for metric in self._registry.collect():
            metric.samples = [
                s._replace(labels={**s.labels, "le": go_float(s.labels["le"])}) if "le" in s.labels else s
                for s in metric.samples
                if s.name != f"{metric.name}_created"
            ]
            yield metric


def go_float(value: float | str) -> str:
    """Return a number as Go prints it.

    >>> go_float(1.0), go_float(0.25), go_float("+Inf"), go_float(16777216.0)
    ('1', '0.25', '+Inf', '1.6777216e+07')
    """
    return str(floatToGoString(float(value))).removesuffix(".0")  # type: ignore[no-untyped-call]


def switch_off_created_series() -> None:
    """Keep no ``*_created`` series, in the whole process (MET2). For ``main``, before the first :class:`Metrics`."""
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]


@dataclass(frozen=True, slots=True)
class Described:
    """What ``docs/metrics.md`` tells of one family."""

    name: str
    kind: str
    """counter, gauge or histogram."""
    labels: tuple[str, ...]
    text: str
    buckets: tuple[float, ...] = ()
    opt_in: bool = False


_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_NOT_BASE: Final = re.compile(
    r"_(ms|us|ns|(milli|micro|nano)seconds|minutes|hours|days|kb|mb|kib|mib|kilobytes|megabytes|percent)(_total)?$"
)


def lint(catalog: Iterable[Described]) -> list[str]:
    """Return what is wrong with the names of *catalog*, one line each; empty when all is well (MET4)."""
    found: list[str] = []
    seen: set[str] = set()
    for one in catalog:
        rules = (
            (_NAME.fullmatch(one.name) is None, "is not in lower snake case"),
            (one.name in seen, "is there twice"),
            (one.kind == "counter" and not one.name.endswith("_total"), "is a counter and must end in _total"),
            (one.kind != "counter" and one.name.endswith("_total"), "ends in _total and is no counter"),
            (one.name.endswith(("_count", "_sum", "_bucket", "_created", "_info")), "ends in a reserved suffix"),
            (_NOT_BASE.search(one.name) is not None, "is not in a base unit (seconds, bytes, ratio)"),
            (
                one.kind == "histogram" and not one.name.endswith(("_seconds", "_bytes")),
                "is a histogram and must name its unit",
            ),
            (
                any(_NAME.fullmatch(label) is None for label in one.labels),
                "has a label that is not in lower snake case",
            ),
            (bool({"le", "quantile", "job", "instance"} & set(one.labels)), "has a reserved label"),
            (not one.text.endswith(".") or "\n" in one.text, "needs one line of help that ends in a full stop"),
            (list(one.buckets) != sorted(set(one.buckets)), "has bounds out of order"),
        )
        found += [f"{one.name} {text}" for broken, text in rules if broken]
        seen.add(one.name)
    return found


class Metrics:
    """The metric families of one manager (MET2). A component takes this object and uses its own families only.

    ``clients=True`` adds the opt-in families of the REST client (latency, sizes, retries).
    """

    def __init__(self, *, clients: bool = False, process: bool = True) -> None:
        self.registry: Final = CollectorRegistry(auto_describe=False)
        self._controllers: set[str] = set()
        self._told: set[str] = set()
        self.on_source_error: Callable[[str, Exception], None] | None = None
        """Told of the first failure of each metric's sources."""
        self._counters: dict[str, Family[Counter]] = {}
        self._gauges: dict[str, Family[Gauge]] = {}
        self.catalog: Final[list[Described]] = []
        """Every family of this registry but those of the process and of Python."""
        if process:
            ProcessCollector(registry=self.registry)
            self.registry.register(_RuntimeInfo())

        # Controllers: controller-runtime's names.
        c = ("controller",)
        self.reconcile_total = self._counter(
            "controller_runtime_reconcile_total", "Reconciles per controller and result.", ("controller", "result")
        )
        self.reconcile_errors = self._counter(
            "controller_runtime_reconcile_errors_total", "Reconciles that ended in an error.", c
        )
        self.terminal_errors = self._counter(
            "controller_runtime_terminal_reconcile_errors_total", "Reconciles that ended in a terminal error.", c
        )
        self.reconcile_panics = self._counter(
            "controller_runtime_reconcile_panics_total", "Reconciles that raised an unexpected exception.", c
        )
        self.reconcile_timeouts = self._counter(
            "controller_runtime_reconcile_timeouts_total", "Reconciles that ran into their own time-out.", c
        )
        self.reconcile_time = self._histogram(
            "controller_runtime_reconcile_time_seconds", "Length of a reconcile.", c, RECONCILE_BUCKETS
        )
        self.max_concurrent = self._gauge("controller_runtime_max_concurrent_reconciles", "Workers of a controller.", c)
        self.active_workers = self._gauge("controller_runtime_active_workers", "Workers that reconcile now.", c)

        # Work queues.
        q = ("name", "controller")
        self.queue_depth = self._scrape(
            "workqueue_depth", "Keys that wait, per priority; a gated key waits too.", (*q, "priority")
        )
        self.queue_adds = self._counter("workqueue_adds_total", "Adds handled by a work queue.", q)
        self.queue_retries = self._counter("workqueue_retries_total", "Rate-limited adds of a work queue.", q)
        self.queue_duration = self._histogram(
            "workqueue_queue_duration_seconds", "How long a key waits before it is handed out.", q, EXPONENTIAL_BUCKETS
        )
        self.work_duration = self._histogram(
            "workqueue_work_duration_seconds", "How long a worker has a key.", q, EXPONENTIAL_BUCKETS
        )
        self.queue_unfinished = self._scrape(
            "workqueue_unfinished_work_seconds", "Seconds of work in progress that no duration has counted yet.", q
        )
        self.queue_longest = self._scrape(
            "workqueue_longest_running_processor_seconds", "Seconds that the longest running worker has its key.", q
        )

        # Webhooks.
        w = ("webhook",)
        self.webhook_latency = self._histogram(
            "controller_runtime_webhook_latency_seconds", "Length of a webhook request.", w, EXPONENTIAL_BUCKETS
        )
        self.webhook_requests = self._counter(
            "controller_runtime_webhook_requests_total", "Webhook requests by path and status code.", (*w, "code")
        )
        self.webhook_in_flight = self._gauge(
            "controller_runtime_webhook_requests_in_flight", "Webhook requests that are being served.", w
        )
        self.webhook_panics = self._plain_counter(
            "controller_runtime_webhook_panics_total", "Admission requests in which a handler raised an exception."
        )
        self.conversion_panics = self._plain_counter(
            "controller_runtime_conversion_webhook_panics_total",
            "Conversion requests in which a function raised an exception.",
        )

        # The REST client.
        self.requests = self._counter(
            "rest_client_requests_total", "Requests by status code, method and host.", ("code", "method", "host")
        )
        vh = ("verb", "host")
        self.request_duration: Family[Histogram] | None = None
        self.limiter_duration: Family[Histogram] | None = None
        self.dns_duration: Family[Histogram] | None = None
        self.request_size: Family[Histogram] | None = None
        self.response_size: Family[Histogram] | None = None
        self.request_retries: Family[Counter] | None = None
        if clients:
            self.request_duration = self._histogram(
                "rest_client_request_duration_seconds", "Length of a request.", vh, LATENCY_BUCKETS
            )
            self.limiter_duration = self._histogram(
                "rest_client_rate_limiter_duration_seconds", "Wait for the client's limiter.", vh, LATENCY_BUCKETS
            )
            self.dns_duration = self._histogram(
                "rest_client_dns_resolution_duration_seconds", "Length of a name look-up.", ("host",), LATENCY_BUCKETS
            )
            self.request_size = self._histogram(
                "rest_client_request_size_bytes", "Size of request bodies.", vh, SIZE_BUCKETS
            )
            self.response_size = self._histogram(
                "rest_client_response_size_bytes", "Size of response bodies.", vh, SIZE_BUCKETS
            )
            self.request_retries = self._counter(
                "rest_client_request_retries_total", "Retries by status code, verb and host.", ("code", "verb", "host")
            )

        # Leader election.
        self.leader = self._gauge("leader_election_master_status", "1 while this process leads.", ("name",))
        self.leader_slowpath = self._counter(
            "leader_election_slowpath_total", "Renewals that needed a read first.", ("name",)
        )
        self.kruise_leader = self._plain_gauge("kruise_manager_is_leader", "1 while this manager leads.")
        self.lease_remaining = self._scrape(
            "kruise_leader_lease_remaining_seconds", "Seconds until the held lease must be renewed.", ("name",)
        )
        self.fenced_writes = self._counter(
            "kruise_leader_fenced_writes_total", "Writes refused because the term was over.", ("name",)
        )
        self.takeover = self._gauge(
            "kruise_leader_takeover_seconds", "From gaining the lease to the first worker that runs.", ("name",)
        )

        # Informers.
        self.informer_objects = self._scrape("kruise_informer_objects", "Objects in a store.", _KIND)
        self.informer_bytes = self._scrape(
            "kruise_informer_store_bytes", "Estimated bytes of the objects of a store.", _KIND
        )
        self.informer_event_age = self._scrape(
            "kruise_informer_last_event_age_seconds", "Seconds since the last event or bookmark.", _KIND
        )
        self.informer_version_lag = self._scrape(
            "kruise_informer_resource_version_lag_seconds",
            "Seconds for which a version that was waited for has not been applied yet.",
            _KIND,
        )
        self.informer_relists = self._counter(
            "kruise_informer_relists_total", "Lists after the first one, by reason.", (*_KIND, "reason")
        )
        self.watchlist_fallback = self._counter(
            "kruise_informer_watchlist_fallback_total", "Streaming lists that fell back to LIST.", (*_KIND, "reason")
        )
        self.watch_stalls = self._counter(
            "kruise_informer_watch_stalls_total", "Watches that were reopened because no byte came.", _KIND
        )
        self.decode_time = self._histogram(
            "kruise_informer_decode_seconds", "Length of decoding one batch of events.", _KIND, EXPONENTIAL_BUCKETS
        )
        self.undecodable = self._counter(
            "kruise_informer_undecodable_total", "Objects that do not fit their projection.", _KIND
        )
        self.pending_keys = self._scrape("kruise_informer_pending_keys", "Keys that wait for a slow subscriber.", _KIND)

        # Consistency, writes, events, loop.
        self.consistency_wait = self._histogram(
            "kruise_consistency_wait_seconds", "How long a key waited to see its own writes.", c, LATENCY_BUCKETS
        )
        self.consistency_skipped = self._counter(
            "kruise_consistency_skipped_total", "Times that a key was held back for its own writes.", c
        )
        self.consistency_timeouts = self._counter(
            "kruise_consistency_timeouts_total", "Waits for own writes that ran into their deadline.", c
        )
        self.view_differences = self._counter(
            "kruise_consistency_view_differences_total",
            "Self-checks in which what is kept incrementally differed from what there is: each is a bug.",
            c,
        )
        self.noop_skipped = self._counter(
            "kruise_noop_writes_skipped_total", "Writes not sent because they would change nothing.", c
        )
        self.events_dropped = self._counter(
            "kruise_events_dropped_total", "Events that were not written, by reason.", ("reason",)
        )
        self.loop_lag = self._plain_gauge(
            "kruise_event_loop_lag_seconds", "How late the event loop ran its last probe."
        )
        self.warnings = self._plain_counter("kruise_rest_warnings_total", "Warnings that the API server sent along.")
        self.throttled = self._counter(
            "kruise_rest_throttled_total",
            "Requests answered with 429, by the UIDs of flow schema and priority level.",
            ("flow_schema", "priority_level"),
        )
        self.certificate_reads = self._plain_counter(
            "certwatcher_read_certificate_total", "Reads of the serving certificate."
        )
        self.certificate_errors = self._plain_counter(
            "certwatcher_read_certificate_errors_total", "Failed reads of the serving certificate."
        )
        self.source_errors = self._counter(
            "kruise_metrics_source_errors_total",
            "Failures of what computes the samples of a metric when it is scraped; they are missing from that scrape.",
            ("metric",),
        )
        self.certificate_expiry = self._scrape(
            "kruise_webhook_certificate_expiry_seconds",
            "Seconds until the first of the serving certificates ends; absent while nothing is served over TLS.",
            (),
            fold=min,
        )

    def render(self) -> bytes:
        """Return everything in the text format of Prometheus (:data:`CONTENT_TYPE`)."""
        return generate_latest(_AsGoPrints(self.registry))

    def counter(self, name: str, text: str, labels: Sequence[str]) -> Family[Counter]:
        """Return the counter *name* of a component that is not part of the runtime; the same one each time."""
        if name not in self._counters:
            self._counters[name] = self._counter(name, text, labels)
        return self._counters[name]

    def gauge(self, name: str, text: str, labels: Sequence[str]) -> Family[Gauge]:
        """Return the gauge *name* of a component that is not part of the runtime; the same one each time."""
        if name not in self._gauges:
            self._gauges[name] = self._gauge(name, text, labels)
        return self._gauges[name]

    def _describe(self, name: str, kind: str, text: str, labels: Sequence[str], buckets: Sequence[float] = ()) -> None:
        self.catalog.append(Described(name, kind, tuple(labels), text, tuple(buckets), name in OPT_IN))

    def _counter(self, name: str, text: str, labels: Sequence[str]) -> Family[Counter]:
        self._describe(name, "counter", text, labels)
        return Family(Counter(name, text, labels, registry=self.registry), labels)

    def _gauge(self, name: str, text: str, labels: Sequence[str]) -> Family[Gauge]:
        self._describe(name, "gauge", text, labels)
        return Family(Gauge(name, text, labels, registry=self.registry), labels)

    def _histogram(self, name: str, text: str, labels: Sequence[str], buckets: Sequence[float]) -> Family[Histogram]:
        self._describe(name, "histogram", text, labels, buckets)
        return Family(Histogram(name, text, labels, registry=self.registry, buckets=buckets), labels)

    def _plain_gauge(self, name: str, text: str) -> Gauge:
        self._describe(name, "gauge", text, ())
        return Gauge(name, text, registry=self.registry)

    def _plain_counter(self, name: str, text: str) -> Counter:
        self._describe(name, "counter", text, ())
        return Counter(name, text, registry=self.registry)

    def _scrape(
        self, name: str, text: str, labels: Sequence[str], *, fold: Callable[[float, float], float] | None = None
    ) -> ScrapeFamily:
        return self.add(ScrapeFamily(name, text, labels, fold=fold))

    def _lost(self, name: str, error: Exception) -> None:
        """Count samples that are missing from a scrape; tell why at the first time, for scrapes come often."""
        self.source_errors.labels(name).inc()
        if name not in self._told and self.on_source_error is not None:
            self._told.add(name)
            self.on_source_error(name, error)

    def claim_controller(self, name: str) -> None:
        """Reserve the label value of a controller; raises ValueError when another controller has it (CTL6)."""
        if name in self._controllers:
            raise ValueError(f"a controller named {name} is there already: their metrics and logs would mix")
        self._controllers.add(name)

    def add(self, family: ScrapeFamily) -> ScrapeFamily:
        """Register a family of a controller's own; raises ValueError when its name is taken."""
        if any(one.name == family.name for one in self.catalog):
            raise ValueError(f"the metric {family.name} is there already")
        self.registry.register(family)
        family.on_failure = functools.partial(self._lost, family.name)
        self._describe(family.name, "counter" if family.counter else "gauge", family.text, family.label_names)
        return family
