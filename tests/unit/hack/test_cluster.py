"""The parts of the local control plane that need no control plane: files, processes, command lines."""

from __future__ import annotations

import json
import os
import socket
import ssl
import stat
import sys
import threading
from pathlib import Path

import pytest
import yaml
from cryptography import x509

from hack.cluster import __main__ as command
from hack.cluster import binaries, components, gomod, kubeconfig, registry
from hack.cluster.audit import AuditLog, parse
from hack.cluster.certs import CLIENTS, Pki
from hack.cluster.cluster import Cluster
from hack.cluster.components import Options, Ports
from hack.cluster.errors import ClusterError
from hack.cluster.processes import Process, started_at

PORTS = Ports(etcd=1, etcd_peer=2, api=3, controller_manager=4, scheduler=5, control=6)
SLEEPER = (sys.executable, "-c", "import time; time.sleep(600)")
STUBBORN = (
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
)


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    made = Pki(tmp_path_factory.mktemp("pki"))
    made.make()
    return made


def fake_binaries(directory: Path, names: tuple[str, ...] = binaries.COMPONENTS, version: str = "v1.37.2") -> Path:
    directory.mkdir(parents=True)
    for name in names:
        (directory / name).write_text(f"#!/bin/sh\necho Kubernetes {version}\n")
        (directory / name).chmod(0o755)
    return directory


class TestGoMod:
    RELEASE = {  # noqa: RUF012
        "Go": "1.26.0",
        "Require": [
            {"Path": "k8s.io/api", "Version": "v0.0.0"},
            {"Path": "github.com/spf13/cobra", "Version": "v1.10.0"},
            {"Path": "golang.org/x/net", "Version": "v0.50.0"},
        ],
        "Replace": [
            {"Old": {"Path": "k8s.io/api"}, "New": {"Path": "./staging/src/k8s.io/api"}},
            {"Old": {"Path": "example.com/fork"}, "New": {"Path": "example.com/other"}},
        ],
    }

    def test_staging_modules_get_the_published_tag(self) -> None:
        text = gomod.render("v1.37.2", self.RELEASE)
        assert "\tk8s.io/api v0.37.2 // indirect\n" in text
        assert "\tk8s.io/api => k8s.io/api v0.37.2\n" in text
        assert "v0.0.0" not in text
        assert "example.com/fork" not in text

    def test_what_we_import_ourselves_is_direct(self) -> None:
        text = gomod.render("v1.37.2", self.RELEASE)
        assert "\tgithub.com/spf13/cobra v1.10.0\n" in text
        assert "\tgolang.org/x/net v0.50.0 // indirect\n" in text
        assert "\tk8s.io/kubernetes v1.37.2\n" in text

    def test_the_pinned_pair_is_of_the_default_version(self) -> None:
        assert f"\tk8s.io/kubernetes {gomod.DEFAULT_VERSION}\n" in (binaries.HERE / "go.mod").read_text()
        assert f"k8s.io/kubernetes {gomod.DEFAULT_VERSION} h1:" in (binaries.HERE / "go.sum").read_text()

    @pytest.mark.parametrize("version", ["1.37", "v2.0", "v1", "latest", "v1.37.2-rc.0"])
    def test_a_strange_version_is_refused(self, version: str) -> None:
        with pytest.raises(ClusterError, match=r"v1\.37"):
            gomod.resolve(version)


