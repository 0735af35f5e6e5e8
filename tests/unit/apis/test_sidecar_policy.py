"""What a SidecarSet may ask for (reliability 8.4): every item found, warned of or refused, and allowed by name."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.apis.sidecarset_policy import COMPAT, ITEMS, STRICT, SidecarPolicy, findings
from kruise.config import parse_options
from kruise.options import SIDECAR_POLICY_ITEMS
from kruise.runtime.errors import ConfigError

DIGEST = "sha256:" + "a" * 64
JSON = dict[str, Any]


def sidecars(*containers: JSON, **spec: Any) -> JSON:
    return {"spec": {"containers": [{"name": "c", "image": f"x@{DIGEST}", **one} for one in containers], **spec}}


def context(**fields: Any) -> JSON:
    return sidecars({"securityContext": fields})


CASES: list[tuple[str, str, JSON]] = [
    ("privileged", "spec.containers[0].securityContext.privileged", context(privileged=True)),
    ("capabilities", "spec.containers[0].securityContext.capabilities.add", context(capabilities={"add": ["NET_RAW"]})),
    ("procMount", "spec.containers[0].securityContext.procMount", context(procMount="Unmasked")),
    ("runAsUser", "spec.containers[0].securityContext.runAsUser", context(runAsUser=0)),
    ("hostPath", "spec.volumes[0].hostPath", sidecars(volumes=[{"name": "v", "hostPath": {"path": "/"}}])),
    ("projected", "spec.volumes[0].projected", sidecars(volumes=[{"name": "v", "projected": {"sources": []}}])),
    (
        "shareVolumePolicy",
        "spec.containers[0].shareVolumePolicy",
        sidecars({"shareVolumePolicy": {"type": "enabled"}}),
    ),
    (
        "shareVolumePolicy",
        "spec.containers[0].shareVolumeDevicePolicy",
        sidecars({"shareVolumeDevicePolicy": {"type": "enabled"}}),
    ),
    ("transferEnv", "spec.containers[0].transferEnv", sidecars({"transferEnv": [{"envName": "A"}]})),
    ("image", "spec.containers[0].image", sidecars({"image": "x:1"})),
    ("image", "spec.containers[0].image", sidecars({"image": "not an image"})),
    (
        "image",
        "spec.containers[0].upgradeStrategy.hotUpgradeEmptyImage",
        sidecars({"upgradeStrategy": {"hotUpgradeEmptyImage": "e:1"}}),
    ),
    (
        "privileged",
        "spec.initContainers[0].securityContext.privileged",
        {"spec": {"initContainers": [{"image": f"x@{DIGEST}", "securityContext": {"privileged": True}}]}},
    ),
]


@pytest.mark.parametrize(("item", "field", "obj"), CASES)
def test_compat_warns_strict_refuses_and_an_allowed_item_is_neither(item: str, field: str, obj: JSON) -> None:
    compat = SidecarPolicy().judge(obj)
    assert compat.errors == ()
    (warning,) = compat.warnings
    assert warning.startswith(f"{field}: ")
    strict = SidecarPolicy(mode=STRICT).judge(obj)
    assert strict.warnings == ()
    (error,) = strict.errors
    assert (error.field, error.type.value) == (field, "FieldValueForbidden")
    assert f"unless {item} is allowed" in error.message
    for mode in (COMPAT, STRICT):
        allowed = SidecarPolicy(mode=mode, allowed=frozenset({item})).judge(obj)
        assert (allowed.errors, allowed.warnings) == ((), ())
        others = SidecarPolicy(mode=mode, allowed=frozenset(ITEMS) - {item}).judge(obj)
        assert len(others.errors) + len(others.warnings) == 1


@pytest.mark.parametrize(
    "obj",
    [
        {},
        {"spec": None},
        sidecars(),
        sidecars({}),
        context(privileged=False, capabilities={"drop": ["ALL"]}, procMount="Default", runAsUser=1000),
        context(runAsUser=False, capabilities={}),
        sidecars({"shareVolumePolicy": {"type": "disabled"}, "transferEnv": []}),
        sidecars(volumes=[{"name": "v", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "x"}}]),
    ],
)
def test_what_raises_nothing_is_not_mentioned(obj: JSON) -> None:
    assert list(findings(obj)) == []


@pytest.mark.parametrize("mode", [COMPAT, STRICT])
def test_allow_privileged_is_openkruise_s_and_holds_under_every_policy(mode: str) -> None:
    obj = context(privileged=True)
    policy = SidecarPolicy(mode=mode, allow_privileged=False, allowed=frozenset({"privileged"}))
    (error,) = policy.judge(obj).errors
    assert error.message == ("spec.containers[0].securityContext.privileged: Forbidden: disallowed by cluster policy")


def test_images_of_a_known_place_need_no_digest_and_must_still_be_images() -> None:
    known = ("registry.example/mesh/",)
    assert list(findings(sidecars({"image": "registry.example/mesh/envoy:1"}), images=known)) == []
    assert len(list(findings(sidecars({"image": "registry.example/other/envoy:1"}), images=known))) == 1
    assert len(list(findings(sidecars({"image": "registry.example/mesh/ENVOY:1 x"}), images=known))) == 1


def test_a_finding_quotes_nothing() -> None:
    obj = sidecars({"image": "secret image"}, volumes=[{"name": "v", "hostPath": {"path": "/secret"}}])
    for mode in (COMPAT, STRICT):
        verdict = SidecarPolicy(mode=mode).judge(obj)
        assert "secret" not in " ".join([*verdict.warnings, *map(str, verdict.errors)])


def test_the_options_know_the_items() -> None:
    assert set(SIDECAR_POLICY_ITEMS) == set(ITEMS)
    options, _ = parse_options(["--sidecar-policy=strict", "--sidecar-policy-allow=hostPath,image"], {})
    assert (options.sidecar_policy, options.sidecar_policy_allow) == ("strict", ("hostPath", "image"))
    with pytest.raises(ConfigError, match="--sidecar-policy-allow=hostPath,root: there is no root; want some of priv"):
        parse_options(["--sidecar-policy-allow=hostPath,root"], {})
    with pytest.raises(ConfigError, match="--sidecar-policy=lax: want one of compat, strict"):
        parse_options(["--sidecar-policy=lax"], {})


def test_concerns_are_the_findings_that_nobody_has_allowed_images_aside() -> None:
    one = sidecars({"image": "x:latest", "securityContext": {"privileged": True, "runAsUser": 0}})
    assert SidecarPolicy().concerns(one) == (
        "spec.containers[0].securityContext.privileged: a privileged container is root on the node",
        "spec.containers[0].securityContext.runAsUser: it runs as root",
    )
    assert SidecarPolicy(allowed=frozenset({"privileged", "runAsUser"})).concerns(one) == ()
    assert SidecarPolicy().concerns({"spec": {"containers": None, "volumes": None}}) == ()
