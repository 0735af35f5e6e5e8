"""The real kubectl against the embedded server and the real one: what it prints must be the same."""

from __future__ import annotations

import asyncio
import re
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from hack.cluster import Cluster
from kruise.runtime.clock import Random, SystemClock
from kruise.simulator.embedded import EmbeddedCluster, read_definitions
from tests.integration.kubectl import Kubectl, until_lines
from tests.integration.probes.embedded import CRDS

pytestmark = pytest.mark.real

IMAGE = "registry.example.com/app:v1"
POD = f"""
apiVersion: v1
kind: Pod
metadata: {{name: NAME, labels: {{app: web}}}}
spec:
  automountServiceAccountToken: false
  schedulerName: nobody
  containers: [{{name: main, image: "{IMAGE}", ports: [{{containerPort: 80}}]}}]
"""
RUNNING = POD.replace("schedulerName: nobody", "nodeSelector: {kubernetes.io/hostname: node-0}")
MAP = """
apiVersion: v1
kind: ConfigMap
metadata: {name: c, labels: {app: web}}
data: {a: "1", b: "2"}
"""
JOB = f"""
apiVersion: apps.kruise.io/v1beta1
kind: BroadcastJob
metadata: {{name: j}}
spec:
  paused: true
  parallelism: 2
  template:
    spec:
      restartPolicy: Never
      containers: [{{name: main, image: "{IMAGE}"}}]
"""
DEPLOYMENT = f"""
apiVersion: apps/v1
kind: Deployment
metadata: {{name: d}}
spec:
  replicas: 0
  selector: {{matchLabels: {{app: d}}}}
  template:
    metadata: {{labels: {{app: d}}}}
    spec:
      schedulerName: nobody
      containers: [{{name: main, image: "{IMAGE}", env: [{{name: A, value: "1"}}]}}]
"""
STATEFUL = (
    DEPLOYMENT.replace("kind: Deployment", "kind: StatefulSet")
    .replace("name: d}", "name: s}")
    .replace("replicas: 0", "replicas: 0\n  serviceName: s")
)


def pod(name: str) -> str:
    return POD.replace("NAME", name)


Step = str | tuple[str, str]
"""A command line, or a command line and what it reads from its standard input."""

