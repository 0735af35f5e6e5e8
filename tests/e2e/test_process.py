"""The manager as a process: flags, faults of its surroundings, signals, probes, metrics."""

from __future__ import annotations

import re
import signal
import ssl
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hack import rbac
from hack.cluster import ROOT, Cluster, Options
from tests.e2e.conftest import Watched
from tests.e2e.harness import checks
from tests.e2e.harness.jobs import job, phase, status
from tests.e2e.harness.manager import ManagerProcess, free_ports, get, running
from tests.e2e.harness.observer import LEASES
from tests.e2e.harness.world import ACCOUNT, NAMESPACE, World, until

pytestmark = pytest.mark.real

CONTROLLER = "broadcastjob-controller"


def kruise(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    """Run the manager to its end."""
    return subprocess.run(
        [sys.executable, "-m", "kruise", *args],
        text=True,
        capture_output=True,
        check=False,
        timeout=60.0,
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": "/nonexistent", **env},
    )


# Before there is anything to talk to.


def test_version_and_help() -> None:
    done = kruise("--version")
    assert done.returncode == 0
    assert re.fullmatch(
        r"kruise-manager \S+ \(commit \S+, Python \S+, apps\.kruise\.io v1beta1 v1alpha1\)\n", done.stdout
    )
    shown = kruise("--help")
    assert shown.returncode == 0
    assert "--leader-elect" in shown.stdout


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--leader-election-lease-durations=20s",), "--leader-election-lease-duration"),
        (("--metrics-addr",), "--metrics-addr"),
        (("--leader-election-lease-duration=5s",), "--leader-election-renew-deadline"),
        (("--kubeconfig=/does/not/exist",), "/does/not/exist"),
        (("--v=many",), "--v=many"),
    ],
)
def test_a_wrong_option_ends_with_2_and_one_line(flags: tuple[str, ...], said: str) -> None:
    done = kruise("--disable-webhooks", *flags)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_broken_kubeconfig_is_named(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("clusters: [")
    done = kruise("--disable-webhooks", f"--kubeconfig={path}")
    assert done.returncode == 2
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr


# On a control plane without our kinds and our namespace.


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server alone, without the CRDs and without the manager's namespace."""
    options = Options(without=("kube-controller-manager", "kube-scheduler"), audit=False)
    with Cluster(tmp_path_factory.mktemp("bare"), options=options, crds=None) as cluster:
        # Least privilege needs its namespace for the Role; here the binding is cluster-wide, and the namespace absent.
        for body in (role for roles in rbac.manifests().values() for role in roles):
            if body["kind"].startswith("Cluster"):
                plural = body["kind"].lower() + "s"
                cluster.api.put(f"/apis/rbac.authorization.k8s.io/v1/{plural}", body)
        yield cluster


def account(cluster: Cluster, path: Path) -> Path:
    """Create the manager's namespace, ServiceAccount and Role; return a kubeconfig of it."""
    cluster.kubectl("create", "namespace", NAMESPACE)
    cluster.kubectl("apply", "-k", str(ROOT / "config" / "rbac"))
    return cluster.service_account_kubeconfig(NAMESPACE, ACCOUNT, path=path)


def test_an_absent_namespace_an_absent_kind_and_an_absent_server(bare: Cluster, tmp_path: Path) -> None:
    """Each is said clearly, waited for, and used once it is there (CAC5, CTL10)."""
    kubeconfig = account(bare, tmp_path / "manager.kubeconfig")
    with running(ManagerProcess("bare", tmp_path, kubeconfig)) as manager:
        manager.until(lambda: manager.said("broadcastjobs"), 20.0, "it says which kind is not served")
        manager.until(lambda: get(manager.health_port, "/healthz")[0] == 200, 10.0, "it is alive")
        code, text = get(manager.health_port, "/readyz?verbose")
        assert code != 200
        assert "broadcastjobs.apps.kruise.io" in text, text
        assert manager.said("does not serve this resource", resource="broadcastjobs.apps.kruise.io")
        bare.api.install_crds(ROOT / "config" / "crd")
        manager.wait_leading(60.0).wait_ready(60.0)

        # The server goes, and comes back.
        bare.kill_component("kube-apiserver")
        manager.until(lambda: manager.said("failed"), 30.0, "it says that the server is away")
        time.sleep(2.0)
        assert manager.running
        bare.start_component("kube-apiserver")
        bare.wait_ready()
        manager.wait_ready(60.0)
    assert manager.child.returncode == 0


def test_a_server_that_was_never_there(tmp_path: Path, bare: Cluster) -> None:
    config = tmp_path / "nobody.kubeconfig"
    text = bare.admin.read_text()
    config.write_text(text.replace(f":{bare.ports.api}", f":{free_ports(1)[0]}"))
    config.chmod(0o600)
    with running(ManagerProcess("nobody", tmp_path, config)) as manager:
        manager.until(lambda: manager.said("failed"), 20.0, "it says that nobody answers")
        assert get(manager.health_port, "/healthz")[0] == 200
        assert get(manager.health_port, "/readyz")[0] != 200
        manager.signal(signal.SIGTERM)
        assert manager.wait(15.0) == 0


# With our roles.


@pytest.fixture
def rule(world: World) -> Iterator[Callable[[str, str, str, str], None]]:
    """Take a verb out of a role; all of it is put back at the end, and by ``back()``."""

    def change(kind: str, path: str, resource: str, verb: str) -> None:
        role = world.call("GET", path)
        for one in role["rules"]:
            if resource in one["resources"] and verb in one["verbs"]:
                if len(one["resources"]) > 1:
                    role["rules"].append({**one, "resources": [r for r in one["resources"] if r != resource]})
                    one["resources"] = [resource]
                one["verbs"] = [v for v in one["verbs"] if v != verb]
                role["rules"] = [r for r in role["rules"] if r["verbs"]]
                break
        else:
            raise AssertionError(f"{path} grants no {verb} {resource}")
        world.call("PUT", path, role)

    yield change
    world.cluster.kubectl("apply", "-k", str(ROOT / "config" / "rbac"))


ROLE = f"/apis/rbac.authorization.k8s.io/v1/clusterroles/kruise-{CONTROLLER}"
OTHERS = tuple(
    f"/apis/rbac.authorization.k8s.io/v1/clusterroles/kruise-{kind}-controller"
    for kind in ("statefulset", "sidecarset")
)
"""They may grant the same rights: who is to lose one loses all of them."""


def grants(world: World, path: str, resource: str, verb: str) -> bool:
    """Tell whether the role at *path* gives the right."""
    return any(resource in one["resources"] and verb in one["verbs"] for one in world.call("GET", path)["rules"])


@pytest.mark.parametrize(
    ("resource", "verb"),
    [("pods", "create"), ("broadcastjobs/status", "patch"), ("nodes", "watch"), ("pods", "delete"), ("pods", "watch")],
)
def test_a_missing_permission_is_named_and_recovers(
    world: World,
    watched: Watched,
    launch: Callable[..., ManagerProcess],
    rule: Callable[[str, str, str, str], None],
    resource: str,
    verb: str,
) -> None:
    """F15: the rule to add stands in a log line; with it, everything goes on by itself."""
    world.nodes(5)
    observer = watched.observer
    for role in (ROLE, *(one for one in OTHERS if grants(world, one, resource, verb))):
        rule("ClusterRole", role, resource, verb)
    try:
        manager = launch()
        until(lambda: manager.said("identity"), 20.0, "it runs")
        if verb in ("create", "patch", "delete"):
            manager.wait_leading()
        name = f"{verb}-{resource.replace('/', '-')}"
        world.create(job(name, run="forever" if verb == "delete" else 0.2, failure={"type": "Continue"}))
        if verb == "delete":
            observer.until(lambda: status(observer.job(name)).get("active") == 5, 30.0, "its pods run")
            world.patch_job(name, {"spec": {"completionPolicy": {"activeDeadlineSeconds": 1}}})
        wanted = f'resources: ["{resource}"], verbs: ["{verb}"]'
        manager.until(lambda: any(wanted in str(line) for line in manager.lines()), 30.0, f"it says {wanted}")
    finally:
        world.cluster.kubectl("apply", "-k", str(ROOT / "config" / "rbac"))
    observer.until(
        lambda: phase(observer.job(name)) in ("completed", "failed"), 90.0, "the job ends with the right back"
    )
    observer.until(
        lambda: all((p["status"].get("phase") in ("Succeeded", "Failed")) for p in observer.pods(name)),
        60.0,
        "no pod is left to run",
    )
    manager.wait_ready()


def test_no_right_to_the_lease_is_named(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess], rule: Callable[[str, str, str, str], None]
) -> None:
    path = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{NAMESPACE}/roles/kruise-leader-election"
    rule("Role", path, "leases", "patch")
    manager = launch()
    manager.until(
        lambda: any("leases" in str(line) and "patch" in str(line) for line in manager.lines()), 30.0, "it says so"
    )
    assert not manager.said("became leader")
    world.cluster.kubectl("apply", "-k", str(ROOT / "config" / "rbac"))
    manager.wait_leading()


