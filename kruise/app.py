"""Wiring: from options and a transport to a manager with its controllers.

Purpose: the one place that knows which controllers there are. ``main`` and the command line both build through it.

What this does not do: it opens no connection, reads no environment, and decides nothing about workloads.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.sidecarset import SIDECARSETS
from kruise.apis.sidecarset_policy import SidecarPolicy
from kruise.apis.statefulset import STATEFULSETS
from kruise.controllers.broadcastjob.setup import setup as setup_broadcastjob
from kruise.controllers.sidecarset.setup import setup as setup_sidecarset
from kruise.controllers.statefulset.setup import setup as setup_statefulset
from kruise.options import Options
from kruise.runtime.client.limiter import RateLimiter
from kruise.runtime.client.transport import Transport
from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller import RateLimiter as QueueLimiter
from kruise.runtime.controller import default_limiter
from kruise.runtime.log import get_logger
from kruise.runtime.manager.debug import DebugOptions
from kruise.runtime.manager.lease import Durations
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.manager.metrics_server import MetricsOptions
from kruise.runtime.metrics import Metrics

__all__ = ["build", "manager_options"]

log = get_logger("app")

KINDS: Final = (STATEFULSETS.kind, BROADCASTJOBS.kind, SIDECARSETS.kind)
"""The kinds that this manager reconciles."""
_DEFAULT_BURST: Final = 50
_DEFAULT_BUCKET: Final = 100


def manager_options(o: Options) -> ManagerOptions:
    """Return the runtime's options out of the program's. Raises ConfigError."""
    return ManagerOptions(
        leader_election=o.leader_elect,
        leader_election_namespace=o.leader_election_namespace,
        leader_election_id=o.leader_election_id,
        durations=Durations(o.lease_duration, o.renew_deadline, o.retry_period),
        metrics=MetricsOptions(
            o.metrics_addr, o.metrics_secure, o.metrics_cert_path, o.metrics_cert_name, o.metrics_cert_key
        ),
        health_address=o.health_probe_addr,
        debug=DebugOptions(o.enable_debug, o.debug_addr),
        namespaces=o.namespaces,
        sync_timeout=o.cache_sync_timeout,
        watch_timeout=(int(o.watch_timeout_min), int(o.watch_timeout_max)),
        graceful_shutdown=o.graceful_shutdown_timeout,
        shutdown_delay=o.shutdown_delay,
        dry_run=o.dry_run,
    )


def build(
    transport: Transport,
    options: Options,
    *,
    clock: Clock,
    rng: Random,
    host: str = "",
    metrics: Metrics | None = None,
    abort: Callable[[int], object] | None = None,
    certificates: bool = True,
) -> Manager:
    """Return a manager with every enabled controller and the webhooks; nothing runs yet. Raises ConfigError.

    Without *certificates* the webhooks do not listen: ``manager.webhooks.answer`` answers alone.
    """
    manager = Manager(
        transport,
        manager_options(options),
        clock=clock,
        rng=rng,
        metrics=metrics if metrics is not None else Metrics(clients=options.rest_client_metrics),
        host=host,
        limiter=_client_limiter(options, clock),
        abort=abort,
    )
    for kind in options.custom_resource_enable:
        if kind not in KINDS:
            log.warning("a kind that this manager does not reconcile is enabled", kind=kind)
    enabled = options.custom_resource_enable or KINDS
    if SIDECARSETS.kind in enabled:  # the first one: it adds its own namespace to the revisions that are watched
        setup_sidecarset(
            manager,
            workers=options.sidecarset_workers,
            limiter=_queue_limiter(options, rng),
            gauges=options.object_metrics,
            resync=options.sync_period,
            namespace=options.pod_namespace,
            concerns=SidecarPolicy(allowed=frozenset(options.sidecar_policy_allow)).concerns,
        )
    if STATEFULSETS.kind in enabled:
        setup_statefulset(
            manager,
            workers=options.statefulset_workers,
            gates=options.gates,
            limiter=_queue_limiter(options, rng),
            gauges=options.object_metrics,
            resync=options.sync_period,
        )
    if BROADCASTJOBS.kind in enabled:
        setup_broadcastjob(
            manager,
            workers=options.broadcastjob_workers,
            by_scheduler=options.assign_bcj_pods_by_scheduler,
            limiter=_queue_limiter(options, rng),
            gauges=options.object_metrics,
            resync=options.sync_period,
        )
    if not options.disable_webhooks:
        from kruise.webhooks.setup import setup as setup_webhooks  # who serves none loads none: a fifth of the start

        setup_webhooks(manager, options, clock=clock, rng=rng, kinds=enabled, certificates=certificates)
    return manager


def _client_limiter(o: Options, clock: Clock) -> RateLimiter | None:
    if o.rest_config_qps is None or o.rest_config_qps <= 0:
        return None
    burst = o.rest_config_burst or _DEFAULT_BURST
    log.warning("API requests are limited on our side, leases exempt", qps=o.rest_config_qps, burst=burst)
    return RateLimiter(o.rest_config_qps, burst, clock=clock)


def _queue_limiter(o: Options, rng: Random) -> QueueLimiter:
    qps = max(0.0, o.rate_limiter_qps or 0.0)
    return default_limiter(
        rng,
        base=o.rate_limiter_base_delay,
        cap=o.rate_limiter_max_delay,
        qps=qps,
        burst=o.rate_limiter_bucket_size or _DEFAULT_BUCKET,
    )
