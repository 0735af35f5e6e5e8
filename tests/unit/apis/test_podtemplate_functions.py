"""Pod templates: purity, survival of unknown fields, robustness against wrong types, images, claims."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.apis.podtemplate import default_pod_template, validate_pod_template
from kruise.apis.podtemplate.images import default_pull_policy, parse_image

MINIMAL: dict[str, Any] = {"spec": {"containers": [{"name": "c", "image": "i"}]}}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["spec", "metadata", "containers", "volumes", "name", "env", "ports", "securityContext", "labels", "x"]
            ),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


def errors_of(spec: dict[str, Any], **metadata: Any) -> list[tuple[str, str]]:
    template = default_pod_template({"metadata": metadata, "spec": spec})
    return [(error.field, error.detail) for error in validate_pod_template(template, "t")]


def test_defaulting_is_pure_and_keeps_what_it_does_not_know() -> None:
    template = {"spec": {"newField": [1], "containers": [{"name": "c", "image": "i", "alsoNew": {"a": None}}]}}
    before = copy.deepcopy(template)
    result = default_pod_template(template)
    assert template == before
    assert result["spec"]["newField"] == [1]
    assert result["spec"]["containers"][0]["alsoNew"] == {"a": None}
    assert result["spec"]["securityContext"] == {}
    assert default_pod_template(result) == result


@given(JSON)
def test_nothing_a_user_writes_raises(value: Any) -> None:
    template = value if isinstance(value, dict) else {"spec": value}
    result = default_pod_template(template)
    assert default_pod_template(result) == result
    validate_pod_template(result, "t")


def test_empty_volume_becomes_an_empty_dir_and_host_path_gets_a_type() -> None:
    spec = {"volumes": [{"name": "a"}, {"name": "b", "hostPath": {"path": "/x"}}], **MINIMAL["spec"]}
    volumes = default_pod_template({"spec": spec})["spec"]["volumes"]
    assert volumes == [{"name": "a", "emptyDir": {}}, {"name": "b", "hostPath": {"path": "/x", "type": ""}}]


def test_a_wrong_type_is_named_and_nothing_else_is_said() -> None:
    found = errors_of({"containers": [{"name": 3, "image": "i", "ports": [{"containerPort": "80"}]}], "hostPID": 1})
    assert found == [
        ("t.spec.containers[0].name", "must be a string"),
        ("t.spec.containers[0].ports[0].containerPort", "must be an integer of 32 bits"),
        ("t.spec.hostPID", "must be true or false"),
    ]


def test_a_valid_template_has_no_errors() -> None:
    assert errors_of(MINIMAL["spec"], labels={"a": "b"}, annotations={"c": "d"}) == []


@pytest.mark.parametrize(
    ("image", "policy"),
    [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1.25", "IfNotPresent"),
        ("localhost/x", "Always"),
        ("reg:5000/a/b:1", "IfNotPresent"),
        ("img@sha256:" + "a" * 64, "IfNotPresent"),
        ("img@sha256:" + "a" * 63, "IfNotPresent"),
        ("img@SHA256:" + "a" * 64, "IfNotPresent"),
        ("a" * 64, "IfNotPresent"),
        ("", "IfNotPresent"),
        ("nginx:", "IfNotPresent"),
        ("UPPER:1", "IfNotPresent"),
        ("a b", "IfNotPresent"),
        ("[::1]:5000/a", "Always"),
    ],
)
def test_rule_26_pull_policy_of_an_image(image: str, policy: str) -> None:
    assert default_pull_policy(image) == policy


def test_image_references_are_normalised() -> None:
    parsed = parse_image("nginx@sha256:" + "0" * 64)
    assert parsed is not None
    assert (parsed.name, parsed.tag) == ("docker.io/library/nginx", "")
    assert parse_image("index.docker.io/a/b:1") == parse_image("docker.io/a/b:1")


def test_claim_templates() -> None:
    claim: dict[str, Any] = {
        "metadata": {"name": "x", "uid": "u"},
        "spec": {"accessModes": ["ReadWriteOncePod", "Odd"]},
    }
    volume = {"name": "v", "ephemeral": {"volumeClaimTemplate": claim}}
    at = "t.spec.volumes[0].ephemeral.volumeClaimTemplate"
    assert errors_of({"volumes": [volume], **MINIMAL["spec"]}) == [
        (f"{at}.metadata.name", "cannot be set"),
        (f"{at}.metadata.uID", "cannot be set"),
        (
            f"{at}.spec.accessModes",
            'supported values: "ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"',
        ),
        (f"{at}.spec.resources[storage]", ""),
    ]


def test_windows_and_linux_options_do_not_mix() -> None:
    context = {"windowsOptions": {"runAsUserName": "a\\b\\c"}}
    spec = {"os": {"name": "linux"}, "containers": [{"name": "c", "image": "i", "securityContext": context}]}
    assert errors_of(spec) == [
        (
            "t.spec.containers[0].securityContext.windowsOptions.runAsUserName",
            "runAsUserName cannot contain more than one backslash",
        ),
        ("t.spec.containers[0].securityContext.windowsOptions", "windows options cannot be set for a linux pod"),
    ]


def test_sysctls_may_be_written_with_slashes() -> None:
    spec = {"hostNetwork": True, "securityContext": {"sysctls": [{"name": "net/core/somaxconn"}]}, **MINIMAL["spec"]}
    field = "t.spec.securityContext.sysctls[0].name"
    assert errors_of(spec) == [(field, "may not be specified when 'hostNetwork' is true")]


def test_annotations_must_agree_with_fields() -> None:
    profile = {"seccompProfile": {"type": "Localhost", "localhostProfile": "a"}}
    spec = {"securityContext": profile, **MINIMAL["spec"]}
    key = "seccomp.security.alpha.kubernetes.io/pod"
    at = "t.spec.securityContext.seccompProfile"
    assert errors_of(spec, annotations={key: "localhost/a"}) == []
    assert errors_of(spec, annotations={key: "localhost/b"}) == [
        (f"{at}.localhostProfile", "seccomp profile in annotation and field must match")
    ]
    assert errors_of(spec, annotations={key: "unconfined"}) == [
        (f"{at}.type", "seccomp type in annotation and field must match")
    ]
