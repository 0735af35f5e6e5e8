"""Revision data: the published vectors, what an undo leaves behind, and what is equal."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from kruise.apis.hashes import controller_revision_hash, fnv32
from kruise.apis.revisiondata import (
    RevisionDataError,
    applied_template,
    canonical_template,
    data_key,
    parse_data,
    revision_data,
    semantically_equal,
    template_key,
    template_of,
)

TEMPLATE: dict[str, Any] = {
    "metadata": {"labels": {"app": "sample"}},
    "spec": {"containers": [{"name": "main", "image": "nginx:1.21"}]},
}
DATA = (
    b'{"spec":{"template":{"$patch":"replace","metadata":{"creationTimestamp":null,"labels":{"app":"sample"}},'
    b'"spec":{"containers":[{"image":"nginx:1.21","name":"main","resources":{}}]}}}}'
)


def changed(**container: Any) -> dict[str, Any]:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["containers"][0].update(container)
    return template


def equal(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return semantically_equal(revision_data(a), revision_data(b))


@pytest.mark.parametrize(("text", "value"), [(b"", 0x811C9DC5), (b"a", 0x050C5D7E), (b"foobar", 0x31F0B262)])
def test_spec_18_published_hashes(text: bytes, value: int) -> None:
    assert fnv32(text) == value


@pytest.mark.parametrize(("count", "number", "encoded"), [(0, 88823008, "ddd6744d"), (1, 88823009, "ddd6744f")])
def test_spec_18_the_hash_of_a_revision(count: int, number: int, encoded: str) -> None:
    assert revision_data(TEMPLATE) == DATA
    assert fnv32(DATA + str(count).encode()) == number
    assert controller_revision_hash(DATA, count) == encoded


def test_ecosystem_7_a_stray_directive_is_neither_data_nor_template() -> None:
    """kubectl-kruise undo sends the data as a merge patch, so ``$patch`` stays in the template of the set."""
    undone = {**TEMPLATE, "$patch": "replace", "spec": {**TEMPLATE["spec"], "$retainKeys": ["a"]}}
    assert revision_data(undone) == DATA
    assert "$patch" not in template_of(DATA)
    assert canonical_template(undone) == template_of(DATA)


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "invalid JSON document"),
        (b"not json", "invalid JSON document"),
        (b"[" * 100_000, "invalid JSON document"),
        (b"\xff\xfe", "invalid JSON document"),
        (b"[]", "no object"),
        (b"null", "no object"),
        (b"{}", "no spec.template"),
        (b'{"spec":[]}', "no spec.template"),
        (b'{"spec":{"template":null}}', "no spec.template"),
    ],
)
def test_x13_data_that_is_no_template_is_told_and_equals_itself_alone(data: bytes, text: str) -> None:
    with pytest.raises(RevisionDataError, match=text):
        template_of(data)
    assert data_key(data) is None
    assert semantically_equal(data, data)
    assert not semantically_equal(data, DATA)
    assert not semantically_equal(data, b"{ }")


def test_a_revision_without_a_template_leaves_that_of_the_set() -> None:
    assert applied_template(b'{"spec":{}}', TEMPLATE) == template_of(DATA)
    assert applied_template(b'{"spec":{"template":null}}', TEMPLATE) == canonical_template({})
    assert applied_template(DATA, changed(image="x")) == template_of(DATA)
    assert parse_data(DATA).keys() == {"spec"}


def test_row_24_data_without_what_a_newer_encoder_leaves_out_is_equal() -> None:
    bare = json.dumps({"spec": {"template": TEMPLATE}}).encode()
    assert bare != DATA
    assert semantically_equal(bare, DATA)


def test_s6_quantities_are_compared_by_value() -> None:
    for a, b in (("1000m", "1"), ("1e9", "1G"), ("1Gi", "1073741824"), (2, "2"), ("0.5", "500m"), ("0", "0Gi")):
        assert equal(changed(resources={"limits": {"x": a}}), changed(resources={"limits": {"x": b}}))
    assert not equal(changed(resources={"limits": {"x": "1"}}), changed(resources={"limits": {"x": "1Ki"}}))


def test_s6_a_default_that_is_said_equals_one_that_is_not() -> None:
    port = {"containerPort": 80}
    assert equal(changed(ports=[port]), changed(ports=[{**port, "protocol": "TCP"}]))
    assert not equal(changed(ports=[port]), changed(ports=[{**port, "protocol": "UDP"}]))
    probe = {"httpGet": {"port": 1}}
    assert equal(changed(livenessProbe=probe), changed(livenessProbe={**probe, "periodSeconds": 10}))
    assert equal(TEMPLATE, {**TEMPLATE, "spec": {**TEMPLATE["spec"], "securityContext": {}, "restartPolicy": "Always"}})


@pytest.mark.parametrize(
    ("image", "policy"), [("nginx", "Always"), ("nginx:latest", "Always"), ("nginx:1", "IfNotPresent")]
)
def test_s6_an_unset_pull_policy_is_the_one_that_the_api_server_chooses(image: str, policy: str) -> None:
    other = {"Always": "IfNotPresent", "IfNotPresent": "Always"}[policy]
    unset = changed(image=image)
    assert equal(unset, changed(image=image, imagePullPolicy=policy))
    assert not equal(unset, changed(image=image, imagePullPolicy=other)), "the pods differ"


def test_nil_equals_empty_also_where_go_writes_null() -> None:
    assert equal({"spec": {"containers": []}}, {"spec": {"containers": None}})
    assert equal({"spec": {}}, {"metadata": {"labels": {}, "annotations": None}})
    assert not equal(TEMPLATE, {**TEMPLATE, "spec": {**TEMPLATE["spec"], "affinity": {}}}), "an object that was given"


def test_the_input_is_never_changed() -> None:
    template = changed(env=[], resources={"limits": {"cpu": "1000m"}})
    before = copy.deepcopy(template)
    revision_data(template)
    template_key(template)
    applied_template(DATA, template)
    assert template == before


def test_what_openkruise_would_have_stored() -> None:
    newer = {**TEMPLATE, "spec": {**TEMPLATE["spec"], "hostnameOverride": "h", "bogus": 1}}
    assert template_key(newer) != template_key(TEMPLATE)
    assert template_key(newer, upstream_only=True) == template_key(TEMPLATE)
