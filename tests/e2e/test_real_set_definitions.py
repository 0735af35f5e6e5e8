"""The definitions of the kinds of sets on a real API server: taken without a warning, and every rule does its work.

The control plane has no controller manager and no scheduler: nothing here needs a pod to run.
"""

from __future__ import annotations

from typing import Any

import pytest

from hack.cluster import Cluster
from tests.e2e.harness.definitions import definition, post, put
from tests.unit.hack.definitions import KINDS, SetDefinition, each, named

pytestmark = pytest.mark.real
SHORT = "scs"

every_kind = pytest.mark.parametrize("kind", KINDS, ids=named)


@every_kind
def test_the_definition_is_established_and_structural(server: Cluster, kind: SetDefinition) -> None:
    live = server.api.call("GET", definition(kind))
    conditions = {c["type"]: c["status"] for c in live["status"]["conditions"]}
    assert conditions["Established"] == conditions["NamesAccepted"] == "True"
    assert "NonStructuralSchema" not in conditions
    # What the server keeps is what we wrote: nothing was dropped, nothing is drift.
    assert live["spec"]["versions"] == kind.crd["spec"]["versions"]


@pytest.mark.parametrize(("kind", "what"), each("GOOD"), ids=named)
def test_accepts(server: Cluster, kind: SetDefinition, what: str) -> None:
    changes = kind.cases.GOOD[what]
    for version in kind.cases.needs(changes):
        answer = post(server, kind, kind.cases.a_set(*changes), version)
        assert answer["code"] == 201, answer.get("message")


@pytest.mark.parametrize(("kind", "what"), each("BAD"), ids=named)
def test_refuses_and_names_the_field(server: Cluster, kind: SetDefinition, what: str) -> None:
    changes, field, said = kind.cases.BAD[what]
    for version in kind.cases.needs(changes):
        answer = post(server, kind, kind.cases.a_set(*changes), version)
        assert answer["code"] == 422, answer
        causes = [(cause.get("field", ""), cause["message"]) for cause in answer["details"]["causes"]]
        assert any(place == field and said in message for place, message in causes), causes


@every_kind
def test_what_may_and_may_not_change(server: Cluster, kind: SetDefinition, kept: dict[str, Any]) -> None:
    for what, (change, field, said) in kind.cases.FIXED.items():
        code, answer = put(server, kind, kind.after(kept, change))
        assert code == 422, what
        assert said in {c.get("field"): c["message"] for c in answer["details"]["causes"]}[field]
    for what, change in kind.cases.FREE.items():
        assert put(server, kind, kind.after(kept, change))[0] == 200, what


@every_kind
def test_kruise_995_a_status_needs_nothing(server: Cluster, kind: SetDefinition, kept: dict[str, Any]) -> None:
    for status in kind.cases.STATUSES:
        path = kind.path("kept") + "/status"
        code, raw = server.api.ask("PATCH", path, {"status": status}, content_type="application/merge-patch+json")
        assert code == 200, raw
