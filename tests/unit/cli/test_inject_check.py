"""``kruise inject-check``: what a pod gets from which set, why not from the others, exit codes, errors."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from kruise.cli import inject_check
from kruise.cli import main as main_module
from kruise.cli.seen_sets import CONFIGURATION
from kruise.runtime.errors import ConfigError, RuntimeFault
from kruise.runtime.webhook.patching import apply_patch
from kruise.webhooks.certificates import MUTATING
from tests.unit.cli.sidecars import OWN, REVISIONS, SETS, Body, Place

POD: Body = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "web", "labels": {"app": "shop"}},
    "spec": {"containers": [{"name": "main", "image": "app:1"}]},
}


def deployment(**template: Any) -> Body:
    body = {"metadata": {"labels": {"app": "shop"}}, "spec": POD["spec"], **template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"template": body}}


class Asked:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def pods(self) -> list[Body]:
        found: list[Body] = json.loads(self.out)["pods"]
        return found

    def row(self, name: str = "mesh", pod: int = 0) -> Body:
        return next(one for one in self.pods[pod]["sidecarSets"] if one["name"] == name)

    def reasons(self) -> dict[str, str]:
        return {one["name"]: one["reason"] for one in self.pods[0]["sidecarSets"]}


class Shell:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: Path) -> None:
        self.place = Place()
        self._capsys = capsys
        self._folder = folder
        self.place.connects(monkeypatch, inject_check)

    def file(self, *documents: Body, name: str = "web.yaml") -> str:
        path = self._folder / name
        path.write_text(yaml.safe_dump_all(documents, sort_keys=False))
        return str(path)

    async def run(self, *argv: str) -> Asked:
        parser = argparse.ArgumentParser()
        inject_check.add_parser(parser.add_subparsers())
        code = await inject_check.run(parser.parse_args(["inject-check", *argv]))
        said = self._capsys.readouterr()
        return Asked(code, said.out, said.err)

    async def check(self, *documents: Body, argv: tuple[str, ...] = ()) -> Asked:
        return await self.run("-f", self.file(*documents), "-o", "json", *argv)


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Shell:
    return Shell(monkeypatch, capsys, tmp_path)


# From a file.


async def test_what_is_injected_by_which_revision_of_which_set(shell: Shell) -> None:
    volumes = [{"name": "logs", "emptyDir": {}}, {"name": "unused", "emptyDir": {}}]
    mounts = [{"name": "logs", "mountPath": "/logs"}]
    shell.place.put_set(
        containers=[{"name": "proxy", "image": "proxy:1", "volumeMounts": mounts}],
        initContainers=[{"name": "setup", "image": "setup:1"}],
        volumes=volumes,
        imagePullSecrets=[{"name": "pull"}],
    )
    found = await shell.check(POD)
    assert found.code == 0
    row = found.row()
    assert row["injected"] is True
    assert row["reason"] == "Injected"
    assert row["message"] == "init containers setup; containers proxy; volumes logs; pull secrets pull"
    assert row["containers"] == ["setup", "proxy"]
    assert row["revision"] == shell.place.the_set().status.latest_revision
    pod = found.pods[0]
    assert (pod["kind"], pod["name"], pod["namespace"], pod["document"], pod["field"]) == (
        "Pod",
        "web",
        "default",
        1,
        "",
    )
    assert not pod["live"]


async def test_it_is_the_patch_of_the_webhook(shell: Shell) -> None:
    shell.place.put_set()
    shell.place.put_set(
        "logs", containers=[{"name": "reader", "image": "r:1", "shareVolumePolicy": {"type": "enabled"}}]
    )
    patch = (await shell.check(POD)).pods[0]["patch"]
    assert apply_patch(json.loads(json.dumps(POD)), patch) == shell.place.webhook(POD)


async def test_the_template_of_each_workload_is_taken(shell: Shell) -> None:
    shell.place.put_set()
    job = {**deployment(), "apiVersion": "batch/v1", "kind": "Job"}
    sets = {**deployment(), "apiVersion": "apps.kruise.io/v1beta1", "kind": "StatefulSet"}
    cron = {
        "apiVersion": "batch/v1",
        "kind": "CronJob",
        "metadata": {"name": "c"},
        "spec": {"jobTemplate": {"spec": job["spec"]}},
    }
    found = await shell.check(deployment(), job, sets, cron)
    assert [(p["kind"], p["field"]) for p in found.pods] == [
        ("Deployment", "spec.template"),
        ("Job", "spec.template"),
        ("StatefulSet", "spec.template"),
        ("CronJob", "spec.jobTemplate.spec.template"),
    ]
    assert [pod["sidecarSets"][0]["reason"] for pod in found.pods] == ["Injected"] * 4


async def test_every_reason_why_not(shell: Shell) -> None:
    place = shell.place
    place.label_namespace("other", tier="back")
    place.put_set("a-first", containers=[{"name": "proxy", "image": "first:1"}])
    place.put_set("conflict", containers=[{"name": "proxy", "image": "second:1"}])
    place.put_set("labels", selector={"matchLabels": {"app": "bank"}})
    place.put_set("namespace", namespaceSelector={"matchLabels": {"tier": "back"}})
    place.put_set("paused", containers=[{"name": "p", "image": "p:1"}], injectionStrategy={"paused": True})
    place.put_set("base", containers=[{"name": "b", "image": "b:1"}])
    marks = {"apps.kruise.io/sidecarset-canary": "true", "apps.kruise.io/sidecarset-base": "base"}
    place.put_set(
        "canary", containers=[{"name": "b", "image": "b:2"}], annotations=marks, updateStrategy={"type": "NotUpdate"}
    )
    place.put_set("broken", containers=[{"name": "x", "image": "x:1"}])
    place.set_as_stored("broken", containers=[{"name": "x", "image": "x:1", "env": "odd"}])
    found = await shell.check(POD)
    assert found.reasons() == {
        "a-first": "Injected",
        "canary": "Injected",
        "conflict": "ContainerConflict",
        "labels": "LabelsNotSelected",
        "namespace": "NamespaceNotSelected",
        "paused": "InjectionPaused",
        "base": "ReplacedByCanary",
        "broken": "SidecarSetUnusable",
    }
    assert found.code == 2, "a set that selects the pod is left out"
    assert found.row("conflict")["message"] == "SidecarSet a-first already provides the container proxy"
    order = [one["name"] for one in found.pods[0]["sidecarSets"]]
    assert order[:4] == ["a-first", "canary", "broken", "conflict"], "what is injected first, then what is wrong"


async def test_c3_what_no_set_may_touch(shell: Shell) -> None:
    shell.place.put_set()
    marked = {
        **POD,
        "metadata": {"name": "web", "labels": {"app": "shop", "apps.kruise.io/sidecarset-injection": "disabled"}},
    }
    found = await shell.check(marked)
    assert (found.code, found.reasons()) == (0, {"mesh": "PodExempt"})
    assert "apps.kruise.io/sidecarset-injection is disabled" in found.row()["message"]
    for namespace in ("kube-system", OWN):
        found = await shell.check(POD, argv=("-n", namespace))
        assert found.reasons() == {"mesh": "PodExempt"}


async def test_c9_pod_security_is_2(shell: Shell) -> None:
    shell.place.label_namespace("strict", **{"pod-security.kubernetes.io/enforce": "restricted"})
    shell.place.put_set()
    found = await shell.check(POD, argv=("-n", "strict"))
    assert (found.code, found.reasons()) == (2, {"mesh": "PodSecurity"})


async def test_a_pod_that_would_be_refused_is_2(shell: Shell) -> None:
    policy = {
        "targetContainersMode": "sum",
        "targetContainersNameRegex": "^large$",
        "resourcesExpr": {"limits": {"cpu": "cpu"}},
    }
    shell.place.put_set(containers=[{"name": "proxy", "image": "p:1", "resourcesPolicy": policy}])
    found = await shell.check(POD)
    assert found.code == 2
    assert "no" in found.pods[0]["refused"]
    assert found.reasons() == {"mesh": "PodRefused"}
    text = await shell.run("-f", shell.file(POD))
    assert "it would be refused: " in text.out


async def test_a_pinned_revision_is_the_one_that_is_named(shell: Shell) -> None:
    place = shell.place
    place.put_set()
    first = place.the_set().status.latest_revision
    pinned = {"revision": {"revisionName": first, "policy": "Always"}}
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}], injectionStrategy=pinned)
    found = await shell.check(POD, argv=("--diff",))
    assert found.row()["revision"] == first
    assert found.row()["message"] == "containers proxy; as in the revision that injectionStrategy names"
    assert "image: proxy:1\n" in found.pods[0]["diff"]
    place.put_set(
        containers=[{"name": "proxy", "image": "proxy:2"}], injectionStrategy={"revision": {"revisionName": "gone"}}
    )
    found = await shell.check(POD)
    assert found.code == 2
    assert 'controllerrevisions.apps "gone" not found' in found.pods[0]["refused"]


async def test_a_lot_is_told_as_one(shell: Shell) -> None:
    place = shell.place
    place.put_set()
    first = place.the_set().status.latest_revision
    strategy = {"revision": {"revisionName": first, "policy": "Partial"}}
    place.put_set(
        containers=[{"name": "proxy", "image": "proxy:2"}],
        injectionStrategy=strategy,
        updateStrategy={"partition": "50%"},
    )
    (note,) = (await shell.check(POD)).pods[0]["notes"]
    assert "drawn by lot (policy Partial, partition 50%)" in note


async def test_what_the_api_server_would_refuse_is_noted(shell: Shell) -> None:
    shell.place.put_set()
    found = await shell.check(deployment(spec={"containers": [{"name": "UPPER", "image": "i"}]}))
    assert any("spec.template.spec.containers[0].name: Invalid value" in note for note in found.pods[0]["notes"])
    assert found.code == 0


async def test_a_container_of_the_pod_that_gives_way_is_noted(shell: Shell) -> None:
    shell.place.put_set(containers=[{"name": "main", "image": "proxy:1"}])
    (note,) = (await shell.check(POD)).pods[0]["notes"]
    assert note.startswith("SidecarSet mesh: ")
    assert "container main gives way" in note


async def test_no_set_at_all(shell: Shell) -> None:
    found = await shell.run("-f", shell.file(POD))
    assert found.code == 0
    assert "there is no SidecarSet" in found.out


# As if it were applied.


async def test_a_set_among_the_documents_counts_as_applied(shell: Shell) -> None:
    shell.place.put_set(containers=[{"name": "proxy", "image": "proxy:1"}])
    new = {
        "apiVersion": "apps.kruise.io/v1alpha1",
        "kind": "SidecarSet",
        "metadata": {"name": "mesh"},
        "spec": {"selector": {"matchLabels": {"app": "shop"}}, "containers": [{"name": "proxy", "image": "proxy:9"}]},
    }
    found = await shell.check(new, POD, argv=("--diff",))
    assert found.reasons() == {"mesh": "Injected"}
    assert found.row()["revision"] == ""
    assert "+    image: proxy:9" in found.pods[0]["diff"]
    assert shell.place.server.log.writes(actor="cli") == []


async def test_a_namespace_among_the_documents_counts_as_applied(shell: Shell) -> None:
    shell.place.put_set(namespaceSelector={"matchLabels": {"mesh": "on"}})
    space = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "new", "labels": {"mesh": "on"}}}
    assert (await shell.check(POD)).reasons() == {"mesh": "NamespaceNotSelected"}
    assert (await shell.check(space, POD, argv=("-n", "new"))).reasons() == {"mesh": "Injected"}


async def test_a_canary_and_its_base_in_one_file(shell: Shell) -> None:
    def a_set(name: str, **more: Any) -> Body:
        spec = {"selector": {"matchLabels": {"app": "shop"}}, "containers": [{"name": "p", "image": "p:1"}], **more}
        return {"apiVersion": "apps.kruise.io/v1beta1", "kind": "SidecarSet", "metadata": {"name": name}, "spec": spec}

    canary = a_set("canary", updateStrategy={"type": "NotUpdate"})
    canary["metadata"]["annotations"] = {
        "apps.kruise.io/sidecarset-canary": "true",
        "apps.kruise.io/sidecarset-base": "base",
    }
    assert (await shell.check(canary, a_set("base"), POD)).reasons() == {
        "canary": "Injected",
        "base": "ReplacedByCanary",
    }
    with pytest.raises(ConfigError, match=r"document 1 \(SidecarSet canary\): metadata: Invalid value: .*not found"):
        await shell.check(canary, POD)


async def test_an_invalid_set_names_its_fields(shell: Shell) -> None:
    spec = {"selector": {}, "containers": [{"name": "p"}]}
    bad = {"apiVersion": "apps.kruise.io/v1beta1", "kind": "SidecarSet", "metadata": {"name": "s"}, "spec": spec}
    with pytest.raises(
        ConfigError, match=r"web\.yaml, document 1 \(SidecarSet s\): .*spec\.selector: .*image: Required"
    ):
        await shell.check(bad, POD)
    bad["spec"] = {"containers": "none"}
    with pytest.raises(ConfigError, match=r"document 1 \(SidecarSet s\): .*\$\.spec\.containers`"):
        await shell.check(bad, POD)


# A pod that runs.


async def live(shell: Shell, name: str = "a", *argv: str) -> Asked:
    return await shell.run(f"pod/{name}", "-o", "json", *argv)


async def test_a_pod_that_has_it(shell: Shell) -> None:
    shell.place.put_set()
    shell.place.put_pod("a")
    found = await live(shell)
    assert (found.code, found.reasons()) == (0, {"mesh": "AlreadyInjected"})
    assert found.row()["message"].endswith("since 2026-01-01T00:00:00Z")
    assert found.pods[0]["patch"] == []
    assert "the pod stays as it is" in (await shell.run("pod/a", "--diff")).out


async def test_a_pod_at_an_older_revision_says_which(shell: Shell) -> None:
    place = shell.place
    place.put_set()
    first = place.the_set().status.latest_revision
    place.put_pod("a")
    place.put_set(containers=[{"name": "proxy", "image": "proxy:2"}])
    found = await live(shell)
    assert (found.code, found.reasons()) == (0, {"mesh": "OutdatedRevision"})
    assert found.row()["revision"] == first
    assert f"a new pod would get {place.the_set().status.latest_revision}" in found.row()["message"]


async def test_c11_a_pod_that_was_missed_is_2_and_an_older_one_is_not(shell: Shell) -> None:
    place = shell.place
    place.put_pod("old", injected=False)
    place.clock.at += 60
    place.put_set()
    place.clock.at += 60
    place.put_pod("missed", injected=False)
    old, missed = await live(shell, "old"), await live(shell, "missed")
    assert (old.code, old.reasons()) == (0, {"mesh": "CreatedBeforeSidecarSet"})
    assert (missed.code, missed.reasons()) == (2, {"mesh": "NotInjected"})
    assert missed.row()["injected"] is False
    assert missed.row()["message"] == "it was created without the sidecars; a new pod would get containers proxy"


async def test_a_pod_of_a_set_that_is_paused_or_gone(shell: Shell) -> None:
    shell.place.put_set()
    shell.place.put_pod("a")
    shell.place.put_set(injectionStrategy={"paused": True})
    found = await live(shell)
    assert found.reasons() == {"mesh": "InjectionPaused"}
    assert found.row()["injected"] is True
    assert "a new pod would not get them" in found.row()["message"]
    shell.place.server.delete(SETS, "mesh")
    found = await live(shell)
    assert found.pods[0]["notes"] == ["SidecarSet mesh: the pod has its sidecars, and there is no such set any more"]


async def test_a_finished_pod_gets_nothing(shell: Shell) -> None:
    shell.place.put_set()
    shell.place.put_pod("a", injected=False)
    shell.place.server.patch("pods", "a", {"status": {"phase": "Succeeded"}}, subresource="status")
    assert (await live(shell)).reasons() == {"mesh": "PodNotActive"}


async def test_the_namespace_is_that_of_the_flag(shell: Shell) -> None:
    shell.place.label_namespace("shop")
    shell.place.put_set()
    shell.place.put_pod("a", namespace="shop")
    assert (await live(shell, "a", "-n", "shop")).pods[0]["title"] == "Pod shop/a"
    with pytest.raises(RuntimeFault, match="there is no pod a in the namespace default; another one is named with -n"):
        await live(shell)


# For a person.


async def test_the_table_and_the_diff(shell: Shell) -> None:
    shell.place.put_set()
    shell.place.put_set("other", selector={"matchLabels": {"app": "bank"}})
    revision = shell.place.the_set().status.latest_revision
    found = await shell.run("-f", shell.file(deployment()), "--diff")
    lines = found.out.splitlines()
    assert lines[0].startswith("Deployment default/web (")
    assert lines[0].endswith("web.yaml, document 1, spec.template)")
    assert lines[1].split() == ["SIDECARSET", "INJECTED", "REVISION", "REASON", "WHAT"]
    assert lines[2].split(maxsplit=4) == ["mesh", "yes", revision, "Injected", "containers proxy"]
    assert lines[3].split(maxsplit=4)[:4] == ["other", "no", "-", "LabelsNotSelected"]
    assert lines[4] == ""
    assert lines[5].startswith("--- Deployment default/web")
    assert lines[6].startswith("+++ Deployment default/web")
    assert "+  - name: proxy" in lines
    assert "   containers:" in lines


async def test_several_pods_each_have_their_table(shell: Shell) -> None:
    shell.place.put_set()
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    found = await shell.run("-f", shell.file(POD, service), "-f", shell.file(deployment(), name="d.yaml"))
    assert found.out.count("SIDECARSET") == 2
    assert "document 2 (Service web): it has no pod; skipped" in found.err


async def test_standard_input(shell: Shell, monkeypatch: pytest.MonkeyPatch) -> None:
    shell.place.put_set()
    monkeypatch.setattr("sys.stdin", __import__("io").StringIO(yaml.safe_dump(POD, sort_keys=False)))
    found = await shell.run("-f", "-", "-o", "json")
    assert found.pods[0]["file"] == "standard input"
    assert found.reasons() == {"mesh": "Injected"}


async def test_gates_of_the_manager(shell: Shell) -> None:
    shell.place.put_set(containers=[{"name": "z", "image": "z:1"}, {"name": "b", "image": "b:1"}])
    argv = ("--diff", "--feature-gates", "EnableSortSidecarContainerByName=true")
    diff = (await shell.check(POD, argv=argv)).pods[0]["diff"]
    assert diff.index("name: b") < diff.index("name: z")
    found = await shell.check(POD, argv=("--feature-gates", "PodWebhook=false"))
    assert "the gate PodWebhook is off" in found.err


async def test_whoever_may_not_read_revisions_is_told_so(shell: Shell) -> None:
    shell.place.put_set()
    shell.place.forbid("controllerrevisions")
    found = await shell.check(POD)
    assert f"the revisions in the namespace {OWN} cannot be read" in found.err
    assert found.reasons() == {"mesh": "Injected"}


def test_the_configuration_is_the_one_that_the_manager_writes_to() -> None:
    assert CONFIGURATION == MUTATING


async def test_a_cluster_in_which_nothing_calls_a_manager_is_told(shell: Shell) -> None:
    shell.place.put_set()
    assert json.loads((await shell.check(POD)).out)["notes"] == []
    shell.place.unregister()
    found = await shell.check(POD)
    (note,) = json.loads(found.out)["notes"]
    assert note.endswith("kruise-mutating-webhook-configuration, so nothing is injected into any pod")
    assert note in found.err
    shell.place.register()
    shell.place.forbid("mutatingwebhookconfigurations/kruise-mutating-webhook-configuration")
    assert json.loads((await shell.check(POD)).out)["notes"] == [], "who may not read it is told nothing"


async def test_another_namespace_of_the_manager(shell: Shell) -> None:
    place = shell.place
    place.put_set()
    first = place.the_set().status.latest_revision
    place.put_set(
        containers=[{"name": "proxy", "image": "proxy:2"}], injectionStrategy={"revision": {"revisionName": first}}
    )
    assert (await shell.check(POD)).code == 0
    assert (await shell.check(POD, argv=("--manager-namespace", "elsewhere"))).code == 2
    assert place.server.list(REVISIONS, OWN)


# Errors.


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        ((), r"want pod/NAME or -f FILE, such as pod/web-0"),
        (("pod/a", "-f", "x.yaml"), "want pod/NAME or -f FILE, not both"),
        (("web",), "'web': want pod/NAME, such as pod/web"),
        (("pdo/web",), "'pdo' is no kind that inject-check knows; want po[d]?/web"),
        (("widget/web",), "'widget' is no kind that inject-check knows; want pod/web"),
        (("deploy/web",), r"kubectl get deploy/web -o yaml \| kruise inject-check -f -"),
        (("pod/a_b",), "'a_b' is no name of an object"),
    ],
)
async def test_what_is_mistyped_is_told(shell: Shell, argv: tuple[str, ...], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        await shell.run(*argv)


async def test_files_without_pods_and_another_namespace(shell: Shell) -> None:
    with pytest.raises(ConfigError, match="there is no pod in it"):
        await shell.check({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}})
    elsewhere = {**POD, "metadata": {"name": "web", "namespace": "shop"}}
    with pytest.raises(ConfigError, match=r"metadata\.namespace: it is shop, and -n says bank"):
        await shell.check(elsewhere, argv=("-n", "bank"))


async def test_a_cluster_without_sidecarsets(shell: Shell) -> None:
    shell.place.server.delete("customresourcedefinitions.apiextensions.k8s.io", SETS)
    with pytest.raises(RuntimeFault, match="make install"):
        await shell.check(POD)


def test_the_command_is_there_and_errors_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main_module.main(["inject-check", "-f", "/nowhere.yaml"]) == 1
    assert capsys.readouterr().err == "kruise inject-check: /nowhere.yaml: No such file or directory\n"


def test_help_has_the_exit_codes() -> None:
    argv = [sys.executable, "-m", "kruise.cli.main", "inject-check", "--help"]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=True)
    assert "exit codes: 0 " in done.stdout
