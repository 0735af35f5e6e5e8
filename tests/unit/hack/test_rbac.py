"""The generated roles: exactly what the code declares, and nothing that reliability 8.2 forbids."""

from __future__ import annotations

import itertools

import pytest

from hack import gates, rbac
from kruise import app
from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import NODES, PODS
from kruise.runtime.controller import Access
from kruise.runtime.objects import PartialObject, Resource
from kruise.runtime.webhook.stores import SECRETS

FILES = rbac.manifests()
OBJECTS = list(itertools.chain.from_iterable(FILES.values()))
BY_NAME = {(one["kind"], one["metadata"]["name"]): one for one in OBJECTS}


def short(kind: str, name: str) -> set[str]:
    """Return ``verb,verb resource`` for each rule of a role."""
    return {
        f"{','.join(rule['verbs'])} {resource}" + (f" {rule['resourceNames']}" if "resourceNames" in rule else "")
        for rule in BY_NAME[kind, name]["rules"]
        for resource in rule.get("resources", rule.get("nonResourceURLs", ()))
    }


def test_bld1_the_role_of_the_broadcastjob_controller() -> None:
    assert short("ClusterRole", "kruise-broadcastjob-controller") == {
        "list,watch nodes",
        "get,list,watch,create,delete pods",
        "get,list,watch,delete broadcastjobs",
        "patch broadcastjobs/status",
        "update broadcastjobs/finalizers",
    }


def test_bld1_the_role_of_the_statefulset_controller() -> None:
    assert short("ClusterRole", "kruise-statefulset-controller") == {
        "get,list,watch,create,patch,delete pods",
        "patch pods/status",
        "get,list,watch,create,patch persistentvolumeclaims",
        "get,list,watch,create,patch,delete controllerrevisions",
        "get,list,watch statefulsets",
        "patch statefulsets/status",
        "update statefulsets/finalizers",
    }


def test_bld1_the_roles_of_the_sidecarset_controller() -> None:
    assert short("ClusterRole", "kruise-sidecarset-controller") == {
        "get,list,watch,patch pods",
        "patch pods/status",
        "list,watch namespaces",
        "get,list,watch controllerrevisions",
        "get,list,watch sidecarsets",
        "patch sidecarsets/status",
        "update sidecarsets/finalizers",
    }
    assert short("Role", "kruise-sidecarset-controller") == {"create,patch,delete controllerrevisions"}
    assert BY_NAME["Role", "kruise-sidecarset-controller"]["metadata"]["namespace"] == "kruise-system"


def test_bld1_rights_that_only_a_gate_needs_come_with_the_gate() -> None:
    def asked(gate: str) -> set[str]:
        return {f"{','.join(one.verbs)} {rbac._name(one)}" for one in gates.extra(gate)}

    assert asked("InPlaceWorkloadVerticalScaling") == {"patch pods/resize"}
    assert asked("StatefulSetAutoResizePVCGate") == {"list,watch storageclasses"}
    assert gates.granted() & rbac.granted() == frozenset()


def test_bld1_every_gate_that_needs_a_right_has_a_component_and_no_other() -> None:
    assert set(gates.gates_with_rights()) == gates.COMPONENTS.keys()
    with pytest.raises(ValueError, match="needs no right"):
        gates.role("StatefulSetStartOrdinal")


@pytest.mark.parametrize("gate", sorted(gates.COMPONENTS))
def test_bld1_the_role_of_a_gate_is_bound_to_the_account_and_no_other(gate: str) -> None:
    role, binding = gates.role(gate)
    assert (role["kind"], role["metadata"]["name"]) == ("ClusterRole", f"kruise-{gates.COMPONENTS[gate]}")
    assert binding["roleRef"]["name"] == role["metadata"]["name"] not in {name for _, name in BY_NAME}
    assert binding["subjects"] == [{"kind": "ServiceAccount", "name": "kruise-manager", "namespace": "kruise-system"}]
    rbac.check(gates.extra(gate))


