"""Pods wait if and only if the handler would give them something: entries against the matcher, for random sets."""

from __future__ import annotations

from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from kruise.apis import selectors
from kruise.apis.sidecarset import SidecarSet
from kruise.controllers.sidecarset.match import exempt
from kruise.webhooks.fail_entries import entries, entry_name, waiting
from kruise.webhooks.inject_snapshot import make_snapshot
from tests.unit.hack.test_webhook_manifests import PODS

OWN = "kruise-system"
NAMESPACE_NAME = "kubernetes.io/metadata.name"
NAMES = ("prod", "test", "kube-system", OWN)
IMPOSSIBLE_KEY, IMPOSSIBLE_VALUE = "no key", "no value!"

keys = st.sampled_from(["app", "tier", "apps.kruise.io/sidecarset-injection", IMPOSSIBLE_KEY])
values = st.sampled_from(["a", "b", "", "disabled", IMPOSSIBLE_VALUE])
labels = st.dictionaries(
    st.sampled_from(["app", "tier", "apps.kruise.io/sidecarset-injection"]), st.sampled_from(["a", "b", "", "disabled"])
)


def expression(of: st.SearchStrategy[str], among: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    chosen = st.builds(
        lambda key, operator, some: {"key": key, "operator": operator, "values": some},
        of,
        st.sampled_from(["In", "NotIn"]),
        st.lists(among, max_size=3),
    )
    present = st.builds(
        lambda key, operator: {"key": key, "operator": operator}, of, st.sampled_from(["Exists", "DoesNotExist"])
    )
    return chosen | present


def selector(of: st.SearchStrategy[str], among: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(
        {},
        optional={
            "matchLabels": st.dictionaries(of, among, max_size=2),
            "matchExpressions": st.lists(expression(of, among), max_size=2),
        },
    )


namespace_keys = st.sampled_from([NAMESPACE_NAME, "team", IMPOSSIBLE_KEY])
namespace_values = st.sampled_from([*NAMES, "a", IMPOSSIBLE_VALUE])
sets = st.lists(
    st.fixed_dictionaries(
        {},
        optional={
            "selector": selector(keys, values),
            "namespaceSelector": st.none() | selector(namespace_keys, namespace_values),
            "injectionStrategy": st.fixed_dictionaries({"paused": st.booleans()}),
        },
    ),
    min_size=1,
    max_size=3,
)


def selects(entry: dict[str, Any], pod: dict[str, str], namespace: dict[str, str]) -> bool:
    """Tell what the API server would say; it refuses what it cannot take."""
    for name in ("objectSelector", "namespaceSelector"):
        assert not selectors.validate(entry[name], name)
    return selectors.convert(entry["objectSelector"]).matches(pod) and selectors.convert(
        entry["namespaceSelector"]
    ).matches(namespace)


@given(sets, labels, st.sampled_from(NAMES), st.dictionaries(st.just("team"), st.just("a")), st.booleans())
@settings(max_examples=600, deadline=None)
def test_c11_an_entry_selects_a_pod_iff_the_handler_does(
    specs: list[dict[str, Any]], pod: dict[str, str], namespace: str, team: dict[str, str], shipped: bool
) -> None:
    body = [
        {"metadata": {"name": f"s{n}"}, "spec": {"containers": [{"name": f"c{n}", "image": "x"}], **spec}}
        for n, spec in enumerate(specs)
    ]
    typed = [msgspec.json.decode(msgspec.json.encode(one), type=SidecarSet) for one in body]
    there = {NAMESPACE_NAME: namespace, **team}
    snapshot = make_snapshot(typed, {namespace: there}, own_namespace=OWN)
    wanted = {
        one.current.name
        for one in snapshot.index.candidates(namespace, pod)
        if not one.current.paused and one.current.matcher.matches(pod, there) and not exempt(namespace, pod, {}, OWN)
    }
    # Whoever takes the exclusions out of the general webhook does not take them out of the entries.
    general = PODS if shipped else {k: v for k, v in PODS.items() if not k.endswith("Selector")}
    found = entries(general, waiting(snapshot), OWN)
    assert not found.left_out
    named = {entry_name(f"s{n}"): f"s{n}" for n in range(len(specs))}
    assert {named[one["name"]] for one in found.webhooks if selects(one, pod, there)} == wanted
