"""Pod templates for property tests: any that the table of core fields allows, and other spellings of the same."""

from __future__ import annotations

import copy
from random import Random
from typing import Any, Final

from hypothesis import strategies as st

from kruise.apis.core_fields import fields, known_types
from kruise.apis.go_encoding import POD_TEMPLATE
from kruise.apis.podtemplate.images import default_pull_policy

TEXTS: Final = ["", "a", "nginx", "nginx:1.2", "<&>", "é\u2028", 'x\u0001\t"\\', "🙂", "\x7f", "ClusterFirst"]
QUANTITIES: Final = ["1", "1000m", "0.5", "1.5Gi", "1024Mi", "0", "1e9", "+1", "0.0001", "00012", "1.500", 2, 0.1, None]
NUMBERS: Final = [0, 1, 30, -1, 80, 1 << 31, 9007199254740993, (1 << 63) - 1]
_STRUCTURES: Final = frozenset(known_types())
_BASIC: Final = frozenset({"containers", "resources", "env", "metadata", "spec", "labels", "volumes"})


def build(random: Random, type_name: str = POD_TEMPLATE, depth: int = 0) -> Any:
    """Return any value of a core type, nulls, empty and unknown things included."""
    if depth and random.random() < 0.06:
        return None
    if type_name.startswith("["):
        return [build(random, type_name[1:-1], depth + 1) for _ in range(random.choice((0, 1, 1, 2)))]
    if type_name.startswith("{"):
        keys = random.sample(["a", "b/c", "cpu", "memory", "z"], random.choice((0, 1, 2)))
        return {key: build(random, type_name[1:-1], depth + 1) for key in keys}
    if type_name in _STRUCTURES:
        return _structure(random, type_name, depth)
    match type_name:
        case "string":
            return random.choice(TEXTS)
        case "bool":
            return random.choice((True, False))
        case "int32" | "int64":
            return random.choice(NUMBERS)
        case "quantity":
            return random.choice(QUANTITIES)
        case "intOrString":
            return random.choice((0, 80, "http", None))
        case "time":
            return random.choice(("2026-01-01T02:00:00+02:00", "2026-01-01T00:00:00Z", None))
    return {"f:a": {}}


def _structure(random: Random, type_name: str, depth: int) -> dict[str, Any]:
    known = fields(type_name)
    share = min(0.5, 4 / len(known)) if len(known) > 5 and depth else 0.5
    found = {
        name: build(random, field.type, depth + 1)
        for name, field in known.items()
        if random.random() < (0.85 if name in _BASIC else share)
    }
    if random.random() < 0.05:
        found["fieldOfTomorrow"] = random.choice((1, "x", {"a": [1]}, [], None, False))
    return found


randoms: st.SearchStrategy[Random] = st.integers(0, 1 << 32).map(Random)
"""Seeds instead of choices that can be shrunk one by one: a template takes thousands of them."""
templates: st.SearchStrategy[dict[str, Any]] = randoms.map(build)

json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-3, 1 << 70) | st.sampled_from([*TEXTS, "1Gi"]) | st.floats(-9, 9),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "name"]), inner, max_size=2),
    max_leaves=4,
)


def broken(random: Random, template: Any, value: Any, share: float = 0.1) -> Any:
    """Return *template* with *value* in some wrong places."""
    if random.random() < share:
        return value
    if isinstance(template, dict):
        return {key: broken(random, item, value, share) for key, item in template.items()}
    if isinstance(template, list):
        return [broken(random, item, value, share) for item in template]
    return template


# ---- other spellings -------------------------------------------------------------------------------------------------

_SPELLINGS: Final[dict[Any, Any]] = {
    "1": ["1000m", 1, "1.0"],
    "1000m": ["1"],
    "0.5": ["500m", 0.5],
    "1.5Gi": ["1536Mi"],
    "1024Mi": ["1Gi"],
    "1e9": ["1G", "1000M"],
    "1.500": ["1500m", 1.5],
    "00012": [12, "12"],
    2: ["2", "2000m"],
}
_POD_DEFAULTS: Final = {
    "dnsPolicy": "ClusterFirst",
    "restartPolicy": "Always",
    "schedulerName": "default-scheduler",
    "terminationGracePeriodSeconds": 30,
    "securityContext": {},
}


def respelled(random: Random, template: dict[str, Any]) -> dict[str, Any]:
    """Return *template* as somebody else might have stored it: keys in another order, what says nothing added or left
    out, quantities spelled otherwise, some defaults filled in, and what an undo left behind."""
    found: dict[str, Any] = _respell(random, copy.deepcopy(template), POD_TEMPLATE)
    spec = found.get("spec")
    if isinstance(spec, dict):
        for key, value in _POD_DEFAULTS.items():
            if spec.get(key) in (None, "") and random.random() < 0.5:
                spec[key] = copy.deepcopy(value)
        for container in spec.get("containers") or ():
            if isinstance(container, dict) and not container.get("imagePullPolicy") and random.random() < 0.5:
                container["imagePullPolicy"] = default_pull_policy(container.get("image") or "")
    if random.random() < 0.3:
        found["$patch"] = "replace"
    return found


def _respell(random: Random, value: Any, type_name: str) -> Any:
    if type_name == "quantity" and value in _SPELLINGS:
        return random.choice([value, *_SPELLINGS[value]])
    if isinstance(value, list):
        return [_respell(random, item, type_name.strip("[]")) for item in value]
    if not isinstance(value, dict):
        return value
    if type_name.startswith("{"):
        return _shuffled(random, {key: _respell(random, item, type_name[1:-1]) for key, item in value.items()})
    if type_name not in _STRUCTURES:
        return value
    known = fields(type_name)
    found = {
        key: _respell(random, item, known[key].type) if key in known else item
        for key, item in value.items()
        if item is not None or random.random() < 0.5
    }
    for name, field in known.items():
        # Resources of a whole pod are a pointer in Go: there an empty object is not the same as none.
        resources = name == "resources" and type_name != "core.v1.PodSpec"
        says_nothing = field.is_list or field.is_map or resources or name == "creationTimestamp"
        if says_nothing and not found.get(name) and random.random() < 0.3:
            nothing: Any = [] if field.is_list else {} if field.is_map or resources else None
            found[name] = random.choice((None, nothing))
    return _shuffled(random, found)


def _shuffled(random: Random, value: dict[str, Any]) -> dict[str, Any]:
    items = list(value.items())
    random.shuffle(items)
    return dict(items)
