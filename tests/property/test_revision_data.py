"""Revision data for any template: one form, and one meaning whatever the spelling (S6)."""

from __future__ import annotations

import copy
import json
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.apis.go_encoding import POD_TEMPLATE, canonical
from kruise.apis.podtemplate import default_pod_template
from kruise.apis.revisiondata import (
    canonical_template,
    data_key,
    revision_data,
    semantically_equal,
    template_key,
    template_of,
)
from tests.property.pod_templates import broken, json_values, randoms, respelled, templates


@given(templates)
@settings(max_examples=150)
def test_s6_the_canonical_form_is_its_own_canonical_form(template: dict[str, Any]) -> None:
    before = copy.deepcopy(template)
    once = canonical_template(template)
    assert template == before, "the input was changed"
    assert canonical_template(once) == once
    assert template_of(revision_data(template)) == once
    assert revision_data(once) == revision_data(template)
    upstream = canonical(template, POD_TEMPLATE, upstream_only=True)
    assert canonical(upstream, POD_TEMPLATE) == upstream


@given(templates, randoms)
@settings(max_examples=400)
def test_x38_a_template_that_was_spelled_anew_is_the_same(template: dict[str, Any], random: Random) -> None:
    """What a webhook, an API server or another client may do to a template on its way to the store and back."""
    other = respelled(random, template)
    assert semantically_equal(revision_data(template), revision_data(other))
    assert template_key(canonical_template(other)) == template_key(template)
    stored = json.dumps({"spec": {"template": other}}, indent=1).encode()
    assert semantically_equal(revision_data(template), stored), "data that somebody else wrote"


@given(templates)
@settings(max_examples=100)
def test_s6_defaults_change_nothing_but_an_unset_pull_policy(template: dict[str, Any]) -> None:
    """Our admission says Always where the API server goes by the tag: that is another pod."""
    spec = template.get("spec") or {}
    template["spec"] = {
        **spec,
        "containers": [c for c in spec.get("containers") or () if c and c.get("imagePullPolicy")],
    }
    completed = default_pod_template(canonical_template(template))
    assert semantically_equal(revision_data(template), revision_data(completed))


@given(templates, templates, randoms)
@settings(max_examples=25)
def test_s6_equality_is_an_equivalence(one: dict[str, Any], two: dict[str, Any], random: Random) -> None:
    pool = [
        revision_data(t) for t in (one, respelled(random, one), two, respelled(random, two), respelled(random, one))
    ]
    pool += [b"null", b"not json", b'{"spec":{}}']
    same = {(i, j): semantically_equal(a, b) for i, a in enumerate(pool) for j, b in enumerate(pool)}
    for (i, j), equal in same.items():
        assert equal == same[j, i]
        assert equal or i != j
        assert not equal or all(same[i, k] == same[j, k] for k in range(len(pool)))


@given(templates, st.sampled_from(["image", "label", "env", "limit", "unknown", "container"]))
@settings(max_examples=120)
def test_s6_a_change_of_meaning_is_seen(template: dict[str, Any], change: str) -> None:
    spec = template["spec"] = template.get("spec") or {}
    spec["containers"] = containers = [c for c in spec.get("containers") or () if c] or [{"name": "main"}]
    before = revision_data(template)
    first = containers[0]
    match change:
        case "image":
            first["image"] = "other:9"
        case "label":
            template["metadata"] = {**(template.get("metadata") or {}), "labels": {"changed": "yes"}}
        case "env":
            first["env"] = [*(first.get("env") or ()), {"name": "ADDED", "value": "1"}]
        case "limit":
            first["resources"] = {**(first.get("resources") or {}), "limits": {"cpu": "123m"}}
        case "unknown":
            first["fieldOfNextYear"] = {"a": 1}
        case "container":
            containers.append({"name": "added", "image": "x"})
    assert not semantically_equal(before, revision_data(template))


@given(templates, randoms, json_values)
@settings(max_examples=150)
def test_x13_nothing_that_a_template_may_hold_makes_it_fail(
    template: dict[str, Any], random: Random, value: Any
) -> None:
    wrong = broken(random, template, value)
    if isinstance(wrong, dict):
        data = revision_data(wrong)
        assert semantically_equal(data, revision_data(template_of(data)))
        assert data_key(data) is not None


@given(json_values)
def test_x13_nothing_that_data_may_hold_makes_it_fail(value: Any) -> None:
    data = json.dumps({"spec": {"template": value}}).encode()
    assert (data_key(data) is None) == (not isinstance(value, dict))
    assert data_key(json.dumps(value).encode()) is None