def test_the_roles_of_the_runtime() -> None:
    assert short("ClusterRole", "kruise-manager") == {"create,patch events"}
    assert BY_NAME["ClusterRole", "kruise-manager"]["rules"][0]["apiGroups"] == ["events.k8s.io"]
    assert short("Role", "kruise-leader-election") == {"create leases", "get,watch,patch leases ['kruise-manager']"}
    assert short("ClusterRole", "kruise-metrics-auth") == {"create tokenreviews", "create subjectaccessreviews"}
    assert short("ClusterRole", "kruise-metrics-reader") == {"get /metrics"}


def test_the_roles_of_the_webhooks() -> None:
    general, fail = (f"['kruise-mutating-webhook-configuration{suffix}']" for suffix in ("", "-fail"))
    assert short("ClusterRole", "kruise-webhooks") == {
        "list,watch namespaces",
        "get,list,watch sidecarsets",
        f"get mutatingwebhookconfigurations {general}",
        f"get,patch mutatingwebhookconfigurations {fail}",
    }
    assert short("Role", "kruise-webhooks") == {
        "list,watch configmaps ['kruise-configuration']",
        "get,list,watch controllerrevisions",
    }
    assert short("ClusterRole", "kruise-webhook-certificates") == {
        f"get,patch mutatingwebhookconfigurations {general[:-1]}, {fail[1:]}",
        "get,patch validatingwebhookconfigurations ['kruise-validating-webhook-configuration']",
        "get,patch customresourcedefinitions ['sidecarsets.apps.kruise.io', 'statefulsets.apps.kruise.io']",
        "get namespaces ['kruise-system']",
    }
    assert short("Role", "kruise-webhook-certificates") == {"get,patch secrets ['kruise-webhook-certs']"}


def test_every_controller_of_the_manager_has_a_role() -> None:
    assert len(rbac.SETUPS) == len(app.KINDS)
    names = {f"kruise-{one.name}" for one in rbac.controllers()}
    assert names <= {name for kind, name in BY_NAME if kind == "ClusterRole"}


def test_no_wildcard_no_exec_and_of_secrets_and_configmaps_one_each_by_name() -> None:
    for one in OBJECTS:
        for rule in one.get("rules", ()):
            for values in rule.values():
                assert "*" not in "".join(values)
            resources = set(rule.get("resources", ()))
            assert "pods/exec" not in resources
            assert not {"escalate", "bind", "impersonate"} & set(rule["verbs"])
            for plural in {"secrets", "configmaps"} & resources:
                assert one["kind"] == "Role"
                assert len(rule["resourceNames"]) == 1
                assert "create" not in rule["verbs"]
                assert plural == "configmaps" or rule["verbs"] == ["get", "patch"]


@pytest.mark.parametrize(
    "access",
    [
        Access(Resource("", "v1", "Secret", "secrets", PartialObject), ("get",)),
        Access(SECRETS, ("get", "patch", "watch"), namespaced_role=True, resource_names=("kruise-webhook-certs",)),
        Access(SECRETS, ("get", "patch"), resource_names=("kruise-webhook-certs",)),
        Access(PODS, ("create",), subresource="exec"),
        Access(Resource("", "v1", "Any", "*", PartialObject), ("get",)),
    ],
)
def test_a_forbidden_right_is_refused(access: Access) -> None:
    with pytest.raises(ValueError, match="no right"):
        rbac.check([access])


