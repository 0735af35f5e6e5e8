"""The custom kinds that probes use, installed once per server."""

from __future__ import annotations

from typing import Any, Final

from tests.integration.probes.asking import GROUP

Body = dict[str, Any]

_TEXT: Final[Body] = {"type": "string"}
_COUNT: Final[Body] = {"type": "integer", "format": "int32"}

_WIDGET_SPEC: Final[Body] = {
    "type": "object",
    "description": "What a widget should be.",
    "required": ["size"],
    "properties": {
        "size": {"type": "integer", "format": "int32", "minimum": 1, "maximum": 100, "description": "How large."},
        "replicas": {"type": "integer", "format": "int32", "default": 1},
        "color": {"type": "string", "enum": ["red", "green"], "default": "red"},
        "name": {"type": "string", "pattern": "^[a-z]+$", "maxLength": 8, "minLength": 2},
        "share": {"type": "number", "minimum": 0, "exclusiveMinimum": True},
        "on": {"type": "boolean"},
        "many": {"type": "integer", "format": "int64", "multipleOf": 5},
        "when": {"type": "string", "format": "date-time"},
        "limit": {"x-kubernetes-int-or-string": True, "anyOf": [{"type": "integer"}, {"type": "string"}]},
        "nested": {
            "type": "object",
            "default": {},
            "properties": {
                "depth": {"type": "integer", "default": 3},
                "note": {"type": "string", "nullable": True, "default": "none"},
                "plain": {"type": "string", "nullable": True},
            },
            "maxProperties": 3,
        },
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 5}, "minItems": 1, "maxItems": 3},
        "marks": {"type": "array", "items": _TEXT, "x-kubernetes-list-type": "set"},
        "ports": {
            "type": "array",
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
            "items": {
                "type": "object",
                "required": ["name"],
                "properties": {"name": _TEXT, "port": {"type": "integer", "default": 80}},
            },
        },
        "options": {"type": "object", "additionalProperties": {"type": "integer", "maximum": 9}},
        "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "properties": {"known": _COUNT}},
        "template": {
            "type": "object",
            "x-kubernetes-embedded-resource": True,
            "x-kubernetes-preserve-unknown-fields": True,
        },
        "choice": {
            "type": "object",
            "properties": {"a": _COUNT, "b": _COUNT},
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
        },
    },
}
_STATUS: Final[Body] = {
    "type": "object",
    "properties": {
        "replicas": _COUNT,
        "selector": _TEXT,
        "phase": {"type": "string", "enum": ["New", "Done"]},
        "conditions": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "type": _TEXT,
                    "status": _TEXT,
                    "reason": _TEXT,
                    "message": _TEXT,
                    "lastTransitionTime": {"type": "string", "format": "date-time"},
                },
            },
        },
    },
}
_RULE_SPEC: Final[Body] = {
    "type": "object",
    "x-kubernetes-validations": [
        {"rule": "!has(self.low) || !has(self.high) || self.low <= self.high", "message": "low must not exceed high"},
        {"rule": "has(oldSelf.fixed) == has(self.fixed)", "message": "fixed cannot be added or removed"},
    ],
    "properties": {
        "low": _COUNT,
        "high": {**_COUNT, "x-kubernetes-validations": [{"rule": "self < 1000"}]},
        "fixed": {
            "type": "string",
            "x-kubernetes-validations": [
                {"rule": "self == oldSelf", "message": "fixed is immutable", "reason": "FieldValueForbidden"}
            ],
        },
        "items": {
            "type": "array",
            "maxItems": 10,
            "items": {
                "type": "object",
                "properties": {"name": {"type": "string", "maxLength": 20}, "value": _COUNT},
                "x-kubernetes-validations": [
                    {
                        "rule": "!has(self.value) || self.value > 0",
                        "messageExpression": "'value of ' + (has(self.name) ? self.name : '?') + ' must be positive'",
                        "fieldPath": ".value",
                    }
                ],
            },
        },
        "percent": {
            "x-kubernetes-int-or-string": True,
            "x-kubernetes-validations": [
                {
                    "rule": "type(self) == int ? self >= 0 : self.matches('^[0-9]+%$')",
                    "message": "must be a count or a percentage",
                }
            ],
        },
    },
}


def _version(name: str, schema: Body, *, storage: bool = True, **more: Any) -> Body:
    return {"name": name, "served": True, "storage": storage, "schema": {"openAPIV3Schema": schema}, **more}


def _kind(plural: str, kind: str, scope: str, *versions: Body, **names: Any) -> Body:
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": scope,
            "names": {"plural": plural, "kind": kind, "singular": kind.lower(), "listKind": f"{kind}List", **names},
            "versions": list(versions),
        },
    }


def _object(**properties: Body) -> Body:
    return {"type": "object", "properties": properties}


_WIDGET_COLUMNS: Final = [
    {"name": "Size", "type": "integer", "jsonPath": ".spec.size", "description": "How large it is."},
    {"name": "Color", "type": "string", "jsonPath": ".spec.color"},
    {"name": "Done", "type": "string", "jsonPath": '.status.conditions[?(@.type=="Done")].status'},
    {"name": "Tags", "type": "string", "jsonPath": ".spec.tags[*]", "priority": 1},
    {"name": "Since", "type": "date", "jsonPath": ".metadata.creationTimestamp"},
]

DEFINITIONS: Final[list[Body]] = [
    _kind(
        "widgets",
        "Widget",
        "Namespaced",
        _version(
            "v1",
            {**_object(spec=_WIDGET_SPEC, status=_STATUS), "description": "A widget."},
            subresources={
                "status": {},
                "scale": {
                    "specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas",
                    "labelSelectorPath": ".status.selector",
                },
            },
            additionalPrinterColumns=_WIDGET_COLUMNS,
            selectableFields=[{"jsonPath": ".spec.color"}],
        ),
        _version(
            "v1beta1",
            {**_object(spec=_WIDGET_SPEC, status=_STATUS), "description": "A widget."},
            storage=False,
            subresources={"status": {}},
            selectableFields=[{"jsonPath": ".spec.color"}],
        ),
        shortNames=["wg"],
        categories=["probes"],
    ),
    _kind(
        "gadgets",
        "Gadget",
        "Namespaced",
        _version("v1", {"type": "object", "x-kubernetes-preserve-unknown-fields": True}),
    ),
    _kind(
        "rules",
        "Rule",
        "Namespaced",
        _version("v1", _object(spec=_RULE_SPEC, status=_object(note=_TEXT)), subresources={"status": {}}),
    ),
    _kind("globes", "Globe", "Cluster", _version("v1", _object(spec=_object(size=_COUNT)))),
]
