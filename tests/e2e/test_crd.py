"""The definition and the roles on a real API server: it takes them without a warning, and every rule does its work.

The control plane has no controller manager and no scheduler: nothing here needs a pod to run.
"""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any

import pytest

from hack import install, kustomize, rbac
from hack.cluster import Cluster
from hack.install_check import breaches
from tests.e2e.harness.definitions import definition, post
from tests.unit.hack.changing import ABSENT, Change, changed
from tests.unit.hack.definitions import BROADCASTJOB_KIND as KIND

pytestmark = pytest.mark.real

ROOT = Path(__file__).resolve().parents[2]
DEFINITION = definition(KIND)
SHORT = "bcj"


BASE: dict[str, Any] = {
    "kind": "BroadcastJob",
    "metadata": {"name": "a-job"},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}},
}
POD = "spec.template.spec."


def job(*changes: Change) -> dict[str, Any]:
    """Return a good job with other values at some paths."""
    return changed(BASE, changes)


def test_the_definition_is_established_and_structural(server: Cluster) -> None:
    live = server.api.call("GET", DEFINITION)
    conditions = {c["type"]: c["status"] for c in live["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    assert "KubernetesAPIApprovalPolicyConformant" not in conditions
    # What the server keeps is what we wrote: nothing was dropped, nothing is drift.
    assert live["spec"]["versions"] == KIND.crd["spec"]["versions"]


def test_every_definition_of_a_field_is_explained(server: Cluster) -> None:
    shown = server.kubectl("explain", "bcj", "--recursive").stdout
    for name in ("parallelism", "completionPolicy", "ttlSecondsAfterFinished", "restartLimit", "observedGeneration"):
        assert name in shown
    assert "rounded up" in server.kubectl("explain", "bcj.spec.parallelism").stdout


GOOD: dict[str, list[Change]] = {
    "the least": [],
    "numbers": [("spec.parallelism", 0)],
    "no limit": [("spec.parallelism", 2147483647)],
    "percentage": [("spec.parallelism", "10%")],
    "string without its percent": [("spec.parallelism", "50")],
    "on failure": [(POD + "restartPolicy", "OnFailure"), ("spec.failurePolicy.restartLimit", 3)],
    "policies of any spelling": [("spec.completionPolicy.type", "Sometimes"), ("spec.failurePolicy.type", "")],
    "limits of time": [
        ("spec.completionPolicy.ttlSecondsAfterFinished", 0),
        ("spec.completionPolicy.activeDeadlineSeconds", 9223372036854775807),
    ],
    "never": [("spec.completionPolicy", {"type": "Never"})],
    "labels of the pods": [("spec.template.metadata.labels", {"a": "b", "broadcastjob-name": ""})],
    "unknown fields of the template": [(POD + "fancy", {"x": [1]}), ("spec.template.metadata.fancy", 1)],
    "many containers": [(POD + "containers", [{"name": f"c{i}", "image": "b"} for i in range(64)])],
    "many volumes": [(POD + "volumes", [{"name": f"v{i}"} for i in range(256)])],
    "the longest name": [("metadata.name", "a" * 63)],
    "a name of digits": [("metadata.name", "1-2")],
    "nulls, as Go writes them": [
        ("spec.parallelism", None),
        ("spec.failurePolicy", None),
        ("spec.template.metadata", {"creationTimestamp": None, "labels": None}),
        ("spec.completionPolicy.activeDeadlineSeconds", None),
        (POD + "volumes", None),
    ],
}


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
@pytest.mark.parametrize("what", GOOD)
def test_accepts(server: Cluster, what: str, version: str) -> None:
    made = job(*GOOD[what])
    answer = post(server, KIND, made, version)
    assert answer["code"] == 201, answer.get("message")
    assert breaches(KIND.name, KIND.schema, made) == []


_NAME = "letters, digits and '-'"
BAD: dict[str, tuple[list[tuple[str, Any]], str, str]] = {
    "no spec": ([("spec", ABSENT)], "spec", "Required"),
    "no template": ([("spec.template", ABSENT)], "spec.template", "Required"),
    "template null": ([("spec.template", None)], "spec.template", "Required"),
    "empty template": ([("spec.template", {})], POD + "restartPolicy", "can only be Never or OnFailure"),
    "no restartPolicy": ([(POD + "restartPolicy", ABSENT)], POD + "restartPolicy", "can only be Never or OnFailure"),
    "Always": ([(POD + "restartPolicy", "Always")], POD + "restartPolicy", "can only be Never or OnFailure"),
    "no containers": ([(POD + "containers", ABSENT)], POD + "containers", "a pod needs a container"),
    "zero containers": ([(POD + "containers", [])], POD + "containers", "at least 1 item"),
    "65 containers": ([(POD + "containers", [{"name": "a"}] * 65)], POD + "containers", "at most 64 items"),
    "257 volumes": ([(POD + "volumes", [{"name": "a"}] * 257)], POD + "volumes", "at most 256 items"),
    "label name": (
        [("spec.template.metadata.labels", {"broadcastjob-name": "x"})],
        "spec.template.metadata.labels",
        "are not allowed to preset in pod labels",
    ),
    "label uid": (
        [("spec.template.metadata.labels", {"broadcastjob-controller-uid": "x"})],
        "spec.template.metadata.labels",
        "are not allowed to preset in pod labels",
    ),
    "parallelism below zero": ([("spec.parallelism", -1)], "spec.parallelism", "from 0 to 2147483647"),
    "parallelism too large": ([("spec.parallelism", 99999999999)], "spec.parallelism", "from 0 to 2147483647"),
    "parallelism in words": ([("spec.parallelism", "ten")], "spec.parallelism", "should match"),
    "parallelism with a line break": ([("spec.parallelism", "10\n")], "spec.parallelism", "should match"),
    "parallelism negative percentage": ([("spec.parallelism", "-5%")], "spec.parallelism", "should match"),
    "parallelism without end": ([("spec.parallelism", "1" * 12)], "spec.parallelism", "more than 11"),
    "parallelism list": ([("spec.parallelism", [1])], "spec.parallelism", "must be of type"),
    "ttl below zero": (
        [("spec.completionPolicy.ttlSecondsAfterFinished", -1)],
        "spec.completionPolicy.ttlSecondsAfterFinished",
        "greater than or equal to 0",
    ),
    "ttl too large": (
        [("spec.completionPolicy.ttlSecondsAfterFinished", 1 << 31)],
        "spec.completionPolicy.ttlSecondsAfterFinished",
        "",
    ),
    "deadline below zero": (
        [("spec.completionPolicy.activeDeadlineSeconds", -1)],
        "spec.completionPolicy.activeDeadlineSeconds",
        "greater than or equal to 0",
    ),
    "deadline too large": (
        [("spec.completionPolicy.activeDeadlineSeconds", 1 << 70)],
        "spec.completionPolicy.activeDeadlineSeconds",
        "int64",
    ),
    "never with ttl": (
        [("spec.completionPolicy", {"type": "Never", "ttlSecondsAfterFinished": 1})],
        "spec.completionPolicy.ttlSecondsAfterFinished",
        "can just work with Always CompletionPolicyType",
    ),
    "never with deadline": (
        [("spec.completionPolicy", {"type": "Never", "activeDeadlineSeconds": 1})],
        "spec.completionPolicy.activeDeadlineSeconds",
        "can just work with Always CompletionPolicyType",
    ),
    "restartLimit below zero": (
        [("spec.failurePolicy.restartLimit", -1)],
        "spec.failurePolicy.restartLimit",
        "greater than or equal to 0",
    ),
    "type too long": ([("spec.failurePolicy.type", "a" * 254)], "spec.failurePolicy.type", "more than 253"),
    "paused is no boolean": ([("spec.paused", "yes")], "spec.paused", "must be of type boolean"),
    "name with a dot": ([("metadata.name", "a.b")], "metadata.name", _NAME),
    "name too long": ([("metadata.name", "a" * 64)], "metadata.name", "no more than 63 characters"),
    "generateName with a dot": ([("metadata.generateName", "a.b")], "metadata.generateName", _NAME),
    "generateName too long": (
        [("metadata.generateName", "a" * 64)],
        "metadata.generateName",
        "no more than 63 characters",
    ),
}


@pytest.mark.parametrize("version", ["v1alpha1", "v1beta1"])
@pytest.mark.parametrize("what", BAD)
def test_refuses_and_names_the_field(server: Cluster, what: str, version: str) -> None:
    changes, field, said = BAD[what]
    made = job(*changes)
    answer = post(server, KIND, made, version)
    assert answer["code"] == 422, answer
    causes = {cause["field"]: cause["message"] for cause in answer["details"]["causes"] if cause.get("field")}
    assert field in causes, causes
    assert said in causes[field]
    # What the installer says of a stored job is what the server says of a written one.
    assert field in {one.field for one in breaches(KIND.name, KIND.schema, made)} or "Required" in said
    assert breaches(KIND.name, KIND.schema, made)


def test_defaults_are_filled_in_and_the_template_stays_as_it_is(server: Cluster) -> None:
    made = post(server, KIND, job())
    assert made["spec"] == BASE["spec"] | {
        "parallelism": 2147483647,
        "completionPolicy": {"type": "Always"},
        "failurePolicy": {"type": "FailFast"},
    }
    assert "status" not in made


def test_unknown_fields_outside_the_template_are_pruned(server: Cluster) -> None:
    made = post(server, KIND, job(("spec.nonsense", 1), ("spec.completionPolicy.nonsense", 1), (POD + "nonsense", 1)))
    assert "nonsense" not in made["spec"]
    assert "nonsense" not in made["spec"]["completionPolicy"]
    assert made["spec"]["template"]["spec"]["nonsense"] == 1


def test_a_status_needs_nothing_and_has_one_condition_of_a_type(server: Cluster) -> None:
    post(server, KIND, job(("metadata.name", "status")), dry=False)
    path = KIND.path("status") + "/status"
    try:
        for status in ({}, {"active": 0}, {"observedGeneration": 1, "phase": "running", "conditions": []}):
            code, raw = server.api.ask("PATCH", path, {"status": status}, content_type="application/merge-patch+json")
            assert code == 200, raw
        twice = {"conditions": [{"type": "Complete", "status": "True"}] * 2}
        code, raw = server.api.ask("PATCH", path, {"status": twice}, content_type="application/merge-patch+json")
        assert (code, b"Duplicate value" in raw) == (422, True)
        for half in ({"type": "Complete"}, {"status": "True"}):
            code, raw = server.api.ask(
                "PATCH", path, {"status": {"conditions": [half]}}, content_type="application/merge-patch+json"
            )
            assert (code, b"Required value" in raw) == (422, True)
        # The status is a subresource: who writes the job does not write it.
        main = path.removesuffix("/status")
        server.api.ask("PATCH", main, {"status": {"active": 9}}, content_type="application/merge-patch+json")
        assert server.api.call("GET", main)["status"].get("active") != 9
    finally:
        server.api.call("DELETE", KIND.path("status"))


def test_the_old_version_warns_and_both_show_the_same(server: Cluster) -> None:
    post(server, KIND, job(("metadata.name", "shown")), "v1alpha1", dry=False)
    try:
        old = server.kubectl("get", "broadcastjobs.v1alpha1.apps.kruise.io")
        new = server.kubectl("get", "bcj")
        assert "apps.kruise.io/v1alpha1 BroadcastJob is deprecated" in old.stderr
        assert new.stderr == ""
        for shown in (old.stdout, new.stdout):
            assert shown.splitlines()[0].split() == ["NAME", "DESIRED", "ACTIVE", "SUCCEEDED", "FAILED", "AGE"]
        assert "shown" in server.kubectl("get", "kruise").stdout
        first = server.api.call("GET", KIND.path("shown", "v1alpha1"))
        second = server.api.call("GET", KIND.path("shown", "v1beta1"))
        assert first["spec"] == second["spec"]
        columns = [c["name"] for c in KIND.crd["spec"]["versions"][0]["additionalPrinterColumns"]]
        assert columns == ["Desired", "Active", "Succeeded", "Failed", "AGE"]
    finally:
        server.api.call("DELETE", KIND.path("shown"))


def test_the_samples_are_taken_without_a_warning(server: Cluster) -> None:
    done = server.kubectl("apply", "--dry-run=server", "-k", str(ROOT / "config/samples"))
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == len(kustomize.render(ROOT / "config/samples"))


def lax() -> dict[str, Any]:
    """Return a definition that bounds nothing, as OpenKruise's, with what a chart leaves in it."""
    found = copy.deepcopy(KIND.crd)
    found["metadata"]["annotations"] = {"theirs": "yes"}
    for version in found["spec"]["versions"]:
        version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
        version.pop("deprecated", None)
        version.pop("deprecationWarning", None)
    found["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": {"url": "https://127.0.0.1:1/convert"}},
    }
    return found


def run(cluster: Cluster, *command: str) -> int:
    return install.main([*command, f"--kubeconfig={cluster.admin}"])


def test_install_over_a_lax_definition(server: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    server.api.put(DEFINITION.rpartition("/")[0], lax())
    post(server, KIND, job(("metadata.name", "good")), dry=False)
    _until_lax(server)
    assert run(server, "install") == 1
    said = capsys.readouterr().err
    assert re.search(r"default/bad: spec\.parallelism: breaks pattern", said), said
    assert "default/good" not in said
    assert server.api.call("GET", DEFINITION)["metadata"]["annotations"] == {"theirs": "yes"}
    server.api.call("DELETE", KIND.path("bad"))
    assert run(server, "install") == 0
    live = server.api.call("GET", DEFINITION)
    assert live["spec"]["conversion"] == {"strategy": "None"}
    assert live["spec"]["versions"] == KIND.crd["spec"]["versions"]
    assert live["metadata"]["annotations"] == {"theirs": "yes", "helm.sh/resource-policy": "keep"}
    assert run(server, "install") == 0
    assert f"customresourcedefinition {KIND.name} unchanged" in capsys.readouterr().out
    server.api.call("DELETE", KIND.path("good"))


def _until_lax(server: Cluster) -> None:
    """Store a job that only the lax definition takes; a changed definition is in force after a moment."""
    bad = job(("metadata.name", "bad"), ("spec.parallelism", "many"))
    server._until("the lax definition", lambda: post(server, KIND, bad, dry=False)["code"] in (201, 409), 30.0)


def test_the_installer_is_taken_without_a_warning_and_gives_the_rights_that_it_says(server: Cluster) -> None:
    done = server.kubectl("apply", "--server-side", "--force-conflicts", "-f", str(ROOT / "dist/install.yaml"))
    # Pod Security warns of a Deployment whose pods it would refuse.
    assert done.stderr == ""
    for one in (access for some in rbac.accesses().values() for access in some):
        plural = f"{one.resource.plural}/{one.subresource}".rstrip("/")
        for verb in one.verbs:
            for name in one.resource_names or ("",):
                assert _may(server, one.resource.group, plural, verb, name=name), (one, verb)
    refused = [
        ("", "secrets", "get"),
        ("", "pods", "update"),
        ("", "pods", "deletecollection"),
        ("", "pods/exec", "create"),
        ("", "pods/resize", "patch"),
        ("", "persistentvolumeclaims", "delete"),
        ("", "nodes", "get"),
        ("", "nodes", "update"),
        ("apps.kruise.io", "broadcastjobs", "create"),
        ("apps.kruise.io", "broadcastjobs", "update"),
        ("apps.kruise.io", "statefulsets", "patch"),
        ("apps.kruise.io", "statefulsets", "delete"),
        ("coordination.k8s.io", "leases", "update"),
        ("apiextensions.k8s.io", "customresourcedefinitions", "get"),
    ]
    for group, resource, verb in refused:
        assert not _may(server, group, resource, verb), (group, resource, verb)
    assert not _may(server, "coordination.k8s.io", "leases", "patch", name="another")
    assert not _may(server, "coordination.k8s.io", "leases", "get", namespace="default")


def _may(
    server: Cluster, group: str, resource: str, verb: str, *, namespace: str = "kruise-system", name: str = ""
) -> bool:
    plural, _, sub = resource.partition("/")
    if resource == "leases" and verb != "create":
        name = name or "kruise-manager"
    attributes = {
        "group": group,
        "resource": plural,
        "subresource": sub,
        "verb": verb,
        "namespace": namespace,
        "name": name,
    }
    review = {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {"user": "system:serviceaccount:kruise-system:kruise-manager", "resourceAttributes": attributes},
    }
    answer = server.api.call("POST", "/apis/authorization.k8s.io/v1/subjectaccessreviews", review)
    return bool(answer["status"]["allowed"])


def test_deploy_after_the_installer_changes_only_the_image(server: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(server, "deploy") == 0
    capsys.readouterr()
    assert run(server, "deploy", "--image", "registry.example/kruise-manager:1.2") == 0
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if not line.endswith("unchanged")] == [
        "deployment kruise-system/kruise-manager configured"
    ]
    path = "/apis/apps/v1/namespaces/kruise-system/deployments/kruise-manager"
    pod = server.api.call("GET", path)["spec"]["template"]["spec"]
    assert pod["containers"][0]["image"] == "registry.example/kruise-manager:1.2"


def test_uninstall_refuses_while_objects_exist(server: Cluster, capsys: pytest.CaptureFixture[str]) -> None:
    # What the deployment of the test before has brought refuses every object while no manager answers.
    for kind in ("mutating", "validating"):
        name = f"{kind}webhookconfigurations/kruise-{kind}-webhook-configuration"
        server.api.ask("DELETE", f"/apis/admissionregistration.k8s.io/v1/{name}")
    assert post(server, KIND, job(("metadata.name", "kept")), dry=False)["code"] == 201
    assert run(server, "uninstall") == 1
    assert "1 broadcastjobs exist (default/kept)" in capsys.readouterr().err
    assert run(server, "undeploy") == 0
    assert f"{KIND.name} stays: 1 objects exist (default/kept)" in capsys.readouterr().out
    assert server.api.ask("GET", KIND.path("kept"))[0] == 200
    assert run(server, "uninstall", "--force") == 0
    server._until("the end of the definition", lambda: server.api.ask("GET", DEFINITION)[0] == 404, 30.0)
    assert run(server, "uninstall") == 0
    assert f"customresourcedefinition {KIND.name} not there" in capsys.readouterr().out
