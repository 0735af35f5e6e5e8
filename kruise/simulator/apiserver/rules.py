"""The rules of custom kinds in CEL (``x-kubernetes-validations``).

Purpose: evaluate them where the optional extra ``cel`` is installed; say so where it is not.

Guarantees:

* TST1: a rule that is broken is a cause with the message, reason and path that the definition gives it. Transition
  rules (those that name ``oldSelf``) run only when the old value is known: under lists only where the list is a map by
  keys.
  Rules do not run while the object breaks its schema, and then one more cause says that.
* Without the extra, or for a rule that uses functions which neither the library nor :data:`FUNCTIONS` has, the object
  is accepted, and a warning says that CEL was not evaluated.

What this does not do: no costs and no ratcheting.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Final, Protocol

from kruise.simulator.apiserver.failure import Cause, shown

Body = dict[str, Any]

RULES: Final = "x-kubernetes-validations"
SKIPPED: Final = "CEL was not evaluated: install the extra `cel` (common-expression-language) to have the rules checked"
BLOCKING: Final = frozenset(
    {
        "FieldValueNotSupported",
        "FieldValueRequired",
        "FieldValueTooLong",
        "FieldValueTooMany",
        "FieldValueTypeInvalid",
    }
)
_UNCHECKED: Final = (
    "some validation rules were not checked because the object was invalid; correct the existing errors to complete "
    "validation"
)


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {"split": str.split}
"""Functions of Kubernetes' rules that the library does not have."""


class _Program(Protocol):
    def execute(self, context: Any) -> Any: ...


@cache
def _library() -> Any:
    try:
        import cel
    except ImportError:
        return None
    return cel


@cache
def _compiled(expression: str) -> _Program | None:
    """Return the program of *expression*; ``None`` when the library cannot read it."""
    try:
        program: _Program = _library().compile(expression)
    except (ValueError, RuntimeError):
        return None
    return program


def _context(variables: Body) -> Any:
    context = _library().Context(variables)
    for name, function in FUNCTIONS.items():
        context.add_function(name, function)
    return context


def broken_expression(expression: str) -> str:
    """Return why *expression* cannot be compiled; ``""`` when it can be, or when nobody can tell."""
    if _library() is None:
        return ""
    try:
        _library().compile(expression)
    except (ValueError, RuntimeError) as error:
        return f"compilation failed: {error}"
    return ""


def evaluate(expression: str, variables: Body) -> bool | str | None:
    """Return what *expression* is for *variables*: a truth, the text of an error, or ``None`` without the library."""
    if _library() is None:
        return None
    program = _compiled(expression)
    if program is None:
        return "the library cannot read the expression"
    try:
        found = program.execute(_context(variables))
    except Exception as error:  # noqa: BLE001 - the library raises whatever the expression meets
        return str(error)
    return found if isinstance(found, bool) else f"it is of the type {type(found).__name__}, not bool"


def has_rules(schema: Any) -> bool:
    """Tell whether there is a rule anywhere in *schema*."""
    if isinstance(schema, dict):
        return RULES in schema or any(has_rules(v) for v in schema.values())
    return isinstance(schema, list) and any(has_rules(v) for v in schema)


class Rules:
    """The rules of one version of a kind."""

    def __init__(self, schema: Body) -> None:
        self._schema = schema
        self.present = has_rules(schema)

    def check(self, obj: Body, old: Body | None, broken: list[Cause], warnings: list[str]) -> list[Cause]:
        """Return what breaks the rules; *broken* is what breaks the schema already."""
        if not self.present:
            return []
        if _library() is None:
            warnings.append(SKIPPED)
            return []
        if any(c.reason in BLOCKING for c in broken):
            return [Cause("FieldValueInvalid", f"Invalid value: null: {_UNCHECKED}", "<nil>")]
        return _Walk(warnings).check(obj, old, self._schema, "", known=old is not None)


class _Walk:
    def __init__(self, warnings: list[str]) -> None:
        self._warnings = warnings

    def check(self, value: Any, old: Any, schema: Body, path: str, *, known: bool) -> list[Cause]:
        if value is None:
            return []
        causes = [
            cause
            for rule in schema.get(RULES) or ()
            if (cause := self._apply(rule, value, old, path, known=known)) is not None
        ]
        if isinstance(value, dict):
            before = old if isinstance(old, dict) else {}
            properties, extra = schema.get("properties") or {}, schema.get("additionalProperties")
            for name, inner in value.items():
                below = properties.get(name) or (extra if isinstance(extra, dict) else None)
                if below is not None and (path or name not in ("metadata", "apiVersion", "kind")):
                    here = f"{path}.{name}" if path else name
                    causes += self.check(inner, before.get(name), below, here, known=known and name in before)
        elif isinstance(value, list):
            causes += self._items(value, old, schema, path, known=known)
        return causes

    def _items(self, value: list[Any], old: Any, schema: Body, path: str, *, known: bool) -> list[Cause]:
        keys = schema.get("x-kubernetes-list-map-keys") or ()
        items = schema.get("items") or {}
        causes: list[Cause] = []
        for i, item in enumerate(value):
            same = None
            if known and keys and isinstance(old, list) and isinstance(item, dict):
                same = next((o for o in old if all(o.get(k) == item.get(k) for k in keys)), None)
            causes += self.check(item, same, items, f"{path}[{i}]", known=same is not None)
        return causes

    def _apply(self, rule: Body, value: Any, old: Any, path: str, *, known: bool) -> Cause | None:
        expression = rule["rule"]
        if "oldSelf" in expression and not known:
            return None
        context = _context({"self": value, "oldSelf": old} if known else {"self": value})
        program = _compiled(expression)
        if program is None:
            self._skip(expression)
            return None
        try:
            if program.execute(context) is True:
                return None
        except RuntimeError:
            self._skip(expression)
            return None
        except Exception as error:  # noqa: BLE001 - the library raises whatever the expression meets; it is a broken rule
            return Cause("FieldValueInvalid", f"Invalid value: rule evaluation error: {error}", path)
        return _broken(rule, value, context, path)

    def _skip(self, expression: str) -> None:
        self._warnings.append(f"CEL was not evaluated: the library cannot run the rule: {expression}")


def _broken(rule: Body, value: Any, context: Any, path: str) -> Cause:
    message = rule.get("message") or f"failed rule: {rule['rule']}"
    program = _compiled(rule["messageExpression"]) if rule.get("messageExpression") else None
    if program is not None:
        try:
            message = str(program.execute(context))
        except Exception:  # noqa: BLE001 - a message that cannot be made leaves the fixed one
            message = rule.get("message") or f"failed rule: {rule['rule']}"
    reason = rule.get("reason") or "FieldValueInvalid"
    field = path + rule["fieldPath"] if rule.get("fieldPath") else path
    if not path:
        field = field.removeprefix(".") or "<nil>"
    plain = not rule.get("fieldPath") and isinstance(value, str | int | float | bool)
    given = f"{shown(value)}: " if plain else ""
    heads = {
        "FieldValueInvalid": f"Invalid value: {given}",
        "FieldValueForbidden": "Forbidden: ",
        "FieldValueRequired": "Required value: ",
        "FieldValueDuplicate": f"Duplicate value: {given}",
    }
    return Cause(reason, heads.get(reason, heads["FieldValueInvalid"]) + message, field)
