from __future__ import annotations

import pytest

from kruise.config import parse_options
from kruise.features import GATES, IMPLICATIONS, Gates, Stage, gates_markdown, resolve


def gate(name: str, *asked: tuple[str, bool], env: dict[str, str] | None = None) -> bool:
    return resolve(asked, env or {})[0].enabled(name)


def test_cfg4_every_gate_has_owner_stage_and_since() -> None:
    names = [g.name for g in GATES]
    assert len(names) == len(set(names))
    for g in GATES:
        assert g.owner and g.since and isinstance(g.stage, Stage)
        assert g.implemented or not g.default
        assert not g.implemented or g.text
        assert f"`{g.name}`" in gates_markdown()


def test_cfg4_defaults() -> None:
    on = {g.name for g in GATES if Gates().enabled(g.name)}
    # There is no node daemon, so that InPlaceUpdateEnvFromMetadata is on by default and off by implication.
    assert on == {"PodWebhook", "StatefulSetAutoDeletePVC", "PodIndexLabel", "MergedPodStatusPatch"}
    with pytest.raises(KeyError):
        Gates().enabled("Nonsense")


def test_cfg4_flag_beats_environment_beats_stage_beats_default() -> None:
    assert gate("StatefulSetStartOrdinal", ("StatefulSetStartOrdinal", True))
    assert gate("StatefulSetStartOrdinal", ("AllAlpha", True))
    assert not gate("StatefulSetStartOrdinal", ("AllAlpha", True), ("StatefulSetStartOrdinal", False))
    assert not gate("PodIndexLabel", ("AllBeta", False))
    env = {"KUBE_FEATURE_PodIndexLabel": "false"}
    assert not gate("PodIndexLabel", env=env)
    assert gate("PodIndexLabel", ("PodIndexLabel", True), env=env)
    assert gate("PodIndexLabel", ("AllBeta", False), env={"KUBE_FEATURE_PodIndexLabel": "true"})
    assert gate("TemplateNoDefaults", ("TemplateNoDefaults", False), ("TemplateNoDefaults", True))


def test_cfg4_unknown_and_unimplemented_gates_warn_and_never_refuse() -> None:
    gates, said = resolve([("PodIndexLable", True), ("WorkloadSpread", True), ("WorkloadSpread", True)], {})
    assert not gates.enabled("WorkloadSpread")
    assert len(said) == 2
    assert "PodIndexLable: unknown gate, ignored; did you mean PodIndexLabel?" in said[0]
    assert "WorkloadSpread" in said[1] and "recognised" in said[1]
    assert resolve([("WorkloadSpread", False)], {"KUBE_FEATURE_WatchListClient": "true"})[1] == []
    said = resolve([], {"KUBE_FEATURE_PodIndexLabel": "maybe"})[1]
    assert len(said) == 1 and "KUBE_FEATURE_PodIndexLabel=maybe" in said[0]


def test_cfg4_every_upstream_name_parses_without_an_unknown_warning() -> None:
    asked = ",".join(f"{g.name}=true" for g in GATES)
    _, said = parse_options([f"--feature-gates={asked}"], {})
    assert not any("unknown" in text for text in said)
    unimplemented = [g.name for g in GATES if not g.implemented]
    assert all(any(f"={name}=" in text for text in said) for name in unimplemented)


@pytest.mark.parametrize(("ground", "built_on"), IMPLICATIONS)
def test_cfg4_implications_hold_and_say_so_when_asked_for(ground: str, built_on: tuple[str, ...]) -> None:
    asked = [(name, True) for name in built_on]
    gates, said = resolve([(ground, False), *asked], {})
    for name in built_on:
        assert not gates.enabled(name)
        assert any(name in text for text in said)


def test_cfg4_pod_webhook_off_takes_what_stands_on_it() -> None:
    on = resolve([("KruisePodReadinessGate", True)], {})
    off = resolve([("PodWebhook", False), ("KruisePodReadinessGate", True)], {})
    assert on[0].enabled("KruisePodReadinessGate") and not on[1]
    assert not off[0].enabled("KruisePodReadinessGate")
    assert off[1] == ["--feature-gates=KruisePodReadinessGate=true: off, because PodWebhook is off"]


def test_cfg4_without_sidecarset_the_pod_webhook_defaults_to_off() -> None:
    def enabled(env: str, *argv: str) -> bool:
        return parse_options(argv, {"CUSTOM_RESOURCE_ENABLE": env})[0].gates.enabled("PodWebhook")

    assert enabled("") and enabled("StatefulSet,SidecarSet")
    assert not enabled("StatefulSet,BroadcastJob")
    assert enabled("StatefulSet", "--feature-gates=PodWebhook=true")