TRANSCRIPTS: dict[str, list[Step]] = {
    "get": [
        "get pods",
        ("create -f -", pod("a")),
        ("create -f -", pod("b")),
        "get pods",
        "get pods -o wide",
        "get po/a -o name",
        "get pods --show-labels",
        "get pods -L app --no-headers",
        "get pods -l app=web,!x --field-selector metadata.name!=b",
        "get pods --field-selector spec.nodeName=",
        "get pod a -o jsonpath={.spec.containers[0].image}",
        "get pods -o custom-columns=NAME:.metadata.name,PHASE:.status.phase",
        "get pod a -o yaml",
        "get pods -o json --sort-by=.metadata.name",
        "get pod none",
        "get nothing",
        "get ns $NS",
        "get sa,cm",
        "get all",
        "get node node-0",
        "get node node-0 -o wide",
        "get crd broadcastjobs.apps.kruise.io -o custom-columns=NAME:.metadata.name,SCOPE:.spec.scope",
        "get pods --chunk-size=1",
        "get pods -A -l app=web --no-headers --field-selector metadata.namespace=$NS",
        "get --raw /api/v1/namespaces/$NS/pods/none",
    ],
    "get of custom objects": [
        ("create -f -", JOB),
        "get bcj",
        "get bcj -o wide",
        "get broadcastjobs.apps.kruise.io j",
        "get broadcastjobs.v1alpha1.apps.kruise.io j -o name",
        "get kruise",
        "get bcj j -o yaml",
        'patch bcj j --subresource=status --type=merge -p \'{"status":{"desired":3,"active":1,"succeeded":2}}\'',
        "get bcj j",
        "get bcj none",
    ],
    "describe": [
        ("create -f -", RUNNING.replace("NAME", "a")),
        "wait --for=condition=Ready pod/a --timeout=30s",
        "describe pod a",
        ("create -f -", MAP),
        "describe cm c",
        ("create -f -", JOB),
        "describe bcj j",
        "describe pod none",
        "create quota q --hard=configmaps=9",
        "wait --for=jsonpath={.status.hard.configmaps}=9 quota/q --timeout=30s",
        "describe quota q",
        "get events --field-selector involvedObject.name=a,reason=Scheduled",
        "events --for pod/a --types=Normal",
        "describe sa default",
    ],
    "apply": [
        ("apply -f -", MAP),
        ("apply -f -", MAP),
        ("apply -f -", MAP.replace('b: "2"', 'c: "3"')),
        "get cm c -o jsonpath={.data}",
        'patch cm c --type=merge -p \'{"data":{"foreign":"x"}}\'',
        ("apply -f -", MAP.replace('b: "2"', 'd: "4"')),
        "get cm c -o jsonpath={.data}",
        ("apply -f -", DEPLOYMENT),
        ("apply -f -", DEPLOYMENT.replace('{name: A, value: "1"}', '{name: B, value: "2"}')),
        "get deploy d -o jsonpath={.spec.template.spec.containers[0].env}",
        ("apply -f -", DEPLOYMENT.replace("app:v1", "app:v2")),
        "get deploy d -o jsonpath={.spec.template.spec.containers[0].image}",
        ("apply -f -", JOB),
        ("apply -f -", JOB.replace("parallelism: 2", "parallelism: 50%")),
        ("apply -f -", JOB.replace("  parallelism: 2\n", "")),
        "get bcj j -o jsonpath={.spec.parallelism}",
        ("apply -f -", JOB.replace("parallelism: 2", "parallelism: half")),
        ("apply -f - --dry-run=server", MAP.replace('"1"', '"9"')),
        ("apply -f -", pod("p")),
        ("apply -f -", pod("p").replace("app:v1", "app:v2")),
        ("apply -f -", pod("p").replace("containerPort: 80", "containerPort: 81")),
        ("diff -f -", MAP.replace('b: "2"', 'd: "5"')),
        "get cm c -o yaml",
    ],
    "create": [
        ("create -f -", MAP),
        ("create -f -", MAP),
        "create configmap x --from-literal=k=v -o yaml",
        "create secret generic s --from-literal=k=v",
        "create serviceaccount robot",
        "create deployment e --image=registry.example.com/app:v1 --replicas=0",
        "get deploy e -o jsonpath={.spec}",
        "create job one --image=registry.example.com/app:v1 --dry-run=server",
        "create quota q --hard=pods=1",
        "create pdb b --selector=app=web --min-available=1",
        "get pdb b",
        "create role r --verb=get --resource=pods",
        ("create -f - --validate=strict", MAP.replace("data:", "odd: 1\ndata:").replace("name: c", "name: c2")),
        ("create -f - --validate=warn", MAP.replace("data:", "odd: 1\ndata:").replace("name: c", "name: c3")),
        ("create -f - --validate=ignore", MAP.replace("data:", "odd: 1\ndata:").replace("name: c", "name: c4")),
        ("create -f - --validate=strict", JOB.replace("paused: true", "paused: true\n  odd: 1")),
        ("create -f -", MAP.replace("name: c", "name: Upper")),
        ("create -f -", pod("x").replace('image: "registry.example.com/app:v1", ', "")),
        ("create -f - --dry-run=server -o name", MAP.replace("name: c", "name: dry")),
        ("replace -f -", MAP.replace('"1"', '"7"')),
        ("replace -f -", MAP.replace("name: c", "name: absent")),
        "get cm c -o jsonpath={.data.a}",
    ],
    "wait": [
        ("create -f -", pod("a")),
        "wait --for=condition=Ready pod/a --timeout=1s",
        (
            "patch pod a --subresource=status --type=merge"
            ' -p \'{"status":{"conditions":[{"type":"Ready","status":"True"}]}}\''
        ),
        "wait --for=condition=Ready pod/a --timeout=5s",
        "wait --for=condition=Ready=false pod/a --timeout=1s",
        "wait --for=jsonpath={.status.phase}=Pending pod/a --timeout=5s",
        "wait --for=jsonpath={.status.phase}=Running pod/a --timeout=1s",
        "wait --for=delete pod/a --timeout=1s",
        "delete pod a --wait=false",
        "wait --for=delete pod/a --timeout=10s",
        "wait --for=condition=Ready pod/none --timeout=1s",
        ("create -f -", JOB),
        (
            "patch bcj j --subresource=status --type=merge"
            ' -p \'{"status":{"conditions":[{"type":"Complete","status":"True"}]}}\''
        ),
        "wait --for=condition=Complete bcj/j --timeout=5s",
        "wait --for=create cm/kube-root-ca.crt --timeout=10s",
    ],
    "patch": [
        ("create -f -", DEPLOYMENT),
        ("create -f -", MAP),
        ("create -f -", JOB),
        'patch cm c --type=merge -p \'{"data":{"a":null,"z":"9"}}\' -o jsonpath={.data}',
        'patch cm c --type=json -p \'[{"op":"add","path":"/data/y","value":"8"}]\' -o jsonpath={.data}',
        'patch cm c --type=json -p \'[{"op":"test","path":"/data/y","value":"0"}]\'',
        "patch cm c --type=merge -p '{}'",
        (
            "patch deploy d --type=strategic"
            ' -p \'{"spec":{"template":{"spec":{"containers":[{"name":"main","args":["x"]}]}}}}\''
        ),
        "get deploy d -o jsonpath={.spec.template.spec.containers}",
        'patch bcj j --type=merge -p \'{"spec":{"parallelism":5}}\'',
        'patch bcj j --type=strategic -p \'{"spec":{"parallelism":5}}\'',
        'patch bcj j --type=json -p \'[{"op":"remove","path":"/spec/parallelism"}]\'',
        'patch bcj j --type=merge -p \'{"spec":{"parallelism":-1}}\'',
        "patch bcj none --type=merge -p '{}'",
        'patch cm c --type=merge -p \'{"metadata":{"resourceVersion":"1"},"data":{"q":"1"}}\'',
        "set image deploy/d main=registry.example.com/app:v9",
        "label cm c team=x",
        "label cm c team=y",
        "label cm c team=y --overwrite",
        "label cm c team-",
        "annotate cm c note=hello",
        "get cm c -o jsonpath={.metadata.labels}{.metadata.annotations}",
    ],
    "scale": [
        ("create -f -", DEPLOYMENT),
        ("create -f -", STATEFUL),
        "scale deploy/d --replicas=0",
        "scale deploy/d --replicas=2 --current-replicas=1",
        "scale deploy/d --replicas=1 --current-replicas=0",
        "get deploy d -o jsonpath={.spec.replicas}",
        "scale sts/s --replicas=0",
        "scale sts s --replicas=-1",
        "scale cm/none --replicas=1",
        "scale deploy/none --replicas=1",
    ],
    "explain": [
        "explain bcj.spec",
        "explain bcj.spec.parallelism",
        "explain bcj.spec --recursive",
        "explain bcj.status.conditions",
        "explain bcj.spec.nothing",
        "explain bcj.spec.failurePolicy --api-version=apps.kruise.io/v1alpha1",
        "explain nothing",
    ],
    "delete": [
        ("create -f -", pod("a")),
        "delete pod a",
        ("create -f -", pod("a")),
        "delete pod/a --now",
        ("create -f -", pod("a")),
        "delete pod a --grace-period=0 --force",
        ("create -f -", pod("a")),
        ("create -f -", pod("b")),
        "delete pods -l app=web",
        "get pods",
        "delete pod a",
        "delete pod a --ignore-not-found",
        ("create -f -", MAP),
        ("delete -f -", MAP),
        ("create -f -", JOB),
        "delete bcj --all",
        ("create -f -", MAP),
        "delete cm c --dry-run=server",
        "delete cm c --dry-run=client",
        "get cm c -o name",
        'patch cm c --type=merge -p \'{"metadata":{"finalizers":["example.com/hold"]}}\'',
        "delete cm c --timeout=1s",
        "get cm c -o jsonpath={.metadata.finalizers}{.metadata.deletionGracePeriodSeconds}",
        'patch cm c --type=merge -p \'{"metadata":{"finalizers":null}}\'',
        "get cm c",
    ],
    "namespaces": [
        "create ns $NS-x",
        "-n $NS-x create cm a --from-literal=k=v",
        "delete ns $NS-x",
        "get ns $NS-x",
        "-n $NS-x create cm a",
    ],
    "access": [
        "auth can-i list pods",
        "auth can-i '*' '*' --all-namespaces",
        "auth can-i create broadcastjobs.apps.kruise.io",
        "api-resources --api-group=apps.kruise.io",
        "api-resources --api-group=apps -o name",
        "api-resources --api-group=events.k8s.io -o wide",
        "get --raw /healthz",
    ],
}


