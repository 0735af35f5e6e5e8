"""The wiring of the StatefulSet controller: gates become settings, kinds are chosen by the environment."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from kruise import app
from kruise.controllers.statefulset.settings import DEFAULT_SETTINGS, Settings
from kruise.controllers.statefulset.setup import NAME, settings_of
from kruise.features import resolve
from kruise.options import Options
from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Random, SystemClock
from kruise.runtime.metrics import Metrics


def flat(settings: Settings) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in dataclasses.asdict(settings).items():
        parts = {f"{name}.{k}": v for k, v in value.items()} if isinstance(value, dict) else {name: value}
        found.update(parts)
    return found


def asked(*gates: tuple[str, bool]) -> dict[str, Any]:
    return flat(settings_of(resolve(gates, {})[0]))


def test_the_defaults_are_those_of_the_planner_but_for_what_needs_a_daemon() -> None:
    plain = asked()
    odd = {name for name, value in flat(DEFAULT_SETTINGS).items() if plain[name] != value}
    assert odd == {"inplace.env_from_metadata"}, "there is no node daemon, so this gate is off (spec 10)"


@pytest.mark.parametrize(
    ("gate", "fields"),
    [
        ("StatefulSetAutoDeletePVC", {"auto_delete_claims"}),
        ("StatefulSetAutoResizePVCGate", {"auto_resize_claims"}),
        ("StatefulSetStartOrdinal", {"start_ordinal"}),
        ("PodIndexLabel", {"pods.index_label"}),
        ("InPlaceWorkloadVerticalScaling", {"inplace.vertical_scaling"}),
        ("PreparingUpdateAsUpdate", {"preparing_as_updated"}),
        ("KruisePodReadinessGate", {"pods.ready_gate"}),
        ("MergedPodStatusPatch", {"inplace.merged_status_patch"}),
        ("LifecycleLabelOnlyWithHooks", {"inplace.label_only_with_hooks", "pods.lifecycle_with_hooks_only"}),
    ],
)
def test_each_gate_flips_its_own_setting(gate: str, fields: set[str]) -> None:
    on, off = asked((gate, True)), asked((gate, False))
    assert {name for name in on if on[name] != off[name]} == fields


class Nowhere:
    async def request(self, request: Request) -> Any:
        raise AssertionError(request.path)

    stream = request

    async def close(self) -> None: ...


@pytest.mark.parametrize(
    ("enabled", "names"),
    [
        ((), {NAME, "broadcastjob-controller"}),
        (("StatefulSet",), {NAME}),
        (("BroadcastJob", "CloneSet"), {"broadcastjob-controller"}),
    ],
)
def test_custom_resource_enable_chooses_the_controllers(enabled: tuple[str, ...], names: set[str]) -> None:
    options = Options(custom_resource_enable=enabled, statefulset_workers=7)
    metrics = Metrics(process=False)
    app.build(Nowhere(), options, clock=SystemClock(), rng=Random(1), metrics=metrics)

    def workers(name: str) -> float | None:
        return metrics.registry.get_sample_value("controller_runtime_max_concurrent_reconciles", {"controller": name})

    assert {name for name in (NAME, "broadcastjob-controller") if workers(name) is not None} == names
    if NAME in names:
        assert workers(NAME) == 7
