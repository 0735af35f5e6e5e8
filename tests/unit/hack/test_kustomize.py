"""Our own renderer prints what kubectl prints, and the manifests are what they promise to be."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from hack import gates, kustomize
from hack.gen_metrics_docs import workloads
from hack.install_check import breaches
from hack.kustomize import KustomizeError, render, render_text
from hack.kustomize_yaml import dump, load
from kruise.apis import sidecarset_rules, statefulset_rules
from kruise.apis.broadcastjob_rules import decode_problem, validate_broadcastjob
from kruise.apis.sidecarset_validation import validate_sidecarset
from kruise.apis.statefulset_validation import validate_statefulset
from kruise.config import parse_options
from kruise.features import GATES
from kruise.runtime.metrics import Metrics

ROOT = Path(__file__).resolve().parents[3]
CONFIG = ROOT / "config"
FOLDERS = sorted(
    path.parent.relative_to(CONFIG).as_posix()
    for path in CONFIG.rglob("kustomization.yaml")
    if "components" not in path.parts
)
COMPONENTS = sorted(path.parent.name for path in (CONFIG / "components").glob("*/kustomization.yaml"))


def kubectl() -> str:
    found = shutil.which("kubectl")
    if not found:
        pytest.skip("no kubectl on PATH")
    return found


def by_kubectl(folder: Path) -> str:
    done = subprocess.run([kubectl(), "kustomize", str(folder)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "", "a warning"
    return done.stdout


def with_component(folder: Path, component: str) -> Path:
    """Return a kustomization of config/default and one component."""
    shutil.copytree(CONFIG, folder / "config")
    extra = folder / "config" / "with"
    extra.mkdir()
    base, given = "../default", [f"../components/{component}"]
    if component in ("ha", "webhook-conversion"):  # config/default has them already
        (folder / "config" / "default" / "kustomization.yaml").write_text(
            dump(
                [
                    {
                        "apiVersion": kustomize._API["Kustomization"],
                        "kind": "Kustomization",
                        "resources": ["../crd", "../manager"],
                    }
                ]
            )
        )
    (extra / "kustomization.yaml").write_text(
        dump(
            [
                {
                    "apiVersion": kustomize._API["Kustomization"],
                    "kind": "Kustomization",
                    "resources": [base],
                    "components": given,
                }
            ]
        )
    )
    return extra


def test_all_folders_are_known() -> None:
    assert set(FOLDERS) >= {"crd", "rbac", "manager", "default", "local", "samples", "prometheus", "network-policy"}
    assert set(COMPONENTS) >= {"ha", "plain-metrics"}


@pytest.mark.parametrize("folder", FOLDERS)
def test_equal_to_kubectl_without_a_warning(folder: str) -> None:
    assert render_text(CONFIG / folder) == by_kubectl(CONFIG / folder)


@pytest.mark.parametrize("component", COMPONENTS)
def test_components_equal_to_kubectl(component: str, tmp_path: Path) -> None:
    folder = with_component(tmp_path, component)
    assert render_text(folder) == by_kubectl(folder)


def test_the_installer_is_config_default() -> None:
    assert (ROOT / "dist" / "install.yaml").read_text() == render_text(CONFIG / "default")


# The manifests.

DEFAULT = render(CONFIG / "default")


def only(kind: str, objects: list[dict[str, Any]] = DEFAULT) -> dict[str, Any]:
    (found,) = [one for one in objects if one["kind"] == kind]
    return found


DEPLOYMENT = only("Deployment")
POD = DEPLOYMENT["spec"]["template"]["spec"]
(CONTAINER,) = POD["containers"]


def test_what_comes_first_is_what_others_need() -> None:
    kinds = [one["kind"] for one in DEFAULT]
    assert list(dict.fromkeys(kinds))[:3] == ["Namespace", "CustomResourceDefinition", "ServiceAccount"]
    assert kinds.index("Deployment") > kinds.index("ClusterRoleBinding")


def test_the_namespace_is_restricted_and_the_pod_fits_it() -> None:
    labels = only("Namespace")["metadata"]["labels"]
    assert labels["pod-security.kubernetes.io/enforce"] == "restricted"
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["runAsUser"] == 65532
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert CONTAINER["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert [volume["name"] for volume in POD["volumes"]] == ["tmp"]
    assert "emptyDir" in POD["volumes"][0]
    assert CONTAINER["volumeMounts"] == [{"name": "tmp", "mountPath": "/tmp"}]


def test_two_replicas_and_no_gap_while_rolling() -> None:
    spec = DEPLOYMENT["spec"]
    assert spec["replicas"] == 2
    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": "100%", "maxUnavailable": 0}
    budget = only("PodDisruptionBudget")["spec"]
    assert (budget["minAvailable"], budget["unhealthyPodEvictionPolicy"]) == (1, "AlwaysAllow")
    assert POD["topologySpreadConstraints"][0]["whenUnsatisfiable"] == "ScheduleAnyway"
    assert "preferredDuringSchedulingIgnoredDuringExecution" in POD["affinity"]["podAntiAffinity"]


def test_selectors_select_the_pods() -> None:
    labels = DEPLOYMENT["spec"]["template"]["metadata"]["labels"]
    prometheus = render(CONFIG / "prometheus")
    service = only("Service", prometheus)
    for selector in (
        DEPLOYMENT["spec"]["selector"]["matchLabels"],
        only("PodDisruptionBudget")["spec"]["selector"]["matchLabels"],
        service["spec"]["selector"],
        *(policy["spec"]["podSelector"]["matchLabels"] for policy in render(CONFIG / "network-policy")),
        only("Service")["spec"]["selector"],
        POD["topologySpreadConstraints"][0]["labelSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    assert only("ServiceMonitor", prometheus)["spec"]["selector"]["matchLabels"].items() <= (
        service["metadata"]["labels"].items()
    )


def test_the_arguments_are_options_of_the_manager() -> None:
    args = [arg.replace("$(POD_NAMESPACE)", "kruise-system") for arg in CONTAINER["args"]]
    options, warnings = parse_options(args, {"POD_NAMESPACE": "kruise-system"})
    assert warnings == []
    assert (options.metrics_addr, options.metrics_secure, options.disable_webhooks) == (":8443", True, False)
    assert options.leader_election_namespace == only("Namespace")["metadata"]["name"]
    ports = {port["name"]: port["containerPort"] for port in CONTAINER["ports"]}
    assert ports == {"metrics": 8443, "probes": 8000, "webhook": options.webhook_port}
    assert options.health_probe_addr == ":8000"
    assert POD["terminationGracePeriodSeconds"] > options.graceful_shutdown_timeout + options.shutdown_delay
    for probe, path in (("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        assert CONTAINER[probe]["httpGet"] == {"path": path, "port": "probes"}


def test_plain_metrics_are_options_of_the_manager_too(tmp_path: Path) -> None:
    deployment = only("Deployment", render(with_component(tmp_path, "plain-metrics")))
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    options, _ = parse_options([a for a in container["args"] if "$(" not in a], {})
    assert (options.metrics_addr, options.metrics_secure) == (":8080", False)
    assert container["ports"][0] == {"name": "metrics", "containerPort": 8080}


@pytest.mark.parametrize("gate", sorted(gates.COMPONENTS))
def test_the_component_of_a_gate_switches_it_on_and_adds_its_role_alone(gate: str, tmp_path: Path) -> None:
    found = render(with_component(tmp_path, gates.COMPONENTS[gate]))
    deployment = only("Deployment", found)
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    options, warnings = parse_options([a for a in container["args"] if "$(" not in a], {})
    assert warnings == []
    on = {one.name for one in GATES if options.gates.enabled(one.name)}
    assert on - {one.name for one in GATES if one.default} == {gate}
    added = [one for one in found if one not in DEFAULT and one["kind"] != "Deployment"]
    assert added == sorted(gates.role(gate), key=lambda one: len(one["kind"]))
    (account,) = (one for one in found if one["kind"] == "ServiceAccount")
    assert deployment["spec"]["template"]["spec"]["serviceAccountName"] == account["metadata"]["name"]


@pytest.mark.parametrize("component", sorted(gates.COMPONENTS.values()))
def test_the_default_names_the_component_of_a_gate_to_be_switched_on(component: str) -> None:
    assert f"#- ../components/{component}" in (CONFIG / "default" / "kustomization.yaml").read_text()
    assert f"`../components/{component}`" in (ROOT / "docs" / "statefulset.md").read_text()


def test_alerts_ask_for_metrics_that_exist_and_name_a_section_of_the_runbook() -> None:
    families = {one.name for one in (*Metrics(process=False).catalog, *workloads())}
    sections = {
        f"#{title.lower()}" for title in re.findall(r"^## (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.MULTILINE)
    }
    rules = [
        rule
        for group in only("PrometheusRule", render(CONFIG / "prometheus"))["spec"]["groups"]
        for rule in group["rules"]
    ]
    assert len(rules) >= 6
    for rule in rules:
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"
        assert f"#{rule['alert'].lower()}" in sections
        text = re.sub(r"\{[^}]*\}|\[[^]]*\]", "", rule["expr"])
        for name in re.findall(r"\b[a-z]+_[a-z_]+\b", text):
            if name != "histogram_quantile":
                assert name.removesuffix("_bucket") in families, name


def test_samples_are_valid() -> None:
    definitions = {one["metadata"]["name"]: one for one in DEFAULT if one["kind"] == "CustomResourceDefinition"}
    samples = [one for one in render(CONFIG / "samples") if one["apiVersion"] == "apps.kruise.io/v1beta1"]
    assert Counter(one["kind"] for one in samples) == {"BroadcastJob": 3, "StatefulSet": 3, "SidecarSet": 3}
    for one in samples:
        name = f"{one['kind'].lower()}s.apps.kruise.io"
        (schema,) = [v["schema"]["openAPIV3Schema"] for v in definitions[name]["spec"]["versions"] if v["storage"]]
        assert breaches(name, schema, one) == []
        placed = {**one, "metadata": {**one["metadata"], "namespace": "default"}}
        if one["kind"] == "BroadcastJob":
            assert decode_problem(one, "v1beta1") == ""
            assert validate_broadcastjob(placed) == []
        elif one["kind"] == "SidecarSet":
            assert sidecarset_rules.decode_problem(one, "v1beta1") == ""
            assert validate_sidecarset(sidecarset_rules.default_sidecarset(one)) == []
        else:
            assert statefulset_rules.decode_problem(one, "v1beta1") == ""
            assert validate_statefulset(statefulset_rules.default_statefulset(placed)) == []


# The renderer.


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".yaml").write_text(text)
    return folder


HEAD = "apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n"
THING = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: %s}\ndata: {a: b}\n"
DEPLOY = """apiVersion: apps/v1
kind: Deployment
metadata: {name: d}
spec: {template: {spec: {initContainers: [{image: "other:1"}], containers: [{image: "%s"}]}}}
"""


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"kustomization": HEAD + "namePrefix: x\n"}, "namePrefix: not known here"),
        ({"kustomization": HEAD + "resources: [no.yaml]\n"}, "there is no no.yaml"),
        ({"kustomization": "kind: Kustomization\n"}, "want apiVersion"),
        ({"kustomization": HEAD + "resources: [../x]\n", "x__y": ""}, "there is no"),
        ({"kustomization": HEAD + "resources: [a.yaml]\n", "a": "- 1\n"}, "want mappings"),
        ({"kustomization": HEAD + "resources: [a.yaml]\n", "a": "{"}, "a.yaml: "),
        ({"kustomization": HEAD + "resources: [a.yaml, b.yaml]\n", "a": THING % "x", "b": THING % "x"}, "comes twice"),
        ({"kustomization": HEAD + "resources: [sub]\n", "sub__kustomization": HEAD + "resources: [..]\n"}, "itself"),
        (
            {"kustomization": HEAD + "resources: [a.yaml]\npatches: [{patch: 'a: b'}]\n", "a": THING % "x"},
            "want a target",
        ),
        (
            {
                "kustomization": HEAD + "resources: [a.yaml]\npatches: [{target: {kind: ConfigMap}, patch: 'a: b'}]\n",
                "a": THING % "x",
            },
            "strategic merge patches are not known",
        ),
        (
            {
                "kustomization": HEAD + "resources: [a.yaml]\npatches: [{target: {kind: Secret}, patch: '[]'}]\n",
                "a": THING % "x",
            },
            "no object is",
        ),
        (
            {
                "kustomization": HEAD
                + "resources: [a.yaml]\npatches:\n- target: {kind: ConfigMap}\n"
                + "  patch: '[{op: test, path: /data/a, value: c}]'\n",
                "a": THING % "x",
            },
            "does not apply: the value is 'b'",
        ),
    ],
)
def test_what_cannot_be_rendered_is_named(files: dict[str, str], said: str, tmp_path: Path) -> None:
    with pytest.raises(KustomizeError, match=re.escape(said)):
        render(write(tmp_path, **files))


def test_patches_add_replace_and_remove(tmp_path: Path) -> None:
    patch = """
    - {op: replace, path: /data/a, value: c}
    - {op: add, path: /data/x~1y, value: z}
    - {op: add, path: /metadata/finalizers, value: [one]}
    - {op: add, path: /metadata/finalizers/-, value: three}
    - {op: add, path: /metadata/finalizers/1, value: two}
    - {op: remove, path: /metadata/finalizers/0}
