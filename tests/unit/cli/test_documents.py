"""Manifests of ``inject-check -f``: where the pod of each kind is, and errors that name file, document and field."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from kruise.cli.documents import ManifestError, Sorted, read_files, sort_out

POD = "apiVersion: v1\nkind: Pod\nmetadata: {name: a, namespace: shop}\nspec: {containers: [{name: m, image: i}]}\n"
TEMPLATE = "metadata: {labels: {app: a}, name: ignored}, spec: {containers: [{name: m, image: i}]}"


def read(tmp_path: Path, text: str, name: str = "web.yaml") -> Sorted:
    file = tmp_path / name
    file.write_text(text)
    return sort_out(read_files([str(file)]))


def problem(tmp_path: Path, text: str) -> str:
    with pytest.raises(ManifestError) as caught:
        read(tmp_path, text)
    return str(caught.value).removeprefix(str(tmp_path) + "/")


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("apps/v1", "Deployment"),
        ("apps/v1", "StatefulSet"),
        ("apps/v1", "DaemonSet"),
        ("apps/v1", "ReplicaSet"),
        ("v1", "ReplicationController"),
        ("batch/v1", "Job"),
        ("apps.kruise.io/v1beta1", "StatefulSet"),
        ("apps.kruise.io/v1alpha1", "BroadcastJob"),
        ("apps.kruise.io/v1alpha1", "CloneSet"),
    ],
)
def test_the_pod_of_a_workload_is_that_of_its_template(tmp_path: Path, version: str, kind: str) -> None:
    found = read(
        tmp_path,
        f"{{apiVersion: {version}, kind: {kind}, metadata: {{name: web}}, spec: {{template: {{{TEMPLATE}}}}}}}",
    )
    (source,) = found.pods
    assert source.path == "spec.template"
    assert source.pod["metadata"] == {"generateName": "web-", "labels": {"app": "a"}}
    assert source.pod["spec"]["containers"] == [{"name": "m", "image": "i"}]


def test_a_cron_job_and_a_pod_template_have_it_elsewhere(tmp_path: Path) -> None:
    inner = f"{{spec: {{template: {{{TEMPLATE}}}}}}}"
    cron = f"{{apiVersion: batch/v1, kind: CronJob, metadata: {{name: c}}, spec: {{jobTemplate: {inner}}}}}"
    assert read(tmp_path, cron).pods[0].path == "spec.jobTemplate.spec.template"
    bare = f"{{apiVersion: v1, kind: PodTemplate, metadata: {{name: t}}, template: {{{TEMPLATE}}}}}"
    assert read(tmp_path, bare).pods[0].path == "template"


def test_a_pod_of_a_set_has_the_volumes_of_its_claims(tmp_path: Path) -> None:
    claims = "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: [ReadWriteOnce]}}]"
    spec = f"spec: {{{claims}, template: {{{TEMPLATE}}}}}"
    text = f"{{apiVersion: apps/v1, kind: StatefulSet, metadata: {{name: db}}, {spec}}}"
    (source,) = read(tmp_path, text).pods
    assert source.pod["spec"]["volumes"] == [{"name": "data", "persistentVolumeClaim": {"claimName": "data-db-0"}}]
    wrong = text.replace("{name: data}", "{name: 3}")
    assert "spec.volumeClaimTemplates[0].metadata.name: Invalid value: 3: must be a string" in problem(tmp_path, wrong)


def test_several_documents_several_files_a_list_and_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "b.yaml").write_text(f"---\n{POD}---\n# nothing\n---\n{POD.replace('name: a', 'name: b')}")
    (tmp_path / "a.json").write_text(
        '{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "c"}, "spec": {}}]}'
    )
    (tmp_path / "notes.txt").write_text("no manifest")
    monkeypatch.setattr("sys.stdin", io.StringIO(POD))
    found = sort_out(read_files([str(tmp_path), "-"]))
    places = [
        (s.document.file.rpartition("/")[2], s.document.number, s.document.item, s.document.name) for s in found.pods
    ]
    assert places == [
        ("a.json", 1, 1, "c"),
        ("b.yaml", 1, 0, "a"),
        ("b.yaml", 3, 0, "b"),
        ("standard input", 1, 0, "a"),
    ]
    assert found.pods[1].namespace == "shop"


def test_what_kubectl_reads_as_text_is_text(tmp_path: Path) -> None:
    text = POD.replace("name: a,", "name: a, annotations: {at: 2024-05-17T08:09:10Z, 1: '2'},")
    (source,) = read(tmp_path, text).pods
    assert source.pod["metadata"]["annotations"] == {"at": "2024-05-17T08:09:10Z", "1": "2"}


def test_merge_keys_and_anchors_work(tmp_path: Path) -> None:
    text = "x: &more {image: i}\napiVersion: v1\nkind: ConfigMap\nmetadata: {<<: *more, name: n}\n"
    (other,) = read(tmp_path, text).others
    assert other.body["metadata"] == {"image": "i", "name": "n"}


def test_sets_and_namespaces_are_told_from_what_has_no_pod(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "{apiVersion: apps.kruise.io/v1alpha1, kind: SidecarSet, metadata: {name: s}}\n---\n"
        "{apiVersion: v1, kind: Namespace, metadata: {name: n}}\n---\n"
        "{apiVersion: v1, kind: Service, metadata: {name: v}}\n",
    )
    assert [d.name for d in (*found.sets, *found.namespaces, *found.others)] == ["s", "n", "v"]
    assert found.pods == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: [b", "web.yaml, document 1: line 1, column 6: expected ',' or ']'"),
        (f"{POD}---\na: b: c", "web.yaml, document 2: line 6, column 5: mapping values are not allowed here"),
        (f"{POD}---\n- x", "web.yaml, document 2: want an object with apiVersion and kind"),
        ("kind: Pod", "web.yaml, document 1 (Pod): apiVersion: Required value"),
        ("apiVersion: v1", "web.yaml, document 1: kind: Required value"),
        (POD.replace("kind: Pod", "kind: pod"), "(pod a): kind: pod is no kind with pods; did you mean Pod?"),
        ("{apiVersion: apps/v1, kind: Deploymet}", "kind: Deploymet is no kind with pods; did you mean Deployment?"),
        (
            "{apiVersion: v1, kind: Deployment, metadata: {name: w}}",
            "web.yaml, document 1 (Deployment w): apiVersion: v1 has no Deployment with pods; want apps",
        ),
        (
            "{apiVersion: extensions/v1, kind: StatefulSet}",
            "apiVersion: extensions/v1 has no StatefulSet with pods; want apps or apps.kruise.io",
        ),
        (
            f"{{apiVersion: apps/v1, kind: Deployment, metadata: {{name: w}}, spec: {{templat: {{{TEMPLATE}}}}}}}",
            "web.yaml, document 1 (Deployment w): spec.template: Required value; did you mean it by templat?",
        ),
        (
            "{apiVersion: apps/v1, kind: Deployment, metadata: {name: w}, spec: {template: 3}}",
            "web.yaml, document 1 (Deployment w): spec.template: must be an object",
        ),
        (
            POD.replace("image: i", "imagePulPolicy: Always"),
            "(Pod a): spec.containers[0].imagePulPolicy: there is no such field; did you mean imagePullPolicy?",
        ),
        (POD.replace("spec:", "spce:"), "(Pod a): spce: there is no such field; did you mean spec?"),
        (POD.replace("image: i", "image: 3"), "(Pod a): spec.containers[0].image: Invalid value: 3: must be a string"),
        (
            POD.replace("namespace: shop", "labels: {a: true}"),
            "web.yaml, document 1 (Pod a): metadata.labels[a]: Invalid value: true: must be a string",
        ),
        (
            POD.replace("image: i", "env: [{name: A, valueFrom: {feildRef: {}}}]"),
            "spec.containers[0].env[0].valueFrom.feildRef: there is no such field; did you mean fieldRef?",
        ),
        (POD.replace("image: i", "image: i, image: j"), "document 1: line 4, column 41: the key image stands twice"),
        ("? [a]\n: b", "web.yaml, document 1: line 1, column 3: a key must be a text"),
        ("{apiVersion: v1, kind: List, items: [3]}", "web.yaml, document 1 (List): items[0]: want an object"),
        ("[" * 3000, "web.yaml, document 1: values are nested too deep"),
    ],
)  # fmt: skip
def test_an_error_names_file_document_and_field(tmp_path: Path, text: str, said: str) -> None:
    assert said in problem(tmp_path, text)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"nowhere\.yaml: No such file"):
        read_files([str(tmp_path / "nowhere.yaml")])
    with pytest.raises(ManifestError, match=r"no file in it ends with \.yaml"):
        read_files([str(tmp_path)])
    (tmp_path / "odd.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ManifestError, match=r"odd\.yaml: it is no text in UTF-8"):
        read_files([str(tmp_path / "odd.yaml")])


def test_an_empty_file_has_nothing(tmp_path: Path) -> None:
    assert read(tmp_path, "") == Sorted()
