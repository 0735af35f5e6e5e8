"""The command line of the demo."""

from __future__ import annotations

import subprocess
import sys

import pytest

from kruise.apis.broadcastjob_rules import default_broadcastjob, validate_broadcastjob
from kruise.apis.sidecarset_rules import default_sidecarset
from kruise.apis.sidecarset_validation import validate_sidecarset
from kruise.apis.statefulset_rules import default_statefulset
from kruise.apis.statefulset_validation import validate_statefulset
from kruise.cli.demo_job import job_body
from kruise.cli.demo_set import set_body
from kruise.cli.demo_sidecar import sidecarset_body
from kruise.cli.demo_stage import DEFINITIONS, configurations
from kruise.cli.main import main
from kruise.simulator.embedded import read_definitions


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--nodes", "2"], "from 3 to 500"),
        (["--nodes", "many"], "invalid"),
        (["--speed", "9"], "from 0.25 to 8"),
        (["--speed", "0"], "from 0.25 to 8"),
    ],
)
def test_a_wrong_flag_is_named(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["demo", *args])
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert said in error
    assert args[0] in error


def test_status_does_not_pay_for_the_demo() -> None:
    heavy = "('kruise.simulator', 'kruise.app')"
    code = f"import sys, kruise.cli.main; print([m for m in sys.modules if m.startswith({heavy})])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"


def test_the_package_carries_the_definitions() -> None:
    assert [d["metadata"]["name"] for d in read_definitions(DEFINITIONS)] == [
        "broadcastjobs.apps.kruise.io",
        "sidecarsets.apps.kruise.io",
        "statefulsets.apps.kruise.io",
    ]


def test_the_job_of_the_demo_is_valid() -> None:
    body = job_body("sweep", parallelism=2, run_seconds=4.0)
    in_cluster = {**body, "metadata": {**body["metadata"], "namespace": "default"}}
    assert not validate_broadcastjob(default_broadcastjob(in_cluster))
    assert body["spec"]["template"]["metadata"]["annotations"] == {"sim.kruise.io/run-seconds": "4"}


def test_the_set_of_the_demo_is_valid() -> None:
    body = set_body("web", replicas=5, speed=4.0)
    in_cluster = {**body, "metadata": {**body["metadata"], "namespace": "default"}}
    assert not validate_statefulset(default_statefulset(in_cluster))
    told = body["spec"]["template"]["metadata"]["annotations"]
    assert told == {"sim.kruise.io/start-seconds": "0.125", "sim.kruise.io/ready-seconds": "0.25"}


def test_the_sidecarset_of_the_demo_is_valid() -> None:
    assert not validate_sidecarset(default_sidecarset(sidecarset_body("logs")))


def test_the_configurations_of_the_webhooks_are_part_of_the_package() -> None:
    found = [(resource, body["metadata"]["name"]) for resource, body in configurations()]
    assert found == [
        (
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "kruise-mutating-webhook-configuration",
        ),
        (
            "mutatingwebhookconfigurations.admissionregistration.k8s.io",
            "kruise-mutating-webhook-configuration-fail",
        ),
        ("secrets", "kruise-webhook-certs"),
        (
            "validatingwebhookconfigurations.admissionregistration.k8s.io",
            "kruise-validating-webhook-configuration",
        ),
    ]
