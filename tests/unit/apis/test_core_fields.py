"""The core-fields table: access, pruning, type checks, and the generator."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hack import gen_core_fields
from kruise.apis import core_fields


def test_merge_keys_and_list_types() -> None:
    ports = core_fields.field_of("core.v1.Pod", "spec", "containers", "ports")
    assert ports is not None
    assert (ports.merge_key, ports.list_keys, ports.is_list) == ("containerPort", ("containerPort", "protocol"), True)
    volumes = core_fields.field_of("core.v1.PodSpec", "volumes")
    assert volumes is not None
    assert volumes.strategies == ("merge", "retainKeys")
    assert core_fields.field_of("core.v1.PodSpec", "nope", "x") is None
    selector = core_fields.field_of("core.v1.PodSpec", "nodeSelector")
    assert selector is not None
    assert (selector.is_map, selector.inner, selector.atomic_map) == (True, "string", True)
    assert core_fields.server_version()


def test_every_type_that_is_named_is_there() -> None:
    for name in core_fields.known_types():
        for field in core_fields.fields(name).values():
            if "." in field.inner:
                assert field.inner in core_fields.known_types(), f"{name}.{field.name}"


def test_prune_drops_what_the_type_does_not_have() -> None:
    pod = {"spec": {"containers": [{"name": "c", "x": 1}], "y": 2, "nodeSelector": {"free": "a"}}, "z": 3}
    assert core_fields.prune(pod, "core.v1.Pod") == {
        "spec": {"containers": [{"name": "c"}], "nodeSelector": {"free": "a"}}
    }
    assert core_fields.prune(5, "[string]") == 5
    assert core_fields.prune({"a": 1}, "no.such.Type") == {"a": 1}


@pytest.mark.parametrize(
    ("value", "type_name", "expected"),
    [
        (1, "string", "a string"),
        (True, "int32", "an integer of 32 bits"),
        (2**31, "int32", "an integer of 32 bits"),
        (1.0, "int64", "an integer of 64 bits"),
        ("x", "bool", "true or false"),
        ("x", "double", "a number"),
        ({}, "[string]", "a list"),
        ([], "{string}", "an object"),
        (1.5, "intOrString", "an integer of 32 bits or a string"),
        ("today", "time", "a time like 2006-01-02T15:04:05Z"),
        ("*", "bytes", "base64"),
    ],
)
def test_wrong_types_are_named(value: Any, type_name: str, expected: str) -> None:
    assert [error.detail for error in core_fields.type_errors(value, type_name, "f")] == [f"must be {expected}"]


@pytest.mark.parametrize(
    ("value", "type_name"),
    [
        (None, "int32"),
        ("1Gi", "quantity"),
        (0.5, "quantity"),
        ("80%", "intOrString"),
        (80, "intOrString"),
        ("2006-01-02T15:04:05.123456Z", "time"),
        ("YQ==", "bytes"),
        ({"any": [1]}, "raw"),
        (1.5, "number"),
    ],
)
def test_right_types_pass(value: Any, type_name: str) -> None:
    assert core_fields.type_errors(value, type_name, "f") == []


def test_a_path_through_maps_and_lists() -> None:
    pod = {"spec": {"containers": [{}, {"resources": {"limits": {"cpu": "x"}}}]}}
    assert [error.field for error in core_fields.type_errors(pod, "core.v1.Pod", "")] == [
        ".spec.containers[1].resources.limits[cpu]"
    ]


def test_the_generator_reads_documents_and_notices_a_stale_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    schemas = {
        "io.k8s.api.core.v1.Pod": {
            "type": "object",
            "required": ["items"],
            "properties": {
                "items": {"type": "array", "items": {"type": "string"}, "x-kubernetes-list-type": "atomic"},
                "when": {"allOf": [{"$ref": "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.Time"}]},
                "secret": {"type": "string", "format": "byte"},
            },
        }
    }
    document = {"info": {"version": "9.9"}, "components": {"schemas": schemas}}
    for name in gen_core_fields.DOCUMENTS:
        (tmp_path / f"{name.replace('/', '_')}.json").write_text(json.dumps(document))
    target = tmp_path / "table.json"
    monkeypatch.setattr(gen_core_fields, "TARGET", target)
    arguments = ["--from", str(tmp_path)]
    assert gen_core_fields.main(arguments) == 0
    assert json.loads(target.read_text())["types"]["core.v1.Pod"] == {
        "items": ["[string]", {"required": True, "nullable": True, "list": "atomic"}],
        "secret": ["bytes"],
        "when": ["time", {"nullable": True}],
    }
    assert gen_core_fields.main([*arguments, "--check"]) == 0
    target.write_text(target.read_text().replace('"bytes"', '"string"'))
    assert gen_core_fields.main([*arguments, "--check"]) == 1
    assert "stale" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        gen_core_fields.main(["--from", str(tmp_path / "none")])