"""
    text = HEAD + f"resources: [a.yaml]\npatches:\n- target: {{kind: ConfigMap, name: x}}\n  patch: |{patch}"
    (one,) = render(write(tmp_path, kustomization=text, a=THING % "x"))
    assert one["data"] == {"a": "c", "x/y": "z"}
    assert one["metadata"]["finalizers"] == ["two", "three"]
    assert dump([one]) == by_kubectl(tmp_path)


@pytest.mark.parametrize(
    ("image", "becomes"),
    [
        ("registry.example:5000/k:1.2", "registry.example:5000/k:1.2"),
        ("registry.example:5000/k", "registry.example:5000/k:latest"),
        ("k@sha256:" + "0" * 64, "k@sha256:" + "0" * 64),
    ],
)
def test_the_image_of_the_manager_is_replaced_and_no_other(image: str, becomes: str, tmp_path: Path) -> None:
    folder = write(tmp_path, kustomization=HEAD + "resources: [a.yaml]\n", a=DEPLOY % "kruise-manager:latest")
    (one,) = render(folder, image=image)
    pod = one["spec"]["template"]["spec"]
    assert (pod["containers"][0]["image"], pod["initContainers"][0]["image"]) == (becomes, "other:1")


def test_images_of_a_kustomization_equal_kubectl(tmp_path: Path) -> None:
    text = HEAD + "resources: [a.yaml]\nimages: [{name: kruise-manager, newName: r/k, newTag: '2'}]\n"
    folder = write(tmp_path, kustomization=text, a=DEPLOY % "kruise-manager:latest")
    assert render_text(folder) == by_kubectl(folder)


def test_yaml_quotes_what_a_reader_would_take_for_something_else() -> None:
    odd = ["yes", "n", "on", "1", "1e3", "0x1F", "1_000", "1:30", "~", "null", "2024-01-01", "", ".5", "true"]
    data: dict[str, Any] = {f"k{i}": value for i, value in enumerate(odd)} | {"y": "a: b", "text": "two\nlines\n"}
    text = dump([{"data": data}])
    assert yaml.safe_load(text) == {"data": data}
    assert text.count('"') == 2 * (len(odd) + 1), text


def test_equal_values_give_equal_text_whatever_their_order() -> None:
    assert dump([{"b": 1, "a": {"d": 1, "c": 2}}]) == dump([{"a": {"c": 2, "d": 1}, "b": 1}])


def test_the_command_prints_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert kustomize.main([str(CONFIG / "crd")]) == 0
    assert capsys.readouterr().out == render_text(CONFIG / "crd")
    assert kustomize.main([str(tmp_path)]) == 1
    assert "there is no such file" in capsys.readouterr().err


def test_load_skips_empty_documents(tmp_path: Path) -> None:
    path = tmp_path / "a.yaml"
    path.write_text("---\n---\na: 1\n")
    assert load(path) == [{"a": 1}]
