"""The wired webhooks from bytes to bytes (C8, WEB2): nothing that comes makes them fail, leak, or tell."""

from __future__ import annotations

import gc
import io
import logging
import tracemalloc
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kruise.runtime import log
from kruise.runtime.clock import Random
from tests.property.test_admission_fuzz import mangled, values
from tests.property.webhook_fuzz import CONVERT, SECRET, Fuzzed, beginnings, check, places, spoiled, wired

BEGINNINGS = beginnings()
CORPUS = Path(__file__).with_name("webhook_corpus")
PATHS = sorted(BEGINNINGS)


@pytest.fixture(autouse=True)
def lines() -> Iterator[io.StringIO]:
    """What is logged, at every level."""
    before = structlog.get_config()
    stream = io.StringIO()
    log.configure(form="json", level="debug", stream=stream)
    yield stream
    structlog.configure(**before)


def told(lines: io.StringIO) -> list[dict[str, object]]:
    """Return what was logged, and hold it to the rules: no value of an object, and no error that nobody handled."""
    text = lines.getvalue()
    found = [orjson.loads(line) for line in text.split("\n") if line]
    for one in found:
        # What names a request and its object is told: its id, its operation, kind, namespace and name.
        rest = {k: v for k, v in one.items() if k not in ("requestID", "operation") and not isinstance(v, dict)}
        assert SECRET not in repr(rest)
    assert not [one for one in found if logging.getLevelNamesMapping()[str(one["level"]).upper()] >= logging.ERROR]
    assert "Traceback" not in text
    return found


def test_c8_web2_good_reviews_are_decided(lines: io.StringIO) -> None:
    def use(answer: Fuzzed) -> None:
        for path, reviews in BEGINNINGS.items():
            for review in reviews:
                body = orjson.dumps(review)
                reply = answer(path, body)
                check(path, body, reply)
                assert reply.status == 200, path

    wired(use)
    told(lines)