def test_sigterm_gives_the_lease_back_and_ends_with_0(world: World, watched: Watched, manager: ManagerProcess) -> None:
    manager.wait_ready()
    held = watched.observer.get(LEASES, NAMESPACE, "kruise-manager")
    assert held is not None
    assert held["spec"]["holderIdentity"] == manager.identity
    manager.signal(signal.SIGTERM)
    assert manager.wait(20.0) == 0
    watched.observer.until(
        lambda: not (watched.observer.get(LEASES, NAMESPACE, "kruise-manager") or {})["spec"].get("holderIdentity"),
        5.0,
        "nobody holds the lease",
    )


def test_a_second_signal_ends_at_once_with_1(
    world: World, watched: Watched, launch: Callable[..., ManagerProcess]
) -> None:
    manager = launch("--shutdown-delay=30s").wait_leading()
    manager.signal(signal.SIGTERM)
    manager.until(lambda: get(manager.health_port, "/readyz")[0] not in (0, 200), 5.0, "it is not ready any more")
    began = time.monotonic()
    manager.signal(signal.SIGTERM)
    assert manager.wait(5.0) == 1
    assert time.monotonic() - began < 3.0


def test_probes_and_metrics(world: World, watched: Watched, manager: ManagerProcess) -> None:
    """HEA1, MET1 and the names of Appendix A."""
    world.nodes(5)
    manager.wait_ready()
    world.create(job("sweep", run=0.2))
    watched.observer.until(lambda: phase(watched.observer.job("sweep")) == "completed", 30.0, "the job completes")
    code, text = get(manager.health_port, "/healthz?verbose")
    assert code == 200
    for name in ("event-loop", "leader-election", f"workers-{CONTROLLER}"):
        assert f"[+]{name} ok" in text, text
    code, text = get(manager.health_port, "/readyz?verbose")
    assert code == 200
    assert f"[+]controller-{CONTROLLER} ok" in text, text

    found = manager.metrics()
    names = {key.partition("{")[0] for key in found}
    lacking = sorted(name for name in METRICS if name not in names)
    assert not lacking, f"/metrics lacks {lacking}"
    assert found['leader_election_master_status{name="kruise-manager"}'] == 1
    assert found["kruise_manager_is_leader"] == 1
    place = 'broadcastjob="sweep",namespace="default"'
    assert found[f"kruise_broadcastjob_status_succeeded{{{place}}}"] == 5
    assert found[f"kruise_broadcastjob_status_desired{{{place}}}"] == 5
    assert (
        found[
            'kruise_broadcastjob_status_condition{broadcastjob="sweep",condition="Complete",namespace="default",status="true"}'
        ]
        == 1
    )
    assert found['kruise_informer_objects{group="",resource="nodes",version="v1"}'] == 5
    assert found[f'controller_runtime_reconcile_total{{controller="{CONTROLLER}",result="success"}}'] > 0
    assert found[f'controller_runtime_reconcile_errors_total{{controller="{CONTROLLER}"}}'] == 0
    assert not [key for key in found if "_created{" in key], "no creation series"


