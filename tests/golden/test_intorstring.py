"""Int-or-string: every place that reads a count or a percentage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kruise.apis import intorstring
from kruise.apis.intorstring import IntOrString, IntOrStringError, Scaled
from tests.golden.loader import Case, compare_errors, parametrize

USES: dict[str, Callable[[IntOrString | None, int], Scaled | None]] = {
    "broadcastjob.parallelism": intorstring.broadcastjob_parallelism,
    "sidecarset.maxUnavailable": intorstring.sidecarset_max_unavailable,
    "sidecarset.partition": intorstring.sidecarset_partition,
    "statefulset.rollingUpdate.maxUnavailable": intorstring.statefulset_max_unavailable,
    "statefulset.scaleStrategy.maxUnavailable": intorstring.statefulset_scale_max_unavailable,
}


def shown(result: Scaled | None) -> dict[str, Any]:
    if result is None:
        return {"value": None}
    return {"value": result.value, **({"error": result.error} if result.error else {})}


def decoded(value: Any) -> dict[str, Any]:
    if value is None:
        return {"encoded": None}
    try:
        read = intorstring.decode(value)
    except IntOrStringError:
        return {"decodeError": True}
    return {"encoded": read, "intValue": intorstring.int_value(read), "string": str(read)}


@parametrize("intorstring")
def test_intorstring(case: Case) -> None:
    what = dict(case.input)
    use, value, total = what["use"], what.get("value"), what.get("total", 0)
    wanted = dict(case.output)
    if use in USES:
        assert shown(USES[use](value, total)) == wanted
    elif use == "decode":
        assert decoded(value) == wanted
    elif use == "annotation.minUpdatedReadyPods":
        parsed, result = intorstring.min_updated_ready_pods(what["text"], total)
        assert {"parsed": parsed, **shown(result)} == wanted
    elif use == "statefulset.validation.maxUnavailable":
        compare_errors(intorstring.validate_positive_int_or_percent(value, "f"), wanted.pop("errors"))
        try:
            found = {"value": intorstring.lenient(value, total, round_up=True)}
        except IntOrStringError as error:
            found = {"value": 0, "error": str(error)}
        assert found == wanted
    else:
        assert use == "validatePositiveIntOrPercent"
        errors = intorstring.validate_positive_int_or_percent(value, "f")
        compare_errors(errors + intorstring.validate_not_above_100_percent(value, "f"), wanted["errors"])
