"""Installing over what is there: nothing is broken silently, nothing is deleted by the way."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import orjson
import pytest

from hack import crds, install, kustomize
from hack.install import DEFAULT, LOCAL, Installer, Refused
from hack.install_check import breaches
from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.broadcastjob_schema import BROADCASTJOB
from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import ByteStream, Request, Response
from kruise.runtime.clock import Random
from kruise.runtime.errors import ConfigError
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual

NAME = "broadcastjobs.apps.kruise.io"
SETS = "statefulsets.apps.kruise.io"
SIDECARS = "sidecarsets.apps.kruise.io"
CRD = crds.render(BROADCASTJOBS, BROADCASTJOB)
SCHEMA = CRD["spec"]["versions"][1]["schema"]["openAPIV3Schema"]


def job(name: str = "good", **spec: Any) -> dict[str, Any]:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "b"}]}}
    return {
        "apiVersion": "apps.kruise.io/v1beta1",
        "kind": "BroadcastJob",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"template": template, **spec},
    }


def fields(stored: Mapping[str, Any]) -> list[str]:
    return [one.field for one in breaches(NAME, SCHEMA, stored)]


# Which stored objects break a rule.


def test_a_job_as_openkruise_stores_it_breaks_nothing() -> None:
    stored = job(
        parallelism=2147483647,
        completionPolicy={"type": "Always", "activeDeadlineSeconds": None},
        failurePolicy={"type": "Whatever"},
    )
    stored["metadata"] |= {"creationTimestamp": "2024-01-01T00:00:00Z", "uid": "u", "generation": 1}
    stored["spec"]["template"]["metadata"] = {"creationTimestamp": None, "labels": None}
    stored["spec"]["template"]["spec"] |= {"volumes": None, "securityContext": {}, "unknown": [None]}
    stored["status"] = {
        "active": 0,
        "desired": 1,
        "failed": 0,
        "succeeded": 1,
        "phase": "completed",
        "startTime": "2024-01-01T00:00:00Z",
        "completionTime": None,
        "conditions": [
            {
                "type": "Complete",
                "status": "True",
                "lastProbeTime": "2024-01-01T00:00:00Z",
                "lastTransitionTime": None,
                "reason": "Complete",
                "message": "m",
            }
        ],
    }
    assert breaches(NAME, SCHEMA, stored) == []


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"parallelism": "ten"}, "spec.parallelism"),
        ({"parallelism": "10\n"}, "spec.parallelism"),
        ({"parallelism": -1}, "spec.parallelism"),
        ({"parallelism": 99999999999}, "spec.parallelism"),
        ({"completionPolicy": {"type": "Always", "ttlSecondsAfterFinished": -1}}, None),
        ({"completionPolicy": {"type": "Always", "activeDeadlineSeconds": 1 << 63}}, None),
        ({"completionPolicy": {"type": "Never", "ttlSecondsAfterFinished": 1}}, None),
        ({"completionPolicy": {"type": "Never", "activeDeadlineSeconds": 1}}, None),
        ({"failurePolicy": {"restartLimit": -1}}, "spec.failurePolicy.restartLimit"),
        ({"template": {"spec": {"containers": [{"name": "a", "image": "b"}]}}}, "spec.template.spec.restartPolicy"),
        ({"template": {"spec": {"restartPolicy": "Never"}}}, "spec.template.spec.containers"),
        ({"template": None}, None),
    ],
)
def test_a_breach_names_the_field(change: dict[str, Any], field: str | None) -> None:
    found = fields(job(**change))
    assert found
    if field:
        assert set(found) == {field}


def test_names_labels_and_conditions_are_looked_at() -> None:
    assert fields(job("a.b")) == ["metadata.name"]
    assert fields(job("a" * 64)) == ["metadata.name"]
    labelled = job()
    labelled["spec"]["template"]["metadata"] = {"labels": {"broadcastjob-name": "x"}}
    assert fields(labelled) == ["spec.template.metadata.labels"]
    twice = job()
    twice["status"] = {"conditions": [{"type": "Failed", "status": "True"}] * 2}
    assert fields(twice) == ["status.conditions[1]"]


def test_what_the_definition_accepts_is_no_breach_even_if_the_controller_complains() -> None:
    stored = job()
    stored["spec"]["template"]["spec"]["dnsPolicy"] = "Nonsense"
    assert breaches(NAME, SCHEMA, stored) == []


def test_a_breach_shows_no_value() -> None:
    stored = job(parallelism="secret")
    (one,) = breaches(NAME, SCHEMA, stored)
    assert str(one) == f"{NAME} default/good: spec.parallelism: breaks pattern: ^[0-9]+%?$"
    assert "secret" not in str(one)


# The commands, on a cluster in memory.


class Cluster:
    """The few requests that installing needs: objects by path, versions, no validation."""

    def __init__(self) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.version = 0
        self.log: list[str] = []
        self.conflicts = 0

    async def request(self, request: Request) -> Response:
        path = request.path.partition("?")[0]
        if request.mutating:
            self.log.append(f"{request.method} {path.rsplit('/', 2)[-2]}/{path.rsplit('/', 1)[-1]}")
        body = orjson.loads(request.body) if request.body else None
        handler = getattr(self, request.verb)
        code, answer = handler(path, body)
        return Response(code, {"content-type": "application/json"}, orjson.dumps(answer))

    async def stream(self, request: Request) -> ByteStream:
        raise AssertionError(request.path)

    async def close(self) -> None: ...

    def get(self, path: str, body: Any) -> tuple[int, Any]:
        found = self.objects.get(path)
        return (200, found) if found else self._error(404, "NotFound")

    def list(self, path: str, body: Any) -> tuple[int, Any]:
        plural = path.rsplit("/", 1)[-1]
        items = [one for at, one in self.objects.items() if f"/{plural}/" in at and at.startswith("/apis/apps.kruise")]
        return 200, {"kind": "List", "metadata": {"resourceVersion": "1"}, "items": items}

    def create(self, path: str, body: Any) -> tuple[int, Any]:
        return 201, self._put(f"{path}/{body['metadata']['name']}", body)

    def update(self, path: str, body: Any) -> tuple[int, Any]:
        if self.conflicts:
            self.conflicts -= 1
            return self._error(409, "Conflict")
        assert body["metadata"]["resourceVersion"] == self.objects[path]["metadata"]["resourceVersion"]
        return 200, self._put(path, body)

    def patch(self, path: str, body: Any) -> tuple[int, Any]:
        return 200, self._put(path, body)

    def delete(self, path: str, body: Any) -> tuple[int, Any]:
        assert body == {"propagationPolicy": "Background"}
        return (200, {"kind": "Status"}) if self.objects.pop(path, None) else self._error(404, "NotFound")

    def _put(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        new, old = copy.deepcopy(body), self.objects.get(path, {})
        if new["kind"] == "CustomResourceDefinition":
            new["status"] = {
                "conditions": [{"type": "Established", "status": "True"}],
                "storedVersions": (old.get("status") or {}).get("storedVersions", ["v1beta1"]),
            }
        self.version += {**new, "metadata": None} != {**old, "metadata": None}
        version = str(self.version) if not old or {**new, "metadata": None} != {**old, "metadata": None} else None
        new["metadata"]["resourceVersion"] = version or old["metadata"]["resourceVersion"]
        self.objects[path] = new
        return new

    def _error(self, code: int, reason: str) -> tuple[int, Any]:
        return code, {"kind": "Status", "status": "Failure", "code": code, "reason": reason, "message": reason}

    def add_job(self, stored: dict[str, Any]) -> None:
        name = stored["metadata"]["name"]
        self.objects[f"/apis/apps.kruise.io/v1beta1/namespaces/default/broadcastjobs/{name}"] = stored

    @property
    def definition(self) -> dict[str, Any]:
        return self.objects[f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"]


def upstream() -> dict[str, Any]:
    """Return a definition that bounds nothing, with what others left in it."""
    found = copy.deepcopy(CRD)
    found["metadata"]["annotations"] = {"theirs": "yes"}
    found["metadata"]["resourceVersion"] = "7"
    found["spec"]["conversion"] = {"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}
    for version in found["spec"]["versions"]:
        version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    found["status"] = {
        "conditions": [{"type": "Established", "status": "True"}],
        "storedVersions": ["v1alpha1", "v1beta1"],
    }
    return found


def with_upstream() -> Cluster:
    cluster = Cluster()
    cluster.objects[f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{NAME}"] = upstream()
    return cluster


def run(cluster: Cluster, command: str, folder: Any = LOCAL, **options: Any) -> list[str]:
    said: list[str] = []

    async def main() -> None:
        clock = VirtualClock()
        rest = Rest(cluster, clock=clock, rng=Random(1), metrics=Metrics(process=False))
        await getattr(Installer(rest, clock, said.append), command)(kustomize.render(folder), **options)

    run_virtual(main())
    return said


def test_install_into_an_empty_cluster_and_again() -> None:
    cluster = Cluster()
    ours = [f"customresourcedefinition {name}" for name in (NAME, SIDECARS, SETS)] + ["namespace kruise-system"]
    assert run(cluster, "install") == [f"{one} created" for one in ours]
    assert run(cluster, "install") == [f"{one} unchanged" for one in ours]


def test_install_over_openkruise_replaces_the_spec_and_keeps_the_metadata_of_others() -> None:
    cluster = with_upstream()
    cluster.add_job(job())
    cluster.conflicts = 2
    assert run(cluster, "install")[0] == f"customresourcedefinition {NAME} configured"
    assert cluster.definition["spec"] == CRD["spec"]
    assert cluster.definition["metadata"]["annotations"] == {"theirs": "yes", "helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("folder", [LOCAL, DEFAULT])
def test_install_refuses_when_a_stored_object_breaks_a_rule_and_writes_nothing(folder: Any) -> None:
    cluster = with_upstream()
    cluster.add_job(job("good"))
    cluster.add_job(job("bad", parallelism="many"))
    with pytest.raises(
        Refused, match=r"1 stored objects break .*\n  .* default/bad: spec\.parallelism: breaks pattern"
    ):
        run(cluster, "install", folder)
    assert cluster.log == []


def test_install_names_twenty_and_counts_the_rest() -> None:
    cluster = with_upstream()
    for number in range(25):
        cluster.add_job(job(f"bad-{number}", parallelism="many"))
    with pytest.raises(Refused) as caught:
        run(cluster, "install")
    assert "25 stored objects" in str(caught.value)
    assert str(caught.value).endswith("and 5 more")


def test_install_refuses_a_stored_version_that_it_would_not_serve() -> None:
    cluster = with_upstream()
    cluster.definition["status"]["storedVersions"] = ["v1alpha0", "v1beta1"]
    with pytest.raises(Refused, match=r"v1alpha0, which is not served any more\. Migrate them to v1alpha1, v1beta1"):
        run(cluster, "install")


def test_install_gives_up_when_somebody_keeps_writing() -> None:
    cluster = with_upstream()
    cluster.conflicts = 99
    with pytest.raises(Refused, match="somebody else keeps writing it"):
        run(cluster, "install")


def test_deploy_applies_everything_in_order() -> None:
    cluster = Cluster()
    said = run(cluster, "install", DEFAULT)
    assert [line.split()[0] for line in said[:4]] == [*["customresourcedefinition"] * 3, "namespace"]
    assert "deployment kruise-system/kruise-manager created" in said
    assert len(said) == len(kustomize.render(DEFAULT))
    assert {line.rsplit(" ", 1)[1] for line in run(cluster, "install", DEFAULT)} == {"unchanged"}


HOOKS = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/kruise-mutating-webhook-configuration"


def configs(cluster: Cluster) -> list[dict[str, Any]]:
    """What says where the API server calls, in the order of the manifests."""
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{SETS}"
    found = [cluster.objects[path]["spec"]["conversion"]["webhook"]]
    return [one["clientConfig"] for one in (*found, *cluster.objects[HOOKS]["webhooks"])]


@pytest.mark.parametrize("outside", [False, True])
def test_crt2_deploying_again_keeps_whom_the_api_server_trusts_and_where_it_calls(outside: bool) -> None:
    cluster = Cluster()
    run(cluster, "install", DEFAULT)
    for config in configs(cluster):
        config["caBundle"] = "Qw=="
        if outside:
            config["url"] = f"https://laptop:9876{config.pop('service')['path']}"
    before = copy.deepcopy(configs(cluster))
    assert {line.rsplit(" ", 1)[1] for line in run(cluster, "install", DEFAULT)} == {"unchanged"}
    assert configs(cluster) == before
    run(cluster, "install", LOCAL)  # nothing converts there, and nothing is left of it
    path = f"/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{SETS}"
    assert cluster.objects[path]["spec"]["conversion"] == {"strategy": "None"}


def test_deploying_over_webhooks_of_openkruise_takes_their_other_kinds_away() -> None:
    cluster = Cluster()
    run(cluster, "install", DEFAULT)
    shipped = copy.deepcopy(cluster.objects[HOOKS]["webhooks"])
    theirs = {**copy.deepcopy(shipped[0]), "name": "mcloneset.kb.io"}
    theirs["clientConfig"]["service"]["path"] = "/mutate-apps-kruise-io-cloneset"
    cluster.objects[HOOKS]["webhooks"].append(theirs)
    cluster.objects[HOOKS]["webhooks"][0]["clientConfig"]["service"]["name"] = "other-service"
    said = run(cluster, "install", DEFAULT)
    assert "mutatingwebhookconfiguration kruise-mutating-webhook-configuration configured" in said
    assert cluster.objects[HOOKS]["webhooks"] == shipped


def test_uninstall_refuses_while_objects_exist() -> None:
    cluster = Cluster()
    run(cluster, "install")
    for name in "abcd":
        cluster.add_job(job(name))
    mark = len(cluster.log)
    with pytest.raises(Refused, match=r"4 broadcastjobs exist \(default/a, default/b, default/c, \.\.\.\).*FORCE=1"):
        run(cluster, "uninstall", force=False)
    assert cluster.log[mark:] == []
    ours = [f"customresourcedefinition {name}" for name in (SETS, SIDECARS, NAME)]
    assert run(cluster, "uninstall", force=True) == [f"{one} deleted" for one in ours]
    assert run(cluster, "uninstall", force=False) == [f"{one} not there" for one in ours]


def test_undeploy_keeps_the_definition_while_objects_exist() -> None:
    cluster = Cluster()
    run(cluster, "install", DEFAULT)
    cluster.add_job(job())
    said = run(cluster, "undeploy", DEFAULT, force=False)
    assert said[0] == f"{NAME} stays: 1 objects exist (default/good); FORCE=1 deletes all"
    assert said[-1] == "namespace kruise-system deleted"
    left = {path.rsplit("/", 2)[-2] for path in cluster.objects}
    assert left == {"customresourcedefinitions", "broadcastjobs"}
    assert f"customresourcedefinition {NAME} deleted" in run(cluster, "undeploy", DEFAULT, force=True)


def test_a_kind_that_is_not_known_is_an_error() -> None:
    with pytest.raises(ConfigError, match="v1 ConfigMap: not a kind that is installed here"):
        install._resource({"apiVersion": "v1", "kind": "ConfigMap"})


def test_every_kind_of_the_manifests_is_known() -> None:
    for folder in ("default", "local-webhooks", "prometheus", "network-policy"):
        for one in kustomize.render(LOCAL.parent / folder):
            assert install._resource(one).kind == one["kind"]


def test_force_comes_from_the_flag_or_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("FORCE", raising=False)
    assert install._parser().parse_args(["uninstall"]).force is False
    assert install._parser().parse_args(["undeploy", "--force"]).force is True
    monkeypatch.setenv("FORCE", "1")
    assert install._parser().parse_args(["uninstall"]).force is True


def test_an_unusable_kubeconfig_is_one_line(tmp_path: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert install.main(["install", f"--kubeconfig={tmp_path}/none"]) == 1
    assert capsys.readouterr().err.startswith("install: ")
