"""Wiring of the webhooks: what is served where, from which caches, with whose certificate.

Purpose: the one place that joins the rules of the kinds, the caches of the manager and the server of the runtime.

Guarantees:

* Every replica serves, leader or not. It is ready when its caches are complete, its certificate is valid, and a client
  that trusts what the live configurations trust gets an answer (ecosystem 4.1).
* Least privilege (reliability 8.2): :data:`ACCESSES` and :data:`OWN_ACCESSES` are what admission reads; the rights of a
  keyring of our own stand in ``certificates.py``.
* Versions are converted whatever kinds are enabled; admission is served for the enabled ones. Without the gate
  PodWebhook pods start as they are.

What this does not do: it starts nothing; the manager does. It makes no configuration; ``config/webhook`` has them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Final

from kruise.apis.core import NAMESPACES, REVISIONS, STORAGE_CLASSES, StorageClass
from kruise.apis.sidecarset import SIDECARSETS, WHITE_LIST_CONFIG_MAP
from kruise.apis.sidecarset_policy import SidecarPolicy
from kruise.apis.sidecarset_validation import Surroundings
from kruise.apis.statefulset import STATEFULSETS
from kruise.options import Options
from kruise.runtime.clock import Clock, Random
from kruise.runtime.controller import Access
from kruise.runtime.manager.http import Address
from kruise.runtime.manager.manager import Manager
from kruise.runtime.webhook.admission import AdmissionRequest, NotReady
from kruise.runtime.webhook.dial import Dialer
from kruise.runtime.webhook.server import WebhookServer
from kruise.webhooks.admission import KINDS, Known, register
from kruise.webhooks.certificates import hosts, source
from kruise.webhooks.conversion import PATH as CONVERT
from kruise.webhooks.conversion import conversions
from kruise.webhooks.counters import protections
from kruise.webhooks.doubts import Doubts
from kruise.webhooks.fail_keeper import ACCESSES as FAIL_ACCESSES
from kruise.webhooks.fail_keeper import NAME as FAIL_ENTRIES
from kruise.webhooks.fail_keeper import FailKeeper
from kruise.webhooks.feed import CONFIG_MAPS, Feed
from kruise.webhooks.inject_handler import PATH as PODS
from kruise.webhooks.injection import COMPONENT, Injection, leave_alone

__all__ = ["ACCESSES", "OWN_ACCESSES", "setup"]

ACCESSES: Final = (
    Access(SIDECARSETS, ("get", "list", "watch")),
    Access(NAMESPACES, ("list", "watch")),
    *FAIL_ACCESSES,
)
OWN_ACCESSES: Final = (
    Access(REVISIONS, ("get", "list", "watch"), namespaced_role=True),
    Access(CONFIG_MAPS, ("list", "watch"), namespaced_role=True, resource_names=(WHITE_LIST_CONFIG_MAP,)),
)
"""In our own namespace."""


def setup(
    manager: Manager,
    options: Options,
    *,
    clock: Clock,
    rng: Random,
    kinds: Collection[str] = KINDS,
    certificates: bool = True,
) -> WebhookServer:
    """Serve admission of *kinds*, conversion, and injection into pods. Call it after the controllers are set up.

    Without *certificates* nothing listens, and nothing is written: ``manager.webhooks.answer`` answers alone.
    Raises ConfigError.
    """
    from_where = source(manager, options, clock=clock, rng=rng, kinds=kinds)
    server = WebhookServer(
        Address("", options.webhook_port), from_where.certificate, clock=clock, metrics=manager.metrics
    )
    feed = Feed(manager.cache, options.pod_namespace) if SIDECARSETS.kind in kinds else None
    register(server, kinds, _known(manager, options, feed, kinds))
    server.conversion(conversions(), CONVERT)
    injects = feed is not None and options.gates.enabled("PodWebhook")
    manager.add(
        FailKeeper(
            manager.client_for(FAIL_ENTRIES),
            feed if injects else None,
            clock=clock,
            metrics=manager.metrics,
            events=manager.recorder(COMPONENT),
            namespace=options.pod_namespace,
            lock=from_where.lock,
        )
    )
    if feed is None or not injects:
        server.admission(PODS, leave_alone)
    else:
        server.admission(
            PODS,
            Injection(
                feed,
                clock=clock,
                metrics=manager.metrics,
                events=manager.recorder(COMPONENT),
                sort_by_name=options.gates.enabled("EnableSortSidecarContainerByName"),
            ),
        )
    dialer = Dialer(
        lambda: server.bound, from_where.bundles, hosts(options)[0], clock=clock, refresh=from_where.refresh
    )
    manager.add_webhooks(server, keeper=from_where.keeper, dialer=dialer, listen=certificates)
    return server


def _known(manager: Manager, options: Options, feed: Feed | None, kinds: Collection[str]) -> Known:
    gates = options.gates
    refused = protections(manager.metrics)

    def surroundings() -> Surroundings:
        assert feed is not None  # the handler of SidecarSet is served with a feed alone
        feed.sets_ready()
        return feed.surroundings(metadata_allowed=gates.enabled("SidecarSetPatchPodMetadataDefaultsAllowed"))

    def protected(request: AdmissionRequest) -> None:
        place = f"{request.kind.kind}_{request.namespace}_{request.name}"
        refused.labels(place, request.user_info.username).inc()

    resizes = STATEFULSETS.kind in kinds and gates.enabled("StatefulSetAutoResizePVCGate")
    classes = manager.cache.watch(STORAGE_CLASSES) if resizes else None

    def storage_classes() -> Sequence[StorageClass]:
        assert classes is not None
        if not classes.has_synced:
            raise NotReady("the cache of storageclasses is not complete yet")
        return classes.store.list()

    return Known(
        gates=gates,
        policy=SidecarPolicy(
            mode=options.sidecar_policy,
            allowed=frozenset(options.sidecar_policy_allow),
            images=options.sidecar_policy_images,
            allow_privileged=options.allow_privileged,
        ),
        surroundings=surroundings,
        doubts=Doubts(manager.client, options.pod_namespace).settle,
        storage_classes=storage_classes,
        protected=protected,
    )