def test_c8_web2_spoiled_reviews_get_an_answer(lines: io.StringIO) -> None:
    @settings(max_examples=500, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
    @given(st.data())
    def spoil(data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(PATHS))
        review = orjson.loads(orjson.dumps(data.draw(st.sampled_from(BEGINNINGS[path]))))
        for _ in range(data.draw(st.integers(0, 3))):
            place = data.draw(st.sampled_from(list(places(review))))
            holder = review
            for part in place[:-1]:
                holder = holder[part]
            if data.draw(st.booleans()):
                holder[place[-1]] = data.draw(values)
            else:
                del holder[place[-1]]
            if not review:
                break
        try:
            body = data.draw(mangled(orjson.dumps(review)))
        except TypeError:  # an integer that orjson does not write
            return
        check(path, body, answers[0](path, body))

    answers: list[Fuzzed] = []

    def use(answer: Fuzzed) -> None:
        answers.append(answer)
        spoil()

    wired(use)
    told(lines)


@pytest.mark.timeout(300)
def test_c8_ten_thousand_malformed_reviews_of_all_kinds_leave_nothing_behind(lines: io.StringIO) -> None:
    rng = Random(11)
    good = {path: [orjson.dumps(one) for one in reviews] for path, reviews in BEGINNINGS.items()}

    def malformed() -> tuple[str, bytes]:
        """A review that is cut, or has other bytes, or other values."""
        path = PATHS[rng.randrange(len(PATHS))]
        n = rng.randrange(len(good[path]))
        how = rng.randrange(4)
        if how == 0:
            return path, good[path][n][: rng.randrange(len(good[path][n]))]
        if how == 1:
            body = bytearray(good[path][n])
            for _ in range(rng.randrange(1, 4)):
                body[rng.randrange(len(body))] = rng.randrange(256)
            return path, bytes(body)
        try:
            return path, orjson.dumps(spoiled(BEGINNINGS[path][n], rng))
        except TypeError:
            return path, b""

    def batch(answer: Fuzzed, reviews: list[tuple[str, bytes]]) -> Counter[int]:
        found: Counter[int] = Counter()
        for path, body in reviews:
            reply = answer(path, body)
            check(path, body, reply)
            found[reply.status] += 1
        return found

    def use(answer: Fuzzed) -> None:
        batch(answer, [malformed() for _ in range(2_000)])  # what caches keep is there now
        told(lines)
        lines.seek(0)
        lines.truncate()
        reviews = [malformed() for _ in range(10_000)]  # made before, for whatever is made while it is traced is slow
        gc.collect()
        tracemalloc.start()
        try:
            before = tracemalloc.get_traced_memory()[0]
            found = batch(answer, reviews)
            told(lines)
            lines.seek(0)
            lines.truncate()
            gc.collect()
            grown = tracemalloc.get_traced_memory()[0] - before
        finally:
            tracemalloc.stop()
        assert sum(found.values()) == 10_000
        assert found[400] > 3_000
        assert found[200] > 3_000
        assert grown < 2_000_000, f"{grown} bytes"

    wired(use)


def test_c8_the_stored_corpus_is_answered_as_its_names_say_by_the_wired_webhooks(lines: io.StringIO) -> None:
    """``path--status-what``: bodies that a search guided by coverage has found, and those that once were a fault."""

    def use(answer: Fuzzed) -> None:
        for file in sorted(CORPUS.iterdir()):
            path, _, what = file.name.partition("--")
            body = file.read_bytes()
            reply = answer(f"/{path}", body)
            check(f"/{path}", body, reply)
            assert str(reply.status) == what[:3], file.name

    wired(use)
    told(lines)


@pytest.mark.parametrize("operation", ["", "PATCH", "create"])
def test_c8_an_operation_that_nobody_knows_reads_no_object_unchecked(operation: str, lines: io.StringIO) -> None:
    def use(answer: Fuzzed) -> None:
        for path in PATHS:
            if path == CONVERT:
                continue
            review = orjson.loads(orjson.dumps(BEGINNINGS[path][0]))
            review["request"]["operation"] = operation
            review["request"]["object"]["spec"] = SECRET
            body = orjson.dumps(review)
            check(path, body, answer(path, body))

    wired(use)
    told(lines)


@pytest.mark.parametrize("version", ["v0beta1", "", "v1"])
def test_c8_a_version_that_nobody_serves_is_refused(version: str, lines: io.StringIO) -> None:
    def use(answer: Fuzzed) -> None:
        for path in PATHS:
            if "apps-kruise-io" not in path:
                continue
            review = orjson.loads(orjson.dumps(BEGINNINGS[path][0]))
            review["request"]["kind"]["version"] = version
            review["request"]["object"]["apiVersion"] = f"apps.kruise.io/{version}"
            body = orjson.dumps(review)
            reply = answer(path, body)
            check(path, body, reply)
            assert not orjson.loads(reply.body)["response"]["allowed"]

    wired(use)
    told(lines)


@pytest.mark.parametrize("kind", ["requestID", "event", "path", "level", "self", ""])
def test_c8_log4_a_kind_may_be_called_anything(kind: str, lines: io.StringIO) -> None:
    def use(answer: Fuzzed) -> None:
        for path in PATHS:
            review = orjson.loads(orjson.dumps(BEGINNINGS[path][0]))
            if path != CONVERT:
                review["request"]["kind"]["kind"] = kind
                body = orjson.dumps(review)
                check(path, body, answer(path, body))

    wired(use)
    told(lines)


def test_c8_web6_an_object_that_is_no_text_fails_its_conversion_and_is_no_fault_of_ours(lines: io.StringIO) -> None:
    def use(answer: Fuzzed) -> None:
        body = orjson.dumps(BEGINNINGS[CONVERT][0]).replace(SECRET.encode(), b"\x80\xff")
        reply = answer(CONVERT, body)
        assert reply.status == 200
        assert orjson.loads(reply.body)["response"]["result"]["message"] == "object 0: it is no JSON"

    wired(use)
    told(lines)


def test_c8_web6_conversions_of_many_objects_fail_one_by_one(lines: io.StringIO) -> None:
    rng = Random(5)
    objects = [obj for review in BEGINNINGS[CONVERT] for obj in review["request"]["objects"]]

    def use(answer: Fuzzed) -> None:
        for n in range(200):
            some = [objects[rng.randrange(len(objects))] for _ in range(rng.randrange(1, 6))]
            request = {"uid": f"u{n}", "desiredAPIVersion": "apps.kruise.io/v1alpha1", "objects": some}
            body = orjson.dumps(
                {"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": spoiled(request, rng)}
            )
            reply = answer(CONVERT, body)
            if reply.status == 200:
                check(CONVERT, body, reply)

    wired(use)
    told(lines)