class TestBinaries:
    def test_without_go_the_error_says_what_else_would_do(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "")
        with pytest.raises(ClusterError) as caught:
            binaries.ensure(say=lambda _: None)
        assert "Install Go" in str(caught.value)
        assert "KUBEBUILDER_ASSETS" in str(caught.value)

    def test_kubebuilder_assets_wins(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        named = fake_binaries(tmp_path / "assets")
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(named))
        assert binaries.ensure(say=lambda _: None) == named
        assert binaries.find() == named

    def test_incomplete_assets_are_named(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # What other tools call by this name often has etcd, kube-apiserver and kubectl alone.
        named = fake_binaries(tmp_path / "assets", ("etcd", "kube-apiserver", "kubectl"))
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(named))
        with pytest.raises(ClusterError, match="kube-controller-manager, kube-scheduler"):
            binaries.ensure(say=lambda _: None)

    def test_a_build_of_the_present_recipe_is_used_without_go(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        directory = binaries.cache_root() / gomod.DEFAULT_VERSION
        fake_binaries(directory / "bin")
        (directory / "recipe").write_text(binaries._recipe())
        monkeypatch.setenv("PATH", "")
        assert binaries.ensure(say=lambda _: None) == directory / "bin"

    def test_a_build_of_another_recipe_is_not(self, monkeypatch: pytest.MonkeyPatch) -> None:
        directory = binaries.cache_root() / gomod.DEFAULT_VERSION
        fake_binaries(directory / "bin")
        (directory / "recipe").write_text("older")
        monkeypatch.setenv("PATH", "")
        assert binaries.find() is None
        with pytest.raises(ClusterError, match="Install Go"):
            binaries.ensure(say=lambda _: None)

    def test_two_builds_never_run_at_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        builds: list[str] = []
        inside = threading.Event()
        release = threading.Event()

        def build(version: str, directory: Path, _say: object) -> None:
            builds.append(version)
            inside.set()
            assert release.wait(10)
            fake_binaries(directory / "bin")
            (directory / "recipe").write_text(binaries._recipe())

        monkeypatch.setattr(binaries, "_build", build)
        monkeypatch.setattr(binaries, "_need_go", lambda: None)
        said: list[str] = []
        waits = threading.Event()

        def second_says(line: str) -> None:
            said.append(line)
            waits.set()

        first = threading.Thread(target=binaries.ensure, kwargs={"say": lambda _: None})
        first.start()
        assert inside.wait(10)
        second = threading.Thread(target=binaries.ensure, kwargs={"say": second_says})
        second.start()
        assert waits.wait(10)
        release.set()
        first.join(10)
        second.join(10)
        assert builds == [gomod.DEFAULT_VERSION]
        assert "waiting" in said[0]

    def test_the_version_is_what_the_server_says(self, tmp_path: Path) -> None:
        assert binaries.version_of(fake_binaries(tmp_path / "b", version="v1.33.7")) == "v1.33.7"


class TestCertificates:
    def test_the_server_is_trusted_for_loopback(self, pki: Pki) -> None:
        made = x509.load_pem_x509_certificate(pki.cert("apiserver").read_bytes())
        authority = x509.load_pem_x509_certificate(pki.cert("ca").read_bytes())
        made.verify_directly_issued_by(authority)
        names = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert "127.0.0.1" in [str(a) for a in names.get_values_for_type(x509.IPAddress)]
        assert "localhost" in names.get_values_for_type(x509.DNSName)

    @pytest.mark.parametrize("name", list(CLIENTS))
    def test_clients_carry_user_and_group(self, pki: Pki, name: str) -> None:
        made = x509.load_pem_x509_certificate(pki.cert(name).read_bytes())
        user, group = CLIENTS[name]
        assert [a.value for a in made.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)] == [user]
        groups = [a.value for a in made.subject.get_attributes_for_oid(x509.NameOID.ORGANIZATION_NAME)]
        assert groups == ([group] if group else [])

    def test_openssl_accepts_the_chain(self, pki: Pki) -> None:
        context = ssl.create_default_context(cafile=str(pki.cert("ca")))
        context.load_cert_chain(pki.cert("admin"), pki.key("admin"))

    def test_private_keys_are_their_owners_alone(self, pki: Pki) -> None:
        for name in ("apiserver", "sa", *CLIENTS):
            assert stat.S_IMODE(pki.key(name).stat().st_mode) == 0o600

    def test_what_exists_is_kept(self, pki: Pki) -> None:
        before = pki.cert("admin").read_bytes()
        pki.make()
        assert pki.cert("admin").read_bytes() == before


class TestProcesses:
    def test_start_and_stop(self, tmp_path: Path) -> None:
        process = Process("p", tmp_path)
        pid = process.start(SLEEPER)
        assert process.pid() == pid
        assert os.getsid(pid) == pid
        process.stop()
        assert process.pid() is None
        assert not process.pid_file.exists()
        assert started_at(pid) is None

    def test_another_process_of_the_same_pid_is_never_touched(self, tmp_path: Path) -> None:
        victim, forged = Process("victim", tmp_path), Process("forged", tmp_path)
        pid = victim.start(SLEEPER)
        try:
            forged.pid_file.write_text(json.dumps({"pid": pid, "started": "another", "argv": []}))
            assert forged.pid() is None
            forged.stop()
            assert victim.pid() == pid
        finally:
            victim.kill()

    def test_a_paused_process_is_stopped(self, tmp_path: Path) -> None:
        import signal

        process = Process("p", tmp_path)
        process.start(SLEEPER)
        process.signal(signal.SIGSTOP)
        assert process.pid() is not None
        process.stop(timeout=5)
        assert process.pid() is None

    def test_one_that_ignores_sigterm_is_killed(self, tmp_path: Path) -> None:
        process = Process("p", tmp_path)
        process.start(STUBBORN)
        while "up" not in process.tail():
            pass
        process.stop(timeout=0.05)
        assert process.pid() is None

    def test_a_second_start_is_refused(self, tmp_path: Path) -> None:
        process = Process("p", tmp_path)
        process.start(SLEEPER)
        try:
            with pytest.raises(ClusterError, match="runs already"):
                process.start(SLEEPER)
        finally:
            process.kill()

    def test_a_broken_pid_file_is_no_process(self, tmp_path: Path) -> None:
        process = Process("p", tmp_path)
        process.pid_file.write_text("{")
        assert process.pid() is None
        process.stop()


