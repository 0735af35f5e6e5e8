"""What calls the webhooks: the manifests say what the code serves, and no more is asked than must be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hack.kustomize import render
from kruise import app
from kruise.config import parse_options
from kruise.controllers.sidecarset.match import EXEMPT_NAMESPACES, INJECTION_DISABLED, INJECTION_LABEL
from kruise.runtime.webhook.certs import CertificateRules
from kruise.runtime.webhook.targets import TargetKind, blocks
from kruise.webhooks import certificates
from kruise.webhooks.fail_keeper import LABEL
from tests.unit.hack.test_kustomize import CONFIG, DEFAULT, only, with_component
from tests.unit.webhooks.test_webhook_setup import built

OWN = "kruise-system"
OPTIONS, _ = parse_options([], {})
MUTATING, FAIL = (one for one in DEFAULT if one["kind"] == "MutatingWebhookConfiguration")
VALIDATING = only("ValidatingWebhookConfiguration")
WEBHOOKS: list[dict[str, Any]] = [*MUTATING["webhooks"], *VALIDATING["webhooks"]]
PODS = MUTATING["webhooks"][0]
CONVERTED = ("sidecarsets.apps.kruise.io", "statefulsets.apps.kruise.io")


def definitions(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {one["metadata"]["name"]: one for one in objects if one["kind"] == "CustomResourceDefinition"}


def paths(objects: list[dict[str, Any]]) -> set[str]:
    """Every path that *objects* let the API server call; all of them at our service."""
    configs = [hook["clientConfig"] for one in objects for hook in one.get("webhooks", ())]
    conversions = [one["spec"]["conversion"] for one in definitions(objects).values()]
    configs += [one["webhook"]["clientConfig"] for one in conversions if one["strategy"] == "Webhook"]
    for config in configs:
        assert config.keys() == {"service"}
        service = config["service"]
        assert (service["namespace"], service["name"], service["port"]) == (OWN, OPTIONS.webhook_service_name, 443)
    return {config["service"]["path"] for config in configs}


def test_what_is_called_is_what_is_served() -> None:
    assert paths(DEFAULT) == set(built().webhooks.paths())
    assert only("Service")["metadata"]["name"] == OPTIONS.webhook_service_name
    assert only("Secret")["metadata"]["name"] == OPTIONS.webhook_secret_name
    assert "data" not in only("Secret")


def test_crt2_exactly_what_calls_us_is_what_the_manager_writes() -> None:
    converted = [name for name, one in definitions(DEFAULT).items() if one["spec"]["conversion"]["strategy"] != "None"]
    assert sorted(converted) == sorted(CONVERTED)
    asked = {(one.kind, one.name) for one in certificates.targets(app.KINDS)}
    assert asked == {
        (TargetKind.MUTATING, MUTATING["metadata"]["name"]),
        (TargetKind.MUTATING, FAIL["metadata"]["name"]),
        (TargetKind.VALIDATING, VALIDATING["metadata"]["name"]),
        *((TargetKind.CONVERSION, name) for name in converted),
    }


def test_the_names_are_those_of_openkruise() -> None:
    assert [one["name"] for one in MUTATING["webhooks"]] == [
        "mpod.kb.io",
        "mbroadcastjob.kb.io",
        "msidecarset.kb.io",
        "mstatefulset.kb.io",
    ]
    assert [one["name"] for one in VALIDATING["webhooks"]] == [
        "vbroadcastjob.kb.io",
        "vsidecarset.kb.io",
        "vstatefulset.kb.io",
        "vstatefulset-deletion.kb.io",
    ]


@pytest.mark.parametrize("webhook", WEBHOOKS, ids=lambda one: one["name"])
def test_every_webhook_is_quick_without_effects_and_called_for_both_versions(webhook: dict[str, Any]) -> None:
    assert (webhook["timeoutSeconds"], webhook["sideEffects"], webhook["matchPolicy"]) == (5, "None", "Equivalent")
    assert webhook["admissionReviewVersions"] == ["v1"]
    (rule,) = webhook["rules"]
    assert "*" not in str(rule)
    if webhook is not PODS:
        assert webhook["failurePolicy"] == "Fail"
        assert (rule["apiGroups"], rule["apiVersions"]) == (["apps.kruise.io"], ["v1alpha1", "v1beta1"])


def test_c3_nobody_is_asked_about_pods_that_no_set_may_touch() -> None:
    (rule,) = PODS["rules"]
    assert (rule["apiGroups"], rule["resources"], rule["operations"]) == ([""], ["pods"], ["CREATE"])
    excluded = {OWN, *EXEMPT_NAMESPACES}
    (namespaces,) = PODS["namespaceSelector"]["matchExpressions"]
    assert (namespaces["operator"], set(namespaces["values"])) == ("NotIn", excluded)
    (labels,) = PODS["objectSelector"]["matchExpressions"]
    assert labels == {"key": INJECTION_LABEL, "operator": "NotIn", "values": [INJECTION_DISABLED]}
    first = PODS["matchConditions"][0]["expression"]
    assert all(f"'{namespace}'" in first for namespace in excluded)
    assert PODS["reinvocationPolicy"] == "IfNeeded"


def test_c11_a_pod_starts_while_nobody_answers_and_waits_only_where_that_is_chosen(tmp_path: Path) -> None:
    assert PODS["failurePolicy"] == "Ignore"
    strict = render(with_component(tmp_path, "webhook-fail"))
    general, chosen = (one for one in strict if one["kind"] == "MutatingWebhookConfiguration")
    assert general == MUTATING
    assert chosen["metadata"].pop("labels") == {**FAIL["metadata"]["labels"], LABEL: "Fail"}
    assert LABEL not in FAIL["metadata"].pop("labels")
    assert chosen == FAIL
    # Called after the general one, and nothing is said of its webhooks: applying it again takes none away.
    assert chosen["metadata"]["name"] > general["metadata"]["name"]
    assert "webhooks" not in chosen
    labels = {"kubernetes.io/metadata.name": OWN}
    assert [blocks(one, OWN, labels) for one in general["webhooks"]] == [None] * 4  # WEB9: we can always start


def test_a_set_that_is_not_protected_can_go_while_nobody_answers() -> None:
    deletion = VALIDATING["webhooks"][-1]
    assert deletion["rules"][0]["operations"] == ["DELETE"]
    (label,) = deletion["objectSelector"]["matchExpressions"]
    assert label == {"key": "policy.kruise.io/delete-protection", "operator": "Exists"}
    assert all("DELETE" not in one["rules"][0]["operations"] for one in WEBHOOKS if one is not deletion)


def test_without_webhooks_one_version_is_served_and_nothing_converts() -> None:
    local = definitions(render(CONFIG / "local"))
    for name in CONVERTED:
        assert local[name]["spec"]["conversion"] == {"strategy": "None"}
        assert [v["name"] for v in local[name]["spec"]["versions"] if v["served"]] == ["v1beta1"]


@pytest.mark.parametrize("folder", ["default", "local-webhooks"])
def test_with_webhooks_both_versions_are_served(folder: str) -> None:
    objects = render(CONFIG / folder)
    for name in CONVERTED:
        spec = definitions(objects)[name]["spec"]
        assert [v["name"] for v in spec["versions"] if v["served"]] == ["v1alpha1", "v1beta1"]
        assert spec["conversion"]["webhook"]["conversionReviewVersions"] == ["v1"]
    assert paths(objects) == set(built().webhooks.paths())


def test_crt5_with_cert_manager_files_are_read_and_no_right_is_left(tmp_path: Path) -> None:
    objects = render(with_component(tmp_path, "cert-manager"))
    (container,) = only("Deployment", objects)["spec"]["template"]["spec"]["containers"]
    options, warnings = parse_options([arg for arg in container["args"] if "$(" not in arg], {})
    assert warnings == []
    assert options.gates.enabled("EnableExternalCerts")
    mounts = {one["name"]: one["mountPath"] for one in container["volumeMounts"]}
    assert options.webhook_cert_path == mounts["webhook-certs"]
    certificate = only("Certificate", objects)
    volumes = {one["name"]: one for one in only("Deployment", objects)["spec"]["template"]["spec"]["volumes"]}
    assert volumes["webhook-certs"]["secret"]["secretName"] == certificate["spec"]["secretName"]
    assert (
        volumes["webhook-certs"]["secret"]["defaultMode"] & 0o004
    )  # the files are root's, and the manager is not root
    assert certificates.hosts(options)[0] in certificate["spec"]["dnsNames"]
    source = f"{certificate['metadata']['namespace']}/{certificate['metadata']['name']}"
    told = [one["metadata"].get("annotations", {}).get("cert-manager.io/inject-ca-from") for one in objects]
    assert told.count(source) == 4
    rules = {
        o["kind"]: o["rules"]
        for o in objects
        if o["kind"] in ("Role", "ClusterRole") and o["metadata"]["name"] == "kruise-webhook-certificates"
    }
    assert rules["Role"] == []
    read = {access.resource.plural for access in certificates.ACCESSES}
    assert {rule["resources"][0]: rule["verbs"] for rule in rules["ClusterRole"]} == {
        plural: ["get"] for plural in read
    }
    assert all(rule["resourceNames"] for rule in rules["ClusterRole"])


def test_the_service_is_a_name_of_the_certificate() -> None:
    service = only("Service")
    name = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"
    assert CertificateRules(certificates.hosts(OPTIONS)).hosts[0] == name
    (port,) = service["spec"]["ports"]
    assert (port["port"], port["targetPort"]) == (443, "webhook")
