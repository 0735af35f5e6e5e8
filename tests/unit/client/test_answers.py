"""answers.py, retry.py, notices.py: what an answer means."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from kruise.runtime import errors as e
from kruise.runtime.client.answers import check_json, error_of, read_page, retry_after, status_of
from kruise.runtime.client.notices import MOST, Notices, parse_warnings
from kruise.runtime.client.retry import MAX_TRIES, MAX_WAITING, outcome_unknown, retry_delay
from kruise.runtime.client.transport import Request, Response
from kruise.runtime.clock import Random
from kruise.runtime.metrics import Metrics

PATCH = Request(
    "PATCH", "/api/v1/namespaces/ns/pods/a/status", verb="patch", resource="pods", subresource="status",
    namespace="ns", name="a",
)  # fmt: skip
LIST = Request("GET", "/api/v1/pods?limit=500", verb="list", resource="pods")


def status(code: int, reason: str = "", message: str = "", **details: Any) -> bytes:
    body = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "code": code}
    return json.dumps({**body, "reason": reason, "message": message, "details": details}).encode()


def test_err2_the_whole_status_is_carried() -> None:
    body = json.dumps(
        {
            "kind": "Status",
            "metadata": {"continue": "tok"},
            "code": 410,
            "reason": "Expired",
            "message": "too old",
            "details": {
                "name": "other",
                "group": "g",
                "kind": "pods",
                "uid": "u",
                "retryAfterSeconds": 3,
                "causes": [{"reason": "FieldValueInvalid", "message": "m", "field": "spec.x"}],
            },
        }
    ).encode()
    headers = {"x-kubernetes-pf-flowschema-uid": "fs", "x-kubernetes-pf-prioritylevel-uid": "pl"}
    error = error_of(Response(410, headers, body), PATCH)
    assert isinstance(error, e.Expired)
    s = error.status
    assert (s.code, s.reason, s.message, s.continue_token, s.retry_after) == (410, "Expired", "too old", "tok", 3.0)
    assert (s.kind, s.name, s.group, s.uid) == ("pods", "a", "g", "u")
    assert s.causes == (e.Cause("FieldValueInvalid", "m", "spec.x"),)
    assert (s.flow_schema_uid, s.priority_level_uid) == ("fs", "pl")
    assert (s.verb, s.resource, s.namespace) == ("patch", "pods/status", "ns")


def test_err3_a_refused_request_names_its_rule() -> None:
    error = error_of(Response(403, {}, status(403, "Forbidden", "no")), PATCH)
    assert 'resources: ["pods/status"], verbs: ["patch"]' in str(error)


@pytest.mark.parametrize(
    ("code", "body", "kind", "shown"),
    [
        (502, b"<html>\n<body>Bad   Gateway</body></html>", e.InternalError, "<html> <body>Bad Gateway"),
        (404, b"404 page not found\n", e.NotFound, "404 page not found"),
        (503, b"", e.Unavailable, "no body"),
        (500, b"null", e.InternalError, "null"),
        (500, b"[1, 2]", e.InternalError, "[1, 2]"),
        (500, b'"text"', e.InternalError, "text"),
        (429, b'{"kind": "Status", "message": null, "details": null, "reason": 3, "code": "x"}', e.TooManyRequests, ""),
        (409, b'{"kind":"Status","reason":"AlreadyExists","details":{"causes":[null,3,{"reason":null}]}}',
         e.AlreadyExists, ""),
        (422, b'{"kind":"Status","details":{"causes":null},"metadata":null}', e.Invalid, ""),
        (500, b'{"kind":"Status', e.InternalError, "no API object"),
        (500, b"\xff\xfe\x00", e.InternalError, "no API object"),
    ],
)  # fmt: skip
def test_res9_every_body_becomes_a_typed_error(code: int, body: bytes, kind: type[e.ApiError], shown: str) -> None:
    error = error_of(Response(code, {"content-type": "text/html; charset=utf-8"}, body), LIST)
    assert type(error) is kind
    assert error.status.code == code
    assert shown in str(error)
    assert len(str(error)) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["details", "causes", "metadata", "continue", "reason", "code"]), inner)
    ),
    max_leaves=10,
)


@given(json_values, st.integers(min_value=400, max_value=599))
def test_res9_no_shape_of_a_status_crashes(value: Any, code: int) -> None:
    body = json.dumps({"kind": "Status", "details": value, "metadata": value, "code": value}).encode()
    assert isinstance(error_of(Response(code, {}, body), LIST), e.ApiError)


def test_res9_the_object_of_an_error_event_is_a_status_too() -> None:
    got = status_of(json.loads(status(410, "Expired", "too old resource version")), LIST)
    assert (got.code, got.reason) == (410, "Expired")
    assert status_of({}, LIST).code == 500


@pytest.mark.parametrize("body", [b"", b"<html>log in</html>", b"[]", b"null", b'"x"'])
def test_res9_a_success_that_is_no_object_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(e.BadFrame, match="GET /api/v1/pods: 200"):
        check_json(Response(200, {}, body), LIST)


def test_res9_what_passes_as_an_object() -> None:
    check_json(Response(200, {}, b'{"kind":"Pod"}'), LIST)
    check_json(Response(200, {}, b'\n  {"kind":"Pod"}'), LIST)
    check_json(Response(204, {}, b""), PATCH)


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"metadata":{}}', b'{"metadata":{"resourceVersion":7}}',
                                  b'{"metadata":{"resourceVersion":"7"},"items":3}', b"\xff"])  # fmt: skip
def test_res9_an_answer_that_is_no_list_is_a_bad_frame(body: bytes) -> None:
    with pytest.raises(e.BadFrame, match="no list"):
        read_page(Response(200, {}, body), LIST)


def test_res9_null_items_are_an_empty_page() -> None:
    page = read_page(Response(200, {}, b'{"metadata":{"resourceVersion":"7","continue":null},"items":null}'), LIST)
    assert (page.resource_version, page.continue_token, page.items, page.remaining) == ("7", "", (), 0)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0 "}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-1"}, None),
        ({"retry-after": "1e9"}, None),
        ({"retry-after": "Thu, 05 Mar 2026 10:00:30 GMT"}, 30.0),
        ({"retry-after": "Thu, 05 Mar 2026 09:00:00 GMT"}, 0.0),
        ({"retry-after": "Thu, 05 Mar 2026 10:00:30 GMT", "date": "Thu, 05 Mar 2026 10:00:10 GMT"}, 20.0),
        ({"retry-after": "Thu, 99 Mar 2026 10:00:30 GMT"}, None),
    ],
)
def test_res2_retry_after_in_seconds_and_as_a_date(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, now=1772704800.0) == seconds


def test_res2_the_header_wins_over_the_body() -> None:
    body = status(429, "TooManyRequests", retryAfterSeconds=9)
    assert error_of(Response(429, {"retry-after": "2"}, body), LIST).status.retry_after == 2.0
    assert error_of(Response(429, {}, body), LIST).status.retry_after == 9.0


def api(code: int, reason: str = "", message: str = "", *, cause: str = "", after: float | None = None) -> e.ApiError:
    causes = (e.Cause(cause),) if cause else ()
    return e.error_from_status(e.Status(code, reason, message, causes, retry_after=after))


@pytest.mark.parametrize(
    ("error", "read", "write"),
    [
        (api(429), True, True),
        (api(503), True, False),
        (api(504), True, False),
        (api(504, cause="ResourceVersionTooLarge"), False, False),
        (api(504, message="Too large resource version: 5"), False, False),
        (api(429, cause="DisruptionBudget"), False, False),
        (api(500), False, False),
        (api(502), False, False),
        (api(409), False, False),
        (api(410), False, False),
    ],
)
def test_res2_which_answers_are_tried_again(error: e.ApiError, read: bool, write: bool) -> None:
    for mutating, again in ((False, read), (True, write)):
        delay = retry_delay(error, mutating=mutating, tries=1, waited=0.0, rng=Random(1))
        assert (delay is not None) is again


def test_res2_ten_tries_and_a_minute_of_waiting_at_most() -> None:
    rng = Random(1)
    for _ in range(50):
        waited, tries = 0.0, 1
        while (delay := retry_delay(api(429), mutating=True, tries=tries, waited=waited, rng=rng)) is not None:
            waited, tries = waited + delay, tries + 1
        assert tries == MAX_TRIES or waited > MAX_WAITING - 15
        assert waited <= MAX_WAITING
    assert retry_delay(api(429, after=61), mutating=True, tries=1, waited=0, rng=rng) is None
    assert retry_delay(api(429, after=30), mutating=True, tries=2, waited=31, rng=rng) is None


def test_res2_retry_after_is_the_least_and_jitter_comes_on_top() -> None:
    rng = Random(1)
    delays = {retry_delay(api(429, after=4), mutating=True, tries=1, waited=0, rng=rng) for _ in range(100)}
    assert len(delays) > 50
    assert all(d is not None and 4 <= d <= 6 for d in delays)
    soon = retry_delay(api(429, after=0), mutating=True, tries=1, waited=0, rng=rng)
    assert soon is not None and 0 <= soon <= 0.1


@pytest.mark.parametrize(
    ("error", "unknown"),
    [
        (api(503), True),
        (api(504), True),
        (api(502), True),
        (api(500), True),
        (api(500, "ServerTimeout"), True),
        (api(500, "InternalError", "etcdserver: request timed out"), True),
        (api(500, "InternalError", "failed calling webhook"), False),
        (api(429), False),
        (api(409), False),
        (api(422), False),
    ],
)
def test_res3_after_which_answers_a_write_may_have_happened(error: e.ApiError, unknown: bool) -> None:
    assert outcome_unknown(error) is unknown


def test_res5_warnings_are_logged_once_and_counted_each_time() -> None:
    metrics = Metrics(process=False)
    notices = Notices(metrics)
    header = '299 - "v1alpha1 is deprecated", 299 - "say \\"x\\"", 199 - "not ours"'
    with capture_logs() as lines:
        notices.take(header, LIST)
        notices.take(header, PATCH)
    assert [line["text"] for line in lines] == ["v1alpha1 is deprecated", 'say "x"']
    assert metrics.registry.get_sample_value("kruise_rest_warnings_total") == 4
    assert parse_warnings("no warning at all") == []


def test_res5_the_memory_of_warnings_is_bounded() -> None:
    notices = Notices(Metrics(process=False))
    with capture_logs() as lines:
        for i in range(MOST + 10):
            notices.take(f'299 - "w{i}"', LIST)
        notices.take(f'299 - "w{MOST}"', LIST)
        notices.take('299 - "w0"', LIST)
    assert len(lines) == MOST + 11
    assert lines[-1]["text"] == "w0"
