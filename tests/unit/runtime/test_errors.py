"""errors.py: the tree, the classifier, what an error says."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime import errors as e
from kruise.runtime.errors import (
    Cause,
    Forbidden,
    RuntimeFault,
    Status,
    TerminalError,
    UnknownOutcome,
    Verdict,
    classify,
    error_from_status,
)


def api(code: int, reason: str = "", message: str = "", cause: str = "") -> e.ApiError:
    return error_from_status(Status(code, reason, message, (Cause(cause),) if cause else ()))


CODES = [
    (400, "BadRequest", "", e.BadRequest, Verdict.FATAL),
    (401, "Unauthorized", "", e.Unauthorized, Verdict.FATAL),
    (403, "Forbidden", "", e.Forbidden, Verdict.FATAL),
    (404, "NotFound", "", e.NotFound, Verdict.FATAL),
    (405, "MethodNotAllowed", "", e.MethodNotAllowed, Verdict.FATAL),
    (406, "NotAcceptable", "", e.BadRequest, Verdict.FATAL),
    (409, "AlreadyExists", "", e.AlreadyExists, Verdict.FATAL),
    (409, "Conflict", "", e.Conflict, Verdict.FATAL),
    (409, "", "", e.Conflict, Verdict.FATAL),
    (410, "Expired", "", e.Expired, Verdict.RELIST),
    (410, "Gone", "", e.Expired, Verdict.RELIST),
    (413, "RequestEntityTooLarge", "", e.TooLarge, Verdict.FATAL),
    (415, "UnsupportedMediaType", "", e.Unsupported, Verdict.FATAL),
    (422, "Invalid", "", e.Invalid, Verdict.FATAL),
    (429, "TooManyRequests", "", e.TooManyRequests, Verdict.REWATCH),
    (500, "InternalError", "", e.InternalError, Verdict.REWATCH),
    (502, "", "", e.InternalError, Verdict.REWATCH),
    (503, "ServiceUnavailable", "", e.Unavailable, Verdict.REWATCH),
    (504, "Timeout", "", e.ServerTimeout, Verdict.REWATCH),
    (504, "Timeout", "ResourceVersionTooLarge", e.TooLargeResourceVersion, Verdict.RELIST),
    (302, "", "", e.ApiError, Verdict.FATAL),
]


@pytest.mark.parametrize(("code", "reason", "cause", "kind", "verdict"), CODES)
def test_err1_status_codes_reasons_and_causes_classify(
    code: int, reason: str, cause: str, kind: type[e.ApiError], verdict: Verdict
) -> None:
    error = api(code, reason, cause=cause)
    assert type(error) is kind
    assert classify(error) is verdict


OTHERS: list[tuple[BaseException, Verdict]] = [
    (e.Refused("x"), Verdict.REWATCH),
    (e.Reset("x"), Verdict.REWATCH),
    (e.Timeout("x"), Verdict.REWATCH),
    (e.Truncated("x"), Verdict.REWATCH),
    (e.BadFrame("x"), Verdict.REWATCH),
    (e.DecodeError("x", path="$.spec"), Verdict.RELIST),
    (UnknownOutcome("x", e.Reset("y")), Verdict.FATAL),
    (e.ConfigError("x"), Verdict.FATAL),
    (TerminalError("x"), Verdict.FATAL),
    (ValueError("x"), Verdict.FATAL),
    (OSError("x"), Verdict.FATAL),
    (KeyboardInterrupt(), Verdict.FATAL),
    (SystemExit(1), Verdict.FATAL),
    (ExceptionGroup("x", [ValueError("y")]), Verdict.FATAL),
]


@pytest.mark.parametrize(("error", "verdict"), OTHERS)
def test_err1_every_other_error_classifies(error: BaseException, verdict: Verdict) -> None:
    assert classify(error) is verdict


def test_err1_the_table_names_every_class_of_the_tree() -> None:
    def leaves(kind: type[RuntimeFault]) -> set[type[RuntimeFault]]:
        return {kind} | {x for sub in kind.__subclasses__() for x in leaves(sub)}

    drawn = {kind.__name__ for kind in leaves(RuntimeFault) if kind.__module__ == e.__name__}
    assert drawn <= set(e.__all__)
    assert all(name in (e.__doc__ or "") for name in drawn)


def test_err1_the_text_of_servers_before_1_18_is_a_too_large_version() -> None:
    assert type(api(504, message="Too large resource version: 9, current: 8")) is e.TooLargeResourceVersion
    assert type(api(500, message="Too large resource version: 9")) is e.InternalError


def test_err2_an_api_error_keeps_the_whole_status_and_says_it() -> None:
    status = Status(
        429,
        "TooManyRequests",
        "slow down",
        (Cause("r", "m", "f"),),
        "pods",
        "web-0",
        "apps",
        "uid-1",
        2.5,
        "token",
        "flow-1",
        "level-1",
        "patch",
        "pods/status",
        "default",
    )
    error = error_from_status(status)
    assert error.status is status
    for part in ("patch", "pods/status", "default/web-0", "429", "TooManyRequests", "slow down", "flow-1", "level-1"):
        assert part in str(error)


def test_err2_the_flow_is_said_only_where_it_is_the_reason() -> None:
    status = Status(404, "NotFound", "gone", flow_schema_uid="flow-1", priority_level_uid="level-1")
    assert "flow-1" not in str(error_from_status(status))


def test_err2_both_kinds_of_409_differ_by_reason() -> None:
    assert not isinstance(api(409, "AlreadyExists"), e.Conflict)
    assert not isinstance(api(409, "Conflict"), e.AlreadyExists)


def test_err3_forbidden_prints_the_rule_to_add() -> None:
    status = Status(403, "Forbidden", "no", verb="patch", resource="pods/status", group="", namespace="ns", name="a")
    assert str(Forbidden(status)).endswith(
        'add this rule in namespace ns: {apiGroups: [""], resources: ["pods/status"], verbs: ["patch"]}'
    )
    wide = Status(403, "Forbidden", "no", verb="list", resource="broadcastjobs", group="apps.kruise.io")
    assert 'in a ClusterRole: {apiGroups: ["apps.kruise.io"], resources: ["broadcastjobs"], verbs: ["list"]}' in str(
        Forbidden(wide)
    )


def test_err4_resource_not_cached_keeps_the_line_that_is_missing() -> None:
    assert "cache.watch(PODS, ...)" in str(e.ResourceNotCached("pods are not cached: add cache.watch(PODS, ...)"))


def test_err5_terminal_error_keeps_its_cause() -> None:
    cause = ValueError("spec.parallelism")
    with pytest.raises(TerminalError) as caught:
        raise TerminalError("bad spec") from cause
    assert caught.value.__cause__ is cause
    assert caught.value.reason == "TerminalError"
    subclasses = [kind for kind in TerminalError.__subclasses__() if kind.__module__.startswith("kruise.")]
    assert subclasses == []


def test_err6_a_cancellation_has_no_verdict() -> None:
    cancelled = asyncio.CancelledError()
    with pytest.raises(asyncio.CancelledError) as caught:
        classify(cancelled)
    assert caught.value is cancelled
    assert not isinstance(cancelled, RuntimeFault)


def test_unknown_outcome_says_what_to_do() -> None:
    cause = e.Reset("connection broke")
    error = UnknownOutcome("create pods default/a", cause)
    assert error.cause is cause
    assert "read it live" in str(error)


def test_refused_was_not_sent_and_reset_may_have_been() -> None:
    assert not e.Refused("x").sent
    assert e.Reset("x").sent