def kubectl_of(cluster: Cluster, kubeconfig: Path) -> Kubectl:
    return Kubectl(cluster.binaries / "kubectl", kubeconfig, f"kubectl-{secrets.token_hex(3)}")


@asynccontextmanager
async def embedded(cluster: Cluster, folder: Path) -> AsyncIterator[Kubectl]:
    """The embedded cluster behind HTTPS, and the kubectl of the real one's build."""
    made = EmbeddedCluster(SystemClock(), Random(1), nodes=1, definitions=read_definitions(CRDS), token="kubectl")
    async with made:
        (folder / "embedded").mkdir()
        yield kubectl_of(cluster, made.write_kubeconfig(folder / "embedded" / "kubeconfig"))


@asynccontextmanager
async def prepared(kubectl: Kubectl) -> AsyncIterator[Kubectl]:
    """A namespace in which pods can be created."""
    await kubectl.run("create ns $NS")
    for account in ("sa/default", "cm/kube-root-ca.crt"):
        made = await kubectl.run(f"wait --for=create {account} --timeout=30s")
        assert "condition met" in made
    yield kubectl
    await kubectl.run("delete ns $NS --wait=false")


async def transcript(kubectl: Kubectl, steps: list[Step]) -> list[str]:
    printed = []
    for step in steps:
        line, text = step if isinstance(step, tuple) else (step, "")
        printed.append(f"$ kubectl {line}\n{await kubectl.run(line, text)}")
    return printed


