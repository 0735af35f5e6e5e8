"""A transport that answers from a script and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from kruise.runtime.client.client import Client, Write
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import Request, Response, Transport, chain
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics


@dataclass
class Script:
    """Answers each request with ``answer(request)``."""

    answer: Callable[[Request], Response]
    requests: list[Request] = field(default_factory=list)

    async def request(self, request: Request) -> Response:
        self.requests.append(request)
        return self.answer(request)

    async def stream(self, request: Request) -> Any:
        raise AssertionError("no stream expected")

    async def close(self) -> None:
        pass

    @property
    def bodies(self) -> list[Any]:
        return [json.loads(r.body) if r.body else None for r in self.requests]


def ok(body: Any, status: int = 200) -> Response:
    return Response(status, {"content-type": "application/json"}, json.dumps(body).encode())


def refused(code: int, reason: str, message: str = "no", causes: list[dict[str, str]] | None = None) -> Response:
    return ok(
        {"kind": "Status", "code": code, "reason": reason, "message": message, "details": {"causes": causes or []}},
        code,
    )


def partial(name: str = "a", namespace: str = "ns", uid: str = "u1", version: str = "8") -> Response:
    meta = {"name": name, "namespace": namespace, "uid": uid, "resourceVersion": version, "creationTimestamp": None}
    return ok({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": meta})


def client_of(script: Transport, *middleware: Any, writes: list[Write] | None = None, **options: Any) -> Client:
    clock = options.pop("clock", None) or SystemClock()
    metrics = options.pop("metrics", None) or Metrics(process=False)
    rest = Rest(chain(script, list(middleware)), clock=clock, rng=Random(1), metrics=metrics)
    on_write = writes.append if writes is not None else None
    return Client(rest, metrics=metrics, clock=clock, on_write=on_write, controller="test", **options)


def skipped(metrics: Metrics) -> float:
    return metrics.registry.get_sample_value("kruise_noop_writes_skipped_total", {"controller": "test"}) or 0.0