def test_every_role_of_the_manager_is_bound_to_its_account_and_no_other() -> None:
    account = {"kind": "ServiceAccount", "name": "kruise-manager", "namespace": "kruise-system"}
    bound = {one["roleRef"]["name"] for one in OBJECTS if "roleRef" in one}
    assert bound == {
        "kruise-broadcastjob-controller",
        "kruise-statefulset-controller",
        "kruise-sidecarset-controller",
        "kruise-manager",
        "kruise-metrics-auth",
        "kruise-leader-election",
        "kruise-webhooks",
        "kruise-webhook-certificates",
    }
    for one in OBJECTS:
        if "roleRef" in one:
            assert one["subjects"] == [account]
            assert (one["roleRef"]["kind"], one["roleRef"]["name"]) in BY_NAME
            assert one["kind"] == f"{one['roleRef']['kind']}Binding"
    (made,) = FILES["service_account.yaml"]
    assert (made["metadata"]["name"], made["metadata"]["namespace"]) == (account["name"], account["namespace"])


@pytest.mark.parametrize("kind", ["broadcastjob", "statefulset"])
@pytest.mark.parametrize(("suffix", "into"), [("admin", "admin"), ("editor", "edit"), ("viewer", "view")])
def test_users_get_their_rights_through_the_aggregated_roles(suffix: str, into: str, kind: str) -> None:
    role = BY_NAME["ClusterRole", f"kruise-{kind}-{suffix}"]
    assert role["metadata"]["labels"][f"rbac.authorization.k8s.io/aggregate-to-{into}"] == "true"
    written = {verb for rule in role["rules"] for verb in rule["verbs"]} - {"get", "list", "watch"}
    assert bool(written) is (suffix != "viewer")
    # A status is the controller's alone.
    assert [rule["verbs"] for rule in role["rules"] if rule["resources"] == [f"{kind}s/status"]] == [["get"]]


@pytest.mark.parametrize("suffix", ["admin", "editor", "viewer"])
def test_nobody_gets_rights_to_sidecarsets_along_with_a_namespace(suffix: str) -> None:
    """Reliability 8.4: a set reaches into the pods of every namespace, so its roles are given by hand."""
    role = BY_NAME["ClusterRole", f"kruise-sidecarset-{suffix}"]
    assert not [label for label in role["metadata"]["labels"] if "aggregate" in label]
    written = {verb for rule in role["rules"] for verb in rule["verbs"]} - {"get", "list", "watch"}
    assert bool(written) is (suffix != "viewer")
    assert [rule["verbs"] for rule in role["rules"] if rule["resources"] == ["sidecarsets/status"]] == [["get"]]
    bound = {one["roleRef"]["name"] for one in OBJECTS if "roleRef" in one}
    assert role["metadata"]["name"] not in bound


def test_compare_finds_what_is_missing_and_what_nobody_uses() -> None:
    granted = rbac.granted()
    assert ("apps.kruise.io", "broadcastjobs/status", "patch") in granted
    missing, unused = rbac.compare([*granted, ("", "secrets", "list")])
    assert (missing, unused) == ({("", "secrets", "list")}, frozenset())
    missing, unused = rbac.compare(granted - {("", "pods", "delete"), *rbac.IMPLIED})
    assert (missing, unused) == (frozenset(), {("", "pods", "delete")})
    assert granted >= rbac.IMPLIED


def test_a_role_cannot_mix_namespaces() -> None:
    mixed = (Access(PODS, ("get",)), Access(NODES, ("get",), namespaced_role=True))
    with pytest.raises(ValueError, match="do not fit into one role"):
        rbac._role("x", mixed)


def test_resources_of_the_same_verbs_share_a_rule() -> None:
    made = rbac.rules([Access(PODS, ("get",)), Access(NODES, ("get",)), Access(BROADCASTJOBS, ("get",))])
    assert [(rule["apiGroups"], rule["resources"]) for rule in made] == [
        ([""], ["nodes", "pods"]),
        (["apps.kruise.io"], ["broadcastjobs"]),
    ]


async def test_wiring_for_the_roles_sends_nothing() -> None:
    with pytest.raises(AssertionError, match="while the roles are generated"):
        await rbac._Silent().request(rbac.Request("GET", "/api/v1/pods"))