async def both(cluster: Cluster, folder: Path, steps: list[Step]) -> None:
    (folder / "real").mkdir()
    config = folder / "real" / "kubeconfig"
    config.write_bytes(cluster.admin.read_bytes())
    async with prepared(kubectl_of(cluster, config)) as real:
        wanted = await transcript(real, steps)
    async with embedded(cluster, folder) as kubectl, prepared(kubectl):
        found = await transcript(kubectl, steps)
    assert found == wanted


@pytest.mark.parametrize("name", TRANSCRIPTS)
async def test_tst1_kubectl_prints_the_same(name: str, real_cluster: Cluster, tmp_path: Path) -> None:
    await both(real_cluster, tmp_path, TRANSCRIPTS[name])


OWNED = """
apiVersion: v1
kind: ConfigMap
metadata:
  name: child
  ownerReferences: [{apiVersion: v1, kind: ConfigMap, name: c, uid: UID, blockOwnerDeletion: true}]
"""


@pytest.mark.parametrize("policy", ["background", "foreground", "orphan"])
async def test_tst1_kubectl_deletes_with_each_propagation_policy(
    policy: str, real_cluster: Cluster, tmp_path: Path
) -> None:
    async def run(kubectl: Kubectl) -> list[str]:
        printed = await transcript(kubectl, [("create -f -", MAP)])
        uid = await _uid(kubectl)
        printed.append(await kubectl.run("create -f -", OWNED.replace("UID", uid)))
        printed.append(await kubectl.run(f"delete cm c --cascade={policy}"))
        if policy != "orphan":
            printed.append(await kubectl.run("wait --for=delete cm/child --timeout=30s"))
        printed.append(await kubectl.run("get cm c child -o name --ignore-not-found"))
        return printed

    (tmp_path / "real").mkdir()
    config = tmp_path / "real" / "kubeconfig"
    config.write_bytes(real_cluster.admin.read_bytes())
    async with prepared(kubectl_of(real_cluster, config)) as real:
        wanted = await run(real)
    async with embedded(real_cluster, tmp_path) as kubectl, prepared(kubectl):
        assert await run(kubectl) == wanted


