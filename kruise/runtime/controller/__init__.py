"""From a change to a reconcile: predicates, handlers, sources, the work queue, the worker loop, the builder.

Purpose: one place to import from. Each module states its own guarantees.

What this does not do: it holds no code.
"""

from __future__ import annotations

from kruise.runtime.controller.access import Access
from kruise.runtime.controller.builder import Builder
from kruise.runtime.controller.controller import Controller
from kruise.runtime.controller.handler import EnqueueMapped, EnqueueOwner, EnqueueSelf, EventHandler, Mapper
from kruise.runtime.controller.predicate import (
    AnnotationChanged,
    Filter,
    Funcs,
    GenerationChanged,
    LabelChanged,
    LabelSelector,
    Predicate,
    ResourceVersionChanged,
)
from kruise.runtime.controller.queue import LOW, Item, KeyInfo, KeyState, Queue, QueueStats
from kruise.runtime.controller.ratelimit import (
    Bucket,
    FastSlow,
    ItemBackoff,
    RateLimiter,
    WithMaxWait,
    default_limiter,
    max_of,
)
from kruise.runtime.controller.reconcile import (
    After,
    Done,
    Needs,
    Reconcile,
    ReconcileContext,
    Result,
    Runnable,
    current,
    only_waiting,
    record_write,
)
from kruise.runtime.controller.source import Channel, Func, Interval, Kind, Source

__all__ = [
    "LOW",
    "Access",
    "After",
    "AnnotationChanged",
    "Bucket",
    "Builder",
    "Channel",
    "Controller",
    "Done",
    "EnqueueMapped",
    "EnqueueOwner",
    "EnqueueSelf",
    "EventHandler",
    "FastSlow",
    "Filter",
    "Func",
    "Funcs",
    "GenerationChanged",
    "Interval",
    "Item",
    "ItemBackoff",
    "KeyInfo",
    "KeyState",
    "Kind",
    "LabelChanged",
    "LabelSelector",
    "Mapper",
    "Needs",
    "Predicate",
    "Queue",
    "QueueStats",
    "RateLimiter",
    "Reconcile",
    "ReconcileContext",
    "ResourceVersionChanged",
    "Result",
    "Runnable",
    "Source",
    "WithMaxWait",
    "current",
    "default_limiter",
    "max_of",
    "only_waiting",
    "record_write",
]
