"""A runtime for Kubernetes controllers: informers, caches, a work queue, conditional writes, leader election, metrics.

Purpose: the generic half of this project. It knows nothing of any workload, and it is importable alone: a controller of
your own is about forty lines (``examples/01_configmap_copier.py``). This text is the guided tour; each module says in
its own docstring what it guarantees, and each guarantee has an id that tests cite.

There are two ways in. A newcomer needs :class:`Manager` and :class:`Builder`, and nothing else. Every component also
works by itself: a reflector with its store is an :class:`Informer`, and there is a :class:`Queue`, a :class:`Client`,
an :class:`Elector`, a :class:`Recorder` (``examples/02_watch_pods.py`` is an informer without a manager).

**Manager.** A :class:`Manager` owns what a process needs around its controllers. It starts in phases: probes and
metrics, caches, what every replica runs, warm-up, and then the election. It stops in an order of its own, within 30
seconds, and gives its lease back. Each ordering rule stands with its reason in ``manager/phases.py``. All state is in
the object, so that two managers share a process and nothing else. Make it from a transport, a clock and a random
source; :meth:`Manager.run` returns after an orderly stop and raises whatever else ended it.

**Controllers.** A :class:`Builder` joins a reconcile function with the kinds that wake it: ``for_`` names the kind that
is reconciled, ``owns`` its children, ``watches`` anything else with a function from a change to keys. The same lines
declare what the cache holds; ``accesses`` declares the writes, and RBAC rules are generated from both. Predicates
(:class:`GenerationChanged`, :class:`LabelSelector` and others, combined with ``&``, ``|`` and ``~``) drop changes;
sources (:class:`Channel`, :class:`Interval`, :class:`Func`) bring keys from elsewhere. Keys wait in a :class:`Queue`:
a key is never in two workers, what is added ten times runs once, news goes before a resync, failures back off.

**Reconcilers.** A reconcile function takes a :class:`Key` and brings the world one step closer to what the object of
that key asks for. It is level-triggered: it is never told what happened, and looks for itself. It returns
:class:`Done`, or :class:`After` a number of seconds. An exception is a retry with back-off; a :class:`TerminalError`
says that nothing helps until the object changes. It may be cancelled at any await, and it has five minutes. The best
ones are ``observe, plan, apply``, with a plan that is a pure function.

**Clients and caches.** Reads come from the :class:`Cache`, which holds what was declared and never starts a watch by
itself; objects are frozen projections (:class:`Object` with the fields that you read), shared and never copied.
``client.live`` asks the server. Writes go through :class:`Client` and cannot be unconditional: a create has a name of
its own, a patch carries the resourceVersion that the decision was made on, a delete the uid; there is no PUT. What
would change nothing is not sent. After a write its key waits in the queue until the cache has seen that write
(:class:`ConsistencyTracker`), so that no plan is made on a past that the controller itself has changed. Everything goes
through a :class:`Transport`, the one seam to the network; middleware and the embedded API server stand there too.

**Webhooks.** A :class:`WebhookServer` answers the API server over TLS, in every replica (``manager.add_webhooks``).
A handler is a function from an :class:`AdmissionRequest` to an :class:`Answer`: :class:`Defaulter` and
:class:`Validator` make one of functions over objects, :func:`in_turn` one of several, and :class:`Conversions` knows
the versions of kinds. :func:`allow` and :func:`deny` are for users; an exception is ours, and is answered so that the
failurePolicy decides, as is :class:`NotReady`. Certificates renew themselves: a :class:`CertificateKeeper` keeps them
in a :class:`SecretStore` or a :class:`DirectoryStore`, publishes their authority in the configurations that
:class:`Targets` names, and a :class:`Dialer` tries them as the API server would.

**Events.** A :class:`Recorder` from ``manager.recorder(name)`` tells users what happened. It never waits and never
fails: similar events become one with a count, each source has a budget, and a server that is away delays nobody.

**Metrics and health.** ``manager.metrics`` has the names and labels of controller-runtime, so that its dashboards work,
and more of our own; ``docs/metrics.md`` has all of them. ``/healthz`` fails when the event loop or a worker hangs or a
lease cannot be renewed, ``/readyz`` until the caches are complete; both name the reason, and
:meth:`Manager.add_health_check` and :meth:`Manager.add_ready_check` add more.

**Logging.** :func:`get_logger` returns a logger with constant messages and key/value pairs, in JSON or text
(``log.configure``). Within a reconcile every line carries controller, object and a reconcile id without being told.
Values under keys that name a secret are never printed.

**Testing.** Clock, random numbers and transport come in as arguments, so a test replaces all three.
``kruise.runtime.testing`` has a virtual event loop on which an hour passes in milliseconds, in an order given by a
seed; ``kruise.simulator.apiserver`` is an API server in memory behind the transport seam. Together they run a whole
manager, unchanged, in one task tree without a socket. Neither is ever imported by production code.

**Errors** form one tree under :class:`RuntimeFault`, drawn in ``errors.py``; each text says what to do next.

What this does not do: there are no generated model classes. Importing this package imports none of its rooms: names
are looked up when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from kruise.runtime.backoff import BackoffPolicy, HostBackoff
    from kruise.runtime.cache.cache import Cache
    from kruise.runtime.cache.consistency import ConsistencyTracker
    from kruise.runtime.cache.fanout import Registration
    from kruise.runtime.cache.host import Host
    from kruise.runtime.cache.index import Index
    from kruise.runtime.cache.informer import Informer
    from kruise.runtime.cache.scope import Scope
    from kruise.runtime.cache.status import InformerStatus
    from kruise.runtime.cache.store import Change, Store
    from kruise.runtime.client.auth import ClusterConfig, Credentials, StaticCredentials, in_cluster
    from kruise.runtime.client.client import Client, Live, PatchKind, Reader, Write
    from kruise.runtime.client.fence import Fence
    from kruise.runtime.client.http import HttpTransport
    from kruise.runtime.client.kubeconfig import from_kubernetes, load_config, load_kubeconfig
    from kruise.runtime.client.pace import Pace
    from kruise.runtime.client.patch import merge_diff
    from kruise.runtime.client.rest import Rest
    from kruise.runtime.client.transport import ByteStream, Middleware, Pool, Request, Response, Transport, chain
    from kruise.runtime.client.window import WriteWindow
    from kruise.runtime.clock import (
        Clock,
        Random,
        SystemClock,
        format_micro_time,
        format_time,
        parse_time,
        system_random,
    )
    from kruise.runtime.controller.access import Access
    from kruise.runtime.controller.builder import Builder
    from kruise.runtime.controller.controller import Controller
    from kruise.runtime.controller.handler import EnqueueMapped, EnqueueOwner, EnqueueSelf
    from kruise.runtime.controller.predicate import (
        AnnotationChanged,
        Filter,
        GenerationChanged,
        LabelChanged,
        LabelSelector,
        Predicate,
        ResourceVersionChanged,
    )
    from kruise.runtime.controller.queue import LOW, Queue, QueueStats
    from kruise.runtime.controller.ratelimit import RateLimiter, default_limiter
    from kruise.runtime.controller.reconcile import (
        After,
        Done,
        Needs,
        Reconcile,
        ReconcileContext,
        Result,
        Runnable,
        current,
    )
    from kruise.runtime.controller.source import Channel, Func, Interval, Kind, Source
    from kruise.runtime.errors import (
        AlreadyExists,
        ApiError,
        BadFrame,
        BadRequest,
        Cause,
        ConfigError,
        Conflict,
        DecodeError,
        Expired,
        Fenced,
        Forbidden,
        InternalError,
        Invalid,
        LeadershipLost,
        MethodNotAllowed,
        NotFound,
        QueueClosed,
        Refused,
        Reset,
        ResourceNotCached,
        RuntimeFault,
        ServerTimeout,
        Status,
        SyncTimeout,
        TerminalError,
        Timeout,
        TooLarge,
        TooLargeResourceVersion,
        TooManyRequests,
        TransportError,
        Truncated,
        Unauthorized,
        Unavailable,
        UnknownOutcome,
        Unsupported,
    )
    from kruise.runtime.log import bound, get_logger
    from kruise.runtime.manager.debug import DebugOptions
    from kruise.runtime.manager.http import Address
    from kruise.runtime.manager.leader import ElectionOptions, Elector, Term
    from kruise.runtime.manager.lease import Durations
    from kruise.runtime.manager.manager import Manager, ManagerOptions, Phase
    from kruise.runtime.manager.metrics_server import MetricsOptions
    from kruise.runtime.manager.process import loop_factory
    from kruise.runtime.manager.recorder import EventBroadcaster, Recorder
    from kruise.runtime.metrics import Metrics
    from kruise.runtime.objects import (
        Key,
        Object,
        ObjectMeta,
        OwnerReference,
        PartialObject,
        Resource,
        Unreadable,
        compare_versions,
        controller_of,
        own,
        owned_by,
        owner_reference,
        thaw,
        version_at_least,
    )
    from kruise.runtime.webhook.admission import AdmissionRequest, Answer, NotReady, allow, deny
    from kruise.runtime.webhook.certs import CertificateRules
    from kruise.runtime.webhook.conversion import ConversionFailed, Conversions
    from kruise.runtime.webhook.dial import Dialer
    from kruise.runtime.webhook.handlers import Defaulter, Validator, Warn, in_turn
    from kruise.runtime.webhook.keeper import CertificateKeeper
    from kruise.runtime.webhook.server import WebhookServer
    from kruise.runtime.webhook.stores import DirectoryStore, SecretStore
    from kruise.runtime.webhook.targets import Reach, Target, TargetKind, Targets

__all__ = [
    "LOW",
    "Access",
    "Address",
    "AdmissionRequest",
    "After",
    "AlreadyExists",
    "AnnotationChanged",
    "Answer",
    "ApiError",
    "BackoffPolicy",
    "BadFrame",
    "BadRequest",
    "Builder",
    "ByteStream",
    "Cache",
    "Cause",
    "CertificateKeeper",
    "CertificateRules",
    "Change",
    "Channel",
    "Client",
    "Clock",
    "ClusterConfig",
    "ConfigError",
    "Conflict",
    "ConsistencyTracker",
    "Controller",
    "ConversionFailed",
    "Conversions",
    "Credentials",
    "DebugOptions",
    "DecodeError",
    "Defaulter",
    "Dialer",
    "DirectoryStore",
    "Done",
    "Durations",
    "ElectionOptions",
    "Elector",
    "EnqueueMapped",
    "EnqueueOwner",
    "EnqueueSelf",
    "EventBroadcaster",
    "Expired",
    "Fence",
    "Fenced",
    "Filter",
    "Forbidden",
    "Func",
    "GenerationChanged",
    "Host",
    "HostBackoff",
    "HttpTransport",
    "Index",
    "Informer",
    "InformerStatus",
    "InternalError",
    "Interval",
    "Invalid",
    "Key",
    "Kind",
    "LabelChanged",
    "LabelSelector",
    "LeadershipLost",
    "Live",
    "Manager",
    "ManagerOptions",
    "MethodNotAllowed",
    "Metrics",
    "MetricsOptions",
    "Middleware",
    "Needs",
    "NotFound",
    "NotReady",
    "Object",
    "ObjectMeta",
    "OwnerReference",
    "Pace",
    "PartialObject",
    "PatchKind",
    "Phase",
    "Pool",
    "Predicate",
    "Queue",
    "QueueClosed",
    "QueueStats",
    "Random",
    "RateLimiter",
    "Reach",
    "Reader",
    "Reconcile",
    "ReconcileContext",
    "Recorder",
    "Refused",
    "Registration",
    "Request",
    "Reset",
    "Resource",
    "ResourceNotCached",
    "ResourceVersionChanged",
    "Response",
    "Rest",
    "Result",
    "Runnable",
    "RuntimeFault",
    "Scope",
    "SecretStore",
    "ServerTimeout",
    "Source",
    "StaticCredentials",
    "Status",
    "Store",
    "SyncTimeout",
    "SystemClock",
    "Target",
    "TargetKind",
    "Targets",
    "Term",
    "TerminalError",
    "Timeout",
    "TooLarge",
    "TooLargeResourceVersion",
    "TooManyRequests",
    "Transport",
    "TransportError",
    "Truncated",
    "Unauthorized",
    "Unavailable",
    "UnknownOutcome",
    "Unreadable",
    "Unsupported",
    "Validator",
    "Warn",
    "WebhookServer",
    "Write",
    "WriteWindow",
    "allow",
    "bound",
    "chain",
    "compare_versions",
    "controller_of",
    "current",
    "default_limiter",
    "deny",
    "format_micro_time",
    "format_time",
    "from_kubernetes",
    "get_logger",
    "in_cluster",
    "in_turn",
    "load_config",
    "load_kubeconfig",
    "loop_factory",
    "merge_diff",
    "own",
    "owned_by",
    "owner_reference",
    "parse_time",
    "system_random",
    "thaw",
    "version_at_least",
]

_HOMES: Final = {
    "backoff": "BackoffPolicy HostBackoff",
    "cache.cache": "Cache",
    "cache.consistency": "ConsistencyTracker",
    "cache.fanout": "Registration",
    "cache.host": "Host",
    "cache.index": "Index",
    "cache.informer": "Informer",
    "cache.scope": "Scope",
    "cache.status": "InformerStatus",
    "cache.store": "Change Store",
    "client.auth": "ClusterConfig Credentials StaticCredentials in_cluster",
    "client.client": "Client Live PatchKind Reader Write",
    "client.fence": "Fence",
    "client.http": "HttpTransport",
    "client.kubeconfig": "from_kubernetes load_config load_kubeconfig",
    "client.pace": "Pace",
    "client.patch": "merge_diff",
    "client.rest": "Rest",
    "client.transport": "ByteStream Middleware Pool Request Response Transport chain",
    "client.window": "WriteWindow",
    "clock": "Clock Random SystemClock format_micro_time format_time parse_time system_random",
    "controller.access": "Access",
    "controller.builder": "Builder",
    "controller.controller": "Controller",
    "controller.handler": "EnqueueMapped EnqueueOwner EnqueueSelf",
    "controller.predicate": (
        "AnnotationChanged Filter GenerationChanged LabelChanged LabelSelector Predicate ResourceVersionChanged"
    ),
    "controller.queue": "LOW Queue QueueStats",
    "controller.ratelimit": "RateLimiter default_limiter",
    "controller.reconcile": "After Done Needs Reconcile ReconcileContext Result Runnable current",
    "controller.source": "Channel Func Interval Kind Source",
    "errors": (
        "AlreadyExists ApiError BadFrame BadRequest Cause ConfigError Conflict DecodeError Expired Fenced "
        "Forbidden InternalError Invalid LeadershipLost MethodNotAllowed NotFound QueueClosed Refused Reset "
        "ResourceNotCached RuntimeFault ServerTimeout Status SyncTimeout TerminalError Timeout TooLarge "
        "TooLargeResourceVersion TooManyRequests TransportError Truncated Unauthorized Unavailable "
        "UnknownOutcome Unsupported"
    ),
    "log": "bound get_logger",
    "manager.debug": "DebugOptions",
    "manager.http": "Address",
    "manager.leader": "ElectionOptions Elector Term",
    "manager.lease": "Durations",
    "manager.manager": "Manager ManagerOptions Phase",
    "manager.metrics_server": "MetricsOptions",
    "manager.process": "loop_factory",
    "manager.recorder": "EventBroadcaster Recorder",
    "metrics": "Metrics",
    "objects": (
        "Key Object ObjectMeta OwnerReference PartialObject Resource Unreadable compare_versions "
        "controller_of own owned_by owner_reference thaw version_at_least"
    ),
    "webhook.admission": "AdmissionRequest Answer NotReady allow deny",
    "webhook.certs": "CertificateRules",
    "webhook.conversion": "ConversionFailed Conversions",
    "webhook.dial": "Dialer",
    "webhook.handlers": "Defaulter Validator Warn in_turn",
    "webhook.keeper": "CertificateKeeper",
    "webhook.server": "WebhookServer",
    "webhook.stores": "DirectoryStore SecretStore",
    "webhook.targets": "Reach Target TargetKind Targets",
}
"""Where each name lives. A name is imported when it is first asked for: who needs a Queue pays for no HTTP library."""

if not TYPE_CHECKING:  # for a type checker every name is imported above, and any other one is an error
    _MODULE_OF = {name: module for module, names in _HOMES.items() for name in names.split()}

    def __getattr__(name: str) -> Any:
        module = _MODULE_OF.get(name)
        if module is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(f"{__name__}.{module}"), name)
        globals()[name] = value
        return value

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
