"""Which sets are looked at for a pod: the index finds those that match, and no others are asked."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.controllers.sidecarset.match import CLUSTER_SCOPE, Matcher, NamespaceIndex, exempt, index_keys

KEYS, VALUES = ("app", "tier", "env"), ("a", "b", "c")

expressions = st.fixed_dictionaries(
    {
        "key": st.sampled_from(KEYS),
        "operator": st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist"]),
        "values": st.lists(st.sampled_from(VALUES), max_size=2),
    }
)
pod_selectors = st.fixed_dictionaries(
    {},
    optional={
        "matchLabels": st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES), max_size=2),
        "matchExpressions": st.lists(expressions, max_size=2),
    },
)
namespace_selectors = st.sampled_from(
    [
        None,
        {"matchLabels": {"kubernetes.io/metadata.name": "prod"}},
        {
            "matchExpressions": [
                {"key": "kubernetes.io/metadata.name", "operator": "In", "values": ["prod", "dev", "dev"]}
            ]
        },
        {"matchLabels": {"tier": "gold"}},
    ]
)
specs = st.fixed_dictionaries({"selector": pod_selectors, "namespaceSelector": namespace_selectors})
pod_labels = st.dictionaries(st.sampled_from(KEYS), st.sampled_from(VALUES))
NAMESPACES = {n: {"kubernetes.io/metadata.name": n, "tier": "gold"} for n in ("prod", "dev", "test", CLUSTER_SCOPE)}


@given(st.lists(specs, max_size=8), pod_labels, st.sampled_from(sorted(NAMESPACES)))
def test_the_index_misses_no_set_and_keeps_the_order(
    found: list[dict[str, Any]], labels: dict[str, str], namespace: str
) -> None:
    matchers = [Matcher.of(spec) for spec in found]
    keys = [index_keys(spec["namespaceSelector"]) for spec in found]
    index = NamespaceIndex(
        (key, n, matcher.anchors) for n, (key, matcher) in enumerate(zip(keys, matchers, strict=True))
    )
    wanted = [n for n, matcher in enumerate(matchers) if matcher.matches(labels, NAMESPACES[namespace])]
    order = sorted(wanted, key=lambda n: (CLUSTER_SCOPE in keys[n], n))
    got = [n for n in index.candidates(namespace, labels) if matchers[n].matches(labels, NAMESPACES[namespace])]
    assert got == order


def test_a_pod_asks_only_the_sets_that_share_a_label_with_it() -> None:
    matchers = [Matcher.of({"selector": {"matchLabels": {"app": f"app-{n}"}}}) for n in range(100)]
    index = NamespaceIndex(((CLUSTER_SCOPE,), n, matcher.anchors) for n, matcher in enumerate(matchers))
    assert index.candidates("prod", {"app": "app-7"}) == (7,)
    assert index.candidates("prod", {"other": "app-7"}) == ()


@pytest.mark.parametrize("selector", [None, {}, {"matchLabels": {}}, {"matchLabels": None, "matchExpressions": []}])
def test_an_empty_selector_selects_nothing(selector: Any) -> None:
    matcher = Matcher.of({"selector": selector})
    assert not matcher.matches({"a": "b"}, {}) and matcher.anchors == ()


def test_c3_exempt_says_why() -> None:
    assert "kube-system" in exempt("kube-system", None, None, "own")
    assert "own" in exempt("own", None, None, "own")
    assert exempt("prod", {}, {}, "own") == ""