class TestCommandLines:
    def test_the_api_server_needs_no_default_route(self, tmp_path: Path, pki: Pki) -> None:
        argv = components.api_server(tmp_path, tmp_path, PORTS, pki, 37, Options())
        assert "--advertise-address=127.0.0.1" in argv
        assert "--endpoint-reconciler-type=none" in argv
        assert not [a for a in argv if "feature-gates" in a]

    def test_more_flags_come_last_and_win(self, tmp_path: Path, pki: Pki) -> None:
        more = ("--watch-cache=false", "--etcd-compaction-interval=10s", "--goaway-chance=0.01")
        argv = components.api_server(tmp_path, tmp_path, PORTS, pki, 37, Options(api_server=more))
        assert tuple(argv[-3:]) == more

    def test_no_audit(self, tmp_path: Path, pki: Pki) -> None:
        argv = components.api_server(tmp_path, tmp_path, PORTS, pki, 37, Options(audit=False))
        assert not [a for a in argv if a.startswith("--audit")]

    def test_in_place_resize_is_switched_on_where_it_is_a_gate(self, tmp_path: Path, pki: Pki) -> None:
        argv = components.api_server(tmp_path, tmp_path, PORTS, pki, 34, Options())
        assert "--feature-gates=InPlacePodVerticalScaling=true" in argv

    def test_node_loss_is_noticed_as_in_kubernetes_unless_told(self, tmp_path: Path, pki: Pki) -> None:
        usual = components.controller_manager(tmp_path, PORTS, pki, tmp_path / "k", Options())
        assert "--node-monitor-grace-period=50s" in usual
        fast = components.controller_manager(tmp_path, PORTS, pki, tmp_path / "k", Options(node_monitor_grace="10s"))
        assert "--node-monitor-grace-period=10s" in fast

    def test_nodes_renew_within_a_short_grace(self, tmp_path: Path) -> None:
        cluster = Cluster(tmp_path, options=Options(node_monitor_grace="10s"), nodes=3)
        cluster._ports = PORTS
        assert "--lease-seconds=10" in cluster._node_argv()
        usual = Cluster(tmp_path, nodes=3)
        usual._ports = PORTS
        assert not [a for a in usual._node_argv() if a.startswith("--lease-seconds")]

    def test_the_audit_policy_keeps_bodies_of_our_writes(self) -> None:
        policy = yaml.safe_load(components.AUDIT_POLICY)
        assert policy["rules"][0]["level"] == "RequestResponse"
        assert {"group": "apps.kruise.io"} in policy["rules"][0]["resources"]
        assert policy["rules"][1] == {"level": "Metadata"}


