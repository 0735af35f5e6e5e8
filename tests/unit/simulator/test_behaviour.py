"""What annotations, image names and rules say of a container, and who wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kruise.runtime.errors import ConfigError
from kruise.simulator.behaviour import DEFAULT, FOREVER, SETTINGS, Behaviour, Rule, of_image, resolve


def resolved(
    *,
    annotations: dict[str, str] | None = None,
    node: dict[str, str] | None = None,
    rules: tuple[Rule, ...] = (),
    image: str = "app:1",
) -> Behaviour:
    spec: dict[str, Any] = {
        "initContainers": [{"name": "init", "image": "i"}],
        "containers": [{"name": "main", "image": image}, {"name": "side", "image": "s"}],
    }
    return resolve(
        namespace="default",
        name="job-1",
        spec=spec,
        annotations=annotations or {},
        node="node-7",
        node_annotations=node or {},
        rules=rules,
    )


def test_nothing_said() -> None:
    found = resolved(annotations={"other.example/x": "1"})
    assert found.of("main") is DEFAULT
    assert found.problems == ()
    assert DEFAULT.run_seconds == FOREVER


def test_a_pod_speaks_for_all_and_for_one() -> None:
    found = resolved(annotations={"sim.kruise.io/run-seconds": "2", "main.sim.kruise.io/run-seconds": "5"})
    assert found.of("main").run_seconds == 5
    assert found.of("side").run_seconds == found.of("init").run_seconds == 2


def test_who_wins() -> None:
    layers: dict[str, Any] = {"image": "sim.kruise.io/run-1s:v1"}
    assert resolved(**layers).of("main").run_seconds == 1
    layers["annotations"] = {"sim.kruise.io/run-seconds": "2"}
    assert resolved(**layers).of("main").run_seconds == 2
    layers["annotations"]["main.sim.kruise.io/run-seconds"] = "3"
    assert resolved(**layers).of("main").run_seconds == 3
    layers["node"] = {"sim.kruise.io/run-seconds": "4"}
    assert resolved(**layers).of("main").run_seconds == 4
    layers["node"]["main.sim.kruise.io/run-seconds"] = "5"
    assert resolved(**layers).of("main").run_seconds == 5
    layers["rules"] = (Rule(settings={"run-seconds": "6"}), Rule(pod="job-*", settings={"run-seconds": "7"}))
    assert resolved(**layers).of("main").run_seconds == 7


@pytest.mark.parametrize(
    ("rule", "hits"),
    [
        (Rule(), True),
        (Rule(namespace="default", pod="job-?", node="node-[5-9]", image="app:*", container="main"), True),
        (Rule(namespace="other"), False),
        (Rule(pod="web-*"), False),
        (Rule(node="node-1"), False),
        (Rule(image="db:*"), False),
        (Rule(container="side"), False),
    ],
)
def test_rules_fit_by_pattern(rule: Rule, hits: bool) -> None:
    rule = Rule(rule.namespace, rule.pod, rule.node, rule.image, rule.container, {"exit-code": "9"})
    assert (resolved(rules=(rule,)).of("main").exit_codes == (9,)) is hits


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("sim.kruise.io/run-5s", [("run-seconds", "5")]),
        ("sim.kruise.io/run-1.5s-exit-3:v2", [("run-seconds", "1.5"), ("exit-code", "3")]),
        ("sim.kruise.io/pull-fail@sha256:aa", [("pull-fail-seconds", "forever")]),
        ("sim.kruise.io/never-ready:run-5s", [("ready-seconds", "never")]),
        ("docker.io/run-5s", []),
        ("sim.kruise.io", []),
    ],
)
def test_images_that_say_what_they_do(image: str, said: list[tuple[str, str]]) -> None:
    assert list(of_image(image)) == said


def test_pod_settings() -> None:
    found = resolved(
        annotations={"sim.kruise.io/evict-seconds": "9", "sim.kruise.io/stuck-terminating": "true"},
        node={"sim.kruise.io/reject": "OutOfcpu", "sim.kruise.io/down": "power"},
    )
    assert found.pod.evict_seconds == 9 and found.pod.stuck_terminating and found.pod.reject == "OutOfcpu"
    assert found.problems == ()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run-seconds", "soon"),
        ("run-seconds", "-1"),
        ("run-seconds", "nan"),
        ("run-seconds", "inf"),
        ("exit-code", "256"),
        ("exit-code", ""),
        ("stop-exit-code", "1,2"),
        ("stuck-terminating", "yes"),
        ("no-such-thing", "1"),
    ],
)
def test_a_bad_value_is_reported_and_changes_nothing(key: str, value: str) -> None:
    found = resolved(annotations={f"sim.kruise.io/{key}": value, "sim.kruise.io/ready-seconds": "1"})
    assert len(found.problems) == 1 and f"sim.kruise.io/{key}" in found.problems[0]
    assert found.of("main").ready_seconds == 1
    assert found.of("main").run_seconds == FOREVER
    with pytest.raises(ConfigError, match=key):
        Rule.parse({"settings": {key: value}})


@pytest.mark.parametrize("raw", [3, [], {"colour": "red"}, {"settings": [1]}, {"settings": {"x": "1"}}])
def test_a_bad_rule_is_refused(raw: Any) -> None:
    with pytest.raises(ConfigError):
        Rule.parse(raw)


def test_a_rule_from_json() -> None:
    assert Rule.parse({"pod": "a", "settings": {"exit-code": 1}}) == Rule(pod="a", settings={"exit-code": "1"})


def test_one_is_a_number_of_seconds_in_all_its_forms() -> None:
    for text in ("1", "1s", " 1.0 "):
        assert resolved(annotations={"sim.kruise.io/run-seconds": text}).of("main").run_seconds == 1


@given(st.dictionaries(st.text(max_size=12).map(lambda k: f"sim.kruise.io/{k}"), st.text(max_size=8), max_size=4))
def test_resolving_never_raises(annotations: dict[str, str]) -> None:
    resolved(annotations=annotations, node=annotations)


def test_the_document_names_every_setting_and_no_other() -> None:
    text = (Path(__file__).parents[3] / "docs" / "simulated-nodes.md").read_text()
    table = text.partition("| annotation | meaning | default |")[2].partition("\n\n")[0]
    named = {line.split("`")[1] for line in table.splitlines() if line.startswith("| `")}
    assert named == SETTINGS - {"exit-codes"}