METRICS = (
    "controller_runtime_reconcile_total",
    "controller_runtime_reconcile_errors_total",
    "controller_runtime_terminal_reconcile_errors_total",
    "controller_runtime_reconcile_panics_total",
    "controller_runtime_reconcile_timeouts_total",
    "controller_runtime_reconcile_time_seconds_bucket",
    "controller_runtime_max_concurrent_reconciles",
    "controller_runtime_active_workers",
    "workqueue_depth",
    "workqueue_adds_total",
    "workqueue_retries_total",
    "workqueue_queue_duration_seconds_bucket",
    "workqueue_work_duration_seconds_bucket",
    "workqueue_unfinished_work_seconds",
    "workqueue_longest_running_processor_seconds",
    "rest_client_requests_total",
    "leader_election_master_status",
    "kruise_manager_is_leader",
    "kruise_informer_objects",
    "kruise_informer_store_bytes",
    "kruise_informer_last_event_age_seconds",
    "kruise_informer_resource_version_lag_seconds",
    "kruise_informer_decode_seconds_bucket",
    "kruise_leader_lease_remaining_seconds",
    "kruise_event_loop_lag_seconds",
    "kruise_broadcastjob_status_active",
    "kruise_broadcastjob_status_succeeded",
    "kruise_broadcastjob_status_failed",
    "kruise_broadcastjob_status_desired",
    "kruise_broadcastjob_status_condition",
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "python_info",
    "python_gc_collections_total",
)