class TestRegistry:
    def test_two_clusters_share_no_port(self, tmp_path: Path) -> None:
        one, two = tmp_path / "one", tmp_path / "two"
        one.mkdir()
        two.mkdir()
        a, b = registry.register(one, detached=False), registry.register(two, detached=False)
        ports = [*(getattr(a, f) for f in a.__slots__), *(getattr(b, f) for f in b.__slots__)]
        assert len(set(ports)) == 12
        assert min(ports) >= registry.FIRST_PORT

    def test_a_port_in_use_is_not_given_out(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        with socket.socket() as held:
            held.bind(("127.0.0.1", 0))
            taken = held.getsockname()[1]
            monkeypatch.setattr(registry, "FIRST_PORT", taken)
            monkeypatch.setattr(registry, "_last_port", lambda: taken)
            assert taken not in registry._free(5, set())

    def test_only_clusters_of_dead_owners_are_orphans(self, tmp_path: Path) -> None:
        mine, background, lost = (tmp_path / n for n in ("mine", "background", "lost"))
        for directory in (mine, background, lost):
            directory.mkdir()
        registry.register(mine, detached=False)
        registry.register(background, detached=True)
        registry.register(lost, detached=False)
        path = binaries.cache_root() / "running.json"
        entries = json.loads(path.read_text())
        entries[str(lost)]["owner"] = {"pid": os.getpid(), "started": "another process of this pid"}
        path.write_text(json.dumps(entries))
        assert registry.orphans() == [lost]
        registry.forget(lost)
        assert registry.orphans() == []


class TestAudit:
    EVENT = {  # noqa: RUF012
        "stage": "ResponseComplete",
        "requestURI": "/api/v1/namespaces/default/pods/a/status",
        "verb": "patch",
        "user": {"username": "system:serviceaccount:kruise-system:kruise-manager"},
        "userAgent": "kruise-manager/0.1 broadcastjob",
        "objectRef": {"resource": "pods", "namespace": "default", "name": "a", "subresource": "status"},
        "responseStatus": {"code": 200},
        "requestReceivedTimestamp": "2026-01-01T00:00:00.000001Z",
        "responseObject": {"metadata": {"resourceVersion": "7"}},
    }

    def test_entries_by_user_agent(self, tmp_path: Path) -> None:
        log = AuditLog(tmp_path / "audit.log")
        other = {**self.EVENT, "userAgent": "kubectl"}
        log.path.write_text(json.dumps(self.EVENT) + "\n" + json.dumps(other) + "\n")
        (entry,) = log.entries("kruise-manager")
        assert entry.what == "patch pods/status"
        assert entry.writes and entry.code == 200
        assert entry.response == {"metadata": {"resourceVersion": "7"}}
        assert log.counts() == {"patch pods/status": 2}

    def test_a_half_written_line_waits(self, tmp_path: Path) -> None:
        log = AuditLog(tmp_path / "audit.log")
        line = json.dumps(self.EVENT)
        log.path.write_text(line + "\n" + line[:50])
        assert len(list(log.entries())) == 1
        mark = len(line) + 1
        log.path.write_text(line + "\n" + line + "\n")
        assert len(list(log.entries(since=mark))) == 1

    def test_a_generated_name_comes_from_the_answer(self) -> None:
        event = {**self.EVENT, "verb": "create", "objectRef": {"resource": "pods", "namespace": "default"}}
        event["responseObject"] = {"metadata": {"name": "job-x7k2p"}}
        entry = parse(json.dumps(event))
        assert entry is not None and entry.name == "job-x7k2p"

    def test_requests_without_a_resource_are_left_out(self) -> None:
        assert parse(json.dumps({"verb": "get", "requestURI": "/readyz"})) is None

    def test_a_watch_is_counted_once(self, tmp_path: Path) -> None:
        log = AuditLog(tmp_path / "audit.log")
        watch = {**self.EVENT, "verb": "watch"}
        log.path.write_text(
            "".join(json.dumps({**watch, "stage": s}) + "\n" for s in ("ResponseStarted", "ResponseComplete"))
        )
        assert log.counts() == {"watch pods/status": 1}

    def test_no_log_yet(self, tmp_path: Path) -> None:
        log = AuditLog(tmp_path / "audit.log")
        assert log.mark() == 0
        assert list(log.entries()) == []


class TestKubeconfig:
    def test_a_token_kubeconfig(self, tmp_path: Path, pki: Pki) -> None:
        path = kubeconfig.of_token(
            tmp_path / "k", server="https://127.0.0.1:3", pki=pki, user="sa", token="t", namespace="kruise-system"
        )
        read = yaml.safe_load(path.read_text())
        assert read["users"][0]["user"] == {"token": "t"}
        assert read["contexts"][0]["context"]["namespace"] == "kruise-system"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_a_certificate_kubeconfig(self, tmp_path: Path, pki: Pki) -> None:
        path = kubeconfig.of_certificate(tmp_path / "k", server="https://127.0.0.1:3", pki=pki, name="admin")
        user = yaml.safe_load(path.read_text())["users"][0]["user"]
        assert set(user) == {"client-certificate-data", "client-key-data"}


class TestCommand:
    def test_down_without_a_cluster_is_no_error(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--dir", str(tmp_path / "none"), "down"]) == 0
        assert "no cluster" in capsys.readouterr().err

    def test_status_without_a_cluster_is_one_sentence(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--dir", str(tmp_path / "none"), "status"]) == 1
        assert capsys.readouterr().err.startswith("error: there is no cluster in")

    def test_up_without_go_is_one_sentence(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setenv("PATH", "")
        assert command.main(["--dir", str(tmp_path / "c"), "up"]) == 1
        assert "Install Go" in capsys.readouterr().err

    def test_a_server_that_ends_leaves_nothing_running(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        # Every "component" prints its version and ends at once: start must say so, with the log, and clean up.
        monkeypatch.setenv("KUBEBUILDER_ASSETS", str(fake_binaries(tmp_path / "assets")))
        cluster = Cluster(tmp_path / "c")
        with pytest.raises(ClusterError, match=r"ended while waiting for the API server.*(?s:.*)Kubernetes v1\.37\.2"):
            cluster.start()
        assert cluster.running() == {}
        assert registry.orphans() == []
        assert str(cluster.directory) not in (binaries.cache_root() / "running.json").read_text()
