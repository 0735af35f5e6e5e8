"""The wiring of the SidecarSet controller: options reach it, and it watches what it needs where that is."""

from __future__ import annotations

from typing import Any

import pytest

from kruise import app
from kruise.apis.core import NAMESPACES, PODS, REVISIONS
from kruise.controllers.sidecarset.setup import NAME, setup
from kruise.options import Options
from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.errors import ConfigError
from kruise.runtime.manager.manager import Manager, ManagerOptions
from kruise.runtime.metrics import Metrics


class Nowhere:
    async def request(self, request: Request) -> Any:
        raise AssertionError(request.path)

    stream = request

    async def close(self) -> None: ...


def manager(**options: Any) -> Manager:
    return Manager(
        Nowhere(), ManagerOptions(**options), clock=SystemClock(), rng=Random(1), metrics=Metrics(process=False)
    )


def built(**options: Any) -> Manager:
    return app.build(
        Nowhere(),
        Options(disable_webhooks=True, **options),
        clock=SystemClock(),
        rng=Random(1),
        metrics=Metrics(process=False),
    )


@pytest.mark.parametrize(
    ("enabled", "there"), [((), True), (("SidecarSet",), True), (("StatefulSet", "BroadcastJob"), False)]
)
def test_custom_resource_enable_chooses_the_controller(enabled: tuple[str, ...], there: bool) -> None:
    one = built(custom_resource_enable=enabled, sidecarset_workers=5)
    found = one.metrics.registry.get_sample_value("controller_runtime_max_concurrent_reconciles", {"controller": NAME})
    assert found == (5 if there else None)


def test_revisions_are_watched_in_the_namespace_of_the_manager_too() -> None:
    one = built(watch_namespaces=("shop", "pay"), pod_namespace="kruise-here")
    scopes = {str(known.resource): [scope.namespace for scope in known.scopes] for known in one.cache.informers()}
    assert scopes[str(REVISIONS)] == ["shop", "pay", "kruise-here"]
    assert (scopes[str(PODS)], scopes[str(NAMESPACES)]) == (["shop", "pay"], [""])


def test_whoever_sets_it_up_after_another_one_that_has_revisions_is_told() -> None:
    one = manager(namespaces=("shop",))
    one.cache.watch(REVISIONS)
    with pytest.raises(ConfigError, match="include the namespace kruise-system before"):
        setup(one)


@pytest.mark.parametrize(
    ("gauges", "wanted"),
    [("none", (False, False)), ("basic", (True, False)), ("full", (True, True))],
)
def test_object_metrics_chooses_the_gauges(gauges: str, wanted: tuple[bool, bool]) -> None:
    one = manager()
    setup(one, gauges=gauges)
    names = {described.name for described in one.metrics.catalog}
    assert tuple(f"kruise_sidecarset_{name}" in names for name in ("status_replicas_matched", "created")) == wanted