async def _uid(kubectl: Kubectl) -> str:
    process = await asyncio.create_subprocess_exec(
        *kubectl._command("get cm c -o jsonpath={.metadata.uid}"),
        stdout=asyncio.subprocess.PIPE,
        env=kubectl._environment(),
    )
    out, _ = await process.communicate()
    return out.decode()


async def test_tst1_kubectl_get_w_prints_the_same(real_cluster: Cluster, tmp_path: Path) -> None:
    async def run(kubectl: Kubectl) -> list[str]:
        async with kubectl.following("get pods -w -o wide") as lines:
            # The watch is open when the first pod shows.
            await kubectl.run("create -f -", pod("a"))
            await until_lines(lines, 2)
            await kubectl.run('patch pod a --subresource=status --type=merge -p \'{"status":{"phase":"Running"}}\'')
            await until_lines(lines, 3)
            await kubectl.run("label pod a x=y")
            await until_lines(lines, 4)
            await kubectl.run("delete pod a --wait=false")
            await until_lines(lines, 6)
        async with kubectl.following("get cm -w --output-watch-events --field-selector metadata.name=c") as events:
            await kubectl.run("create -f -", MAP)
            await until_lines(events, 2)
            await kubectl.run('patch cm c --type=merge -p \'{"data":{"z":"1"}}\'')
            await kubectl.run("delete cm c")
            await until_lines(events, 4)
        return lines + events

    (tmp_path / "real").mkdir()
    config = tmp_path / "real" / "kubeconfig"
    config.write_bytes(real_cluster.admin.read_bytes())
    async with prepared(kubectl_of(real_cluster, config)) as real:
        wanted = await run(real)
    async with embedded(real_cluster, tmp_path) as kubectl, prepared(kubectl):
        assert await run(kubectl) == wanted


_FIELD = re.compile(r"FIELD: .*| {2}\S+\s+<\S+>(?: -required-)?")


def fields(text: str) -> list[str]:
    """Return the fields that an explanation lists: built-in types carry no descriptions in the embedded server."""
    return [line for line in text.splitlines() if _FIELD.fullmatch(line)]


@pytest.mark.parametrize(
    "path",
    ["bcj", "pod", "pod.spec", "pod.spec.containers", "node.status", "deploy.spec.strategy", "cm", "pod.metadata"],
)
async def test_tst1_kubectl_explains_the_fields_of_built_in_kinds(
    path: str, real_cluster: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "real").mkdir()
    config = tmp_path / "real" / "kubeconfig"
    config.write_bytes(real_cluster.admin.read_bytes())
    wanted = fields(await kubectl_of(real_cluster, config).run(f"explain {path}"))
    async with embedded(real_cluster, tmp_path) as kubectl:
        found = fields(await kubectl.run(f"explain {path}"))
    assert found == wanted
    assert len(found) >= 3


async def test_tst1_what_a_simulated_pod_cannot_do_is_refused_politely(real_cluster: Cluster, tmp_path: Path) -> None:
    async with embedded(real_cluster, tmp_path) as kubectl, prepared(kubectl):
        await kubectl.run("create -f -", RUNNING.replace("NAME", "a"))
        await kubectl.run("wait --for=condition=Ready pod/a --timeout=30s")
        logs = await kubectl.run("logs a")
        assert "a simulated pod runs no process" in logs
        for command in ("exec a -- true", "attach a", "port-forward a 8080"):
            assert "a simulated pod runs no process" in await kubectl.run(command)
        applied = await kubectl.run("apply --server-side -f -", MAP)
        assert "server-side apply is not served here; use client-side apply" in applied
        wrong = Kubectl(kubectl.binary, tmp_path / "embedded" / "other", kubectl.namespace)
        text = kubectl.kubeconfig.read_text().replace('"token": "kubectl"', '"token": "wrong"')
        wrong.kubeconfig.write_text(text)
        assert "Unauthorized" in await wrong.run("get pods") or "logged in" in await wrong.run("get pods")
