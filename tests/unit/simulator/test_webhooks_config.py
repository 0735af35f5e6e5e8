from __future__ import annotations

import pytest

from kruise.simulator.apiserver.webhooks import target_of
from kruise.simulator.apiserver.webhooks_config import MUTATING, VALIDATING, client_config, complete, conversion_errors

RULE = {"apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"], "operations": ["CREATE"]}


def hook(**more):
    base = {
        "name": "a.example.com",
        "clientConfig": {"service": {"namespace": "x", "name": "y"}},
        "rules": [dict(RULE)],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
    }
    return {k: v for k, v in {**base, **more}.items() if v is not None}


def test_tst1_defaults_of_a_configuration():
    made = {"webhooks": [hook()]}
    assert complete(made, MUTATING) == []
    (one,) = made["webhooks"]
    assert one["failurePolicy"] == "Fail"
    assert one["matchPolicy"] == "Equivalent"
    assert one["reinvocationPolicy"] == "Never"
    assert one["timeoutSeconds"] == 10
    assert one["namespaceSelector"] == one["objectSelector"] == {}
    assert one["rules"][0]["scope"] == "*"
    assert one["clientConfig"]["service"]["port"] == 443
    other = {"webhooks": [hook()]}
    assert complete(other, VALIDATING) == []
    assert "reinvocationPolicy" not in other["webhooks"][0]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"name": "two.segments"}, "webhooks[0].name"),
        ({"sideEffects": "Some"}, "webhooks[0].sideEffects"),
        ({"sideEffects": None}, "webhooks[0].sideEffects"),
        ({"timeoutSeconds": 31}, "webhooks[0].timeoutSeconds"),
        ({"failurePolicy": "x"}, "webhooks[0].failurePolicy"),
        ({"admissionReviewVersions": ["v2"]}, "webhooks[0].admissionReviewVersions"),
        ({"rules": [{**RULE, "operations": ["*", "CREATE"]}]}, "webhooks[0].rules[0].operations"),
        ({"rules": [{**RULE, "resources": ["*/*", "pods"]}]}, "webhooks[0].rules[0].resources"),
        ({"rules": [{**RULE, "scope": "x"}]}, "webhooks[0].rules[0].scope"),
        ({"matchConditions": [{"name": "a", "expression": ""}]}, "webhooks[0].matchConditions[0].expression"),
        ({"objectSelector": {"matchLabels": {"-": "x"}}}, "webhooks[0].objectSelector.matchLabels"),
    ],
)
def test_tst1_a_rule_that_is_broken_names_its_field(change, field):
    assert [cause.field for cause in complete({"webhooks": [hook(**change)]}, MUTATING)] == [field]


def test_tst1_two_webhooks_of_one_name():
    causes = complete({"webhooks": [hook(), hook()]}, VALIDATING)
    assert [(c.reason, c.field) for c in causes] == [("FieldValueDuplicate", "webhooks[1].name")]


@pytest.mark.parametrize(
    ("config", "count"),
    [
        ({"url": "https://host/x"}, 0),
        ({"url": "https://[::1"}, 1),
        ({"url": "http://user@host/x?y=1#z"}, 4),
        ({}, 1),
        ({"url": "https://x", "service": {}}, 1),
        ({"service": {"namespace": "x", "name": "y", "port": 0}}, 1),
        ({"service": {"namespace": "x", "name": "y", "path": "/"}}, 0),
        ({"service": {"namespace": "x", "name": "y", "path": "/a//B"}}, 2),
    ],
)
def test_tst1_where_a_webhook_is(config, count):
    assert len(client_config(config, "clientConfig")) == count


def test_tst1_a_target_is_a_url_or_a_service():
    assert target_of({"url": "https://h/x", "caBundle": "YQ=="}).bundle == b"a"
    found = target_of({"service": {"namespace": "x", "name": "y", "path": "/p", "port": 8443}})
    assert (found.service, found.address) == ("x/y", "https://y.x.svc:8443/p")
    assert target_of({"service": {"namespace": "x", "name": "y"}, "caBundle": "%"}).bundle == b""


def test_tst1_the_strategy_of_a_conversion():
    assert conversion_errors({"strategy": "None"}) == []
    assert len(conversion_errors({})) == 1
    good = {"clientConfig": {"service": {"namespace": "x", "name": "y"}}, "conversionReviewVersions": ["v1"]}
    assert conversion_errors({"strategy": "Webhook", "webhook": good}) == []
    assert good["clientConfig"]["service"]["port"] == 443
    assert len(conversion_errors({"strategy": "None", "webhook": good})) == 2