def scrape(port: int, token: str) -> tuple[int, str]:
    """Ask for /metrics over TLS."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # self-signed, made in memory
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        asked = urllib.request.Request(f"https://127.0.0.1:{port}/metrics", headers=headers)
        with urllib.request.urlopen(asked, context=context, timeout=10.0) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_secure_metrics_ask_who_reads(world: World, watched: Watched, launch: Callable[..., ManagerProcess]) -> None:
    """MET5: TokenReview and SubjectAccessReview, with the manager's own rights."""

    def token(name: str) -> str:
        world.cluster.kubectl("create", "serviceaccount", name, "-n", "default", check=False)
        return world.cluster.kubectl("create", "token", name, "-n", "default").stdout.strip()

    reader, stranger = token("metrics-reader"), token("metrics-stranger")
    world.cluster.kubectl(
        "create", "clusterrolebinding", "metrics-reader", "--clusterrole=kruise-metrics-reader",
        "--serviceaccount=default:metrics-reader", check=False,
    )  # fmt: skip
    manager = launch("--metrics-secure").wait_leading().wait_ready()
    assert scrape(manager.metrics_port, "")[0] == 401
    assert scrape(manager.metrics_port, "nonsense")[0] == 401
    assert scrape(manager.metrics_port, stranger)[0] == 403
    code, text = scrape(manager.metrics_port, reader)
    assert code == 200
    assert "controller_runtime_reconcile_total" in text
    assert reader not in manager.log.read_text()


def test_dry_run_writes_nothing(world: World, watched: Watched, launch: Callable[..., ManagerProcess]) -> None:
    world.nodes(5)
    manager = launch("--dry-run").wait_leading()
    mark = world.cluster.audit.mark()
    world.create(job("sweep", run=0.2))
    asked = until(
        lambda: dry_runs(world, mark, "create pods") >= 5 and dry_runs(world, mark, ""), 30.0, "it would create"
    )
    time.sleep(3.0)
    assert not world.pods()
    assert not status(world.job("sweep")).get("phase")
    assert not checks.writes(world.cluster.audit, mark)
    assert dry_runs(world, mark, "") <= asked + 2, "a dry run plans once for each change that it sees"
    assert manager.running
    watched.quiescent = False


def dry_runs(world: World, mark: int, what: str) -> int:
    """Return how many dry-run writes of ours there were."""
    return sum(
        "dryRun=All" in e.uri and e.what.startswith(what)
        for e in world.cluster.audit.entries(checks.USER_AGENT, since=mark)
    )


def test_debug_reports_are_on_loopback_and_name_no_token(
    world: World, watched: Watched, manager: ManagerProcess
) -> None:
    token = re.search(r'"token": "([^"]+)"', world.kubeconfig.read_text())
    assert token is not None
    for report in ("queue", "cache", "leader", "tasks", "stacks", "mem", "objects"):
        text = manager.debug(report)
        assert text
        assert token[1] not in text
    manager.signal(signal.SIGUSR1)
    manager.until(lambda: manager.said("debug dump", report="mem"), 10.0, "the dump is in the log")
    assert token[1] not in manager.log.read_text()


def test_a_manager_without_election_refuses_beside_a_leader(
    world: World, watched: Watched, manager: ManagerProcess, launch: Callable[..., ManagerProcess]
) -> None:
    """LEA14."""
    other = launch("--leader-elect=false")
    assert other.wait(30.0) == 2
    assert other.said("kruise-manager")
    assert manager.running
