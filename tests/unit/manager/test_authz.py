"""TokenReview and SubjectAccessReview: what is asked, what is remembered, and that it fails closed."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kruise.runtime.client.rest import Rest
from kruise.runtime.client.transport import ByteStream, Request, Response
from kruise.runtime.clock import Clock, Random
from kruise.runtime.errors import Reset
from kruise.runtime.manager import authz
from kruise.runtime.manager.authz import Authorizer
from kruise.runtime.manager.http import Call, Reply
from kruise.runtime.metrics import Metrics
from kruise.runtime.testing.loop import VirtualClock, run_virtual

TOKEN = "s3cr3t-canary-token-0123456789"


class Reviews:
    """An API server that knows one token and one right; a Transport."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.user: dict[str, Any] = {"username": "system:serviceaccount:monitoring:prometheus", "groups": ["g"]}
        self.allowed = True
        self.fail: list[Exception | int] = []
        self.hang = False
        self.token_error = ""

    async def request(self, request: Request) -> Response:
        body = json.loads(request.body or b"{}")
        self.asked.append((request.resource, body["spec"]))
        assert request.method == "POST" and request.headers["accept"] == "application/json"
        if self.hang:
            await self.clock.sleep(3600)
        if self.fail:
            failure = self.fail.pop(0)
            if isinstance(failure, Exception):
                raise failure
            return Response(failure, {}, json.dumps({"kind": "Status", "code": failure}).encode())
        if request.resource == "tokenreviews":
            assert request.path == "/apis/authentication.k8s.io/v1/tokenreviews"
            good = body["spec"]["token"] == TOKEN
            status: dict[str, Any] = {"authenticated": good, "user": self.user if good else {}}
            if self.token_error:
                status["error"] = self.token_error
        else:
            assert request.path == "/apis/authorization.k8s.io/v1/subjectaccessreviews"
            status = {"allowed": self.allowed}
        return Response(201, {}, json.dumps({**body, "status": status}).encode())

    async def stream(self, request: Request) -> ByteStream:
        raise AssertionError(request)

    async def close(self) -> None: ...

    def count(self, resource: str) -> int:
        return sum(1 for name, _ in self.asked if name == resource)


def make(clock: Clock) -> tuple[Reviews, Authorizer]:
    server = Reviews(clock)
    rest = Rest(server, clock=clock, rng=Random(1), metrics=Metrics(process=False))
    return server, Authorizer(rest, clock=clock, rng=Random(2))


def test_met6_a_reader_with_the_right_is_let_pass() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        server.user |= {"uid": "u", "extra": {"k": ["v"]}}
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).allowed
        assert server.asked == [
            ("tokenreviews", {"token": TOKEN}),
            (
                "subjectaccessreviews",
                {
                    "user": "system:serviceaccount:monitoring:prometheus",
                    "groups": ["g"],
                    "uid": "u",
                    "extra": {"k": ["v"]},
                    "nonResourceAttributes": {"path": "/metrics", "verb": "get"},
                },
            ),
        ]

    run_virtual(main)


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", TOKEN])
def test_met6_without_a_token_nobody_is_asked(header: str) -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        assert (await authorizer.check(header, "/metrics")).status == 401
        assert not server.asked

    run_virtual(main)


def test_met6_a_token_that_is_not_accepted_is_401() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        assert (await authorizer.check("Bearer wrong", "/metrics")).status == 401
        server.token_error = "the token has expired"  # an error beside authenticated=true is no success
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).status == 401
        assert server.count("subjectaccessreviews") == 0

    run_virtual(main)


def test_met6_a_user_without_a_name_is_nobody() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        server.user = {}
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).status == 401

    run_virtual(main)


def test_met6_a_user_without_the_right_is_403() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        server.allowed = False
        decision = await authorizer.check(f"bearer {TOKEN}", "/metrics")
        assert decision.status == 403 and "system:serviceaccount:monitoring:prometheus" in decision.text

    run_virtual(main)


def test_met6_answers_are_kept_for_their_time() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        for _ in range(10):
            await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        assert (server.count("tokenreviews"), server.count("subjectaccessreviews")) == (1, 1)
        await clock.sleep(59)
        await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        assert server.count("tokenreviews") == 1
        await clock.sleep(1.1)
        await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        assert (server.count("tokenreviews"), server.count("subjectaccessreviews")) == (2, 1)
        await clock.sleep(240)
        await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        assert server.count("subjectaccessreviews") == 2, "an allowance holds for five minutes"
        # Another path is another question.
        await authorizer.check(f"Bearer {TOKEN}", "/debug/tasks")
        assert server.count("subjectaccessreviews") == 3

    run_virtual(main)


def test_met6_a_refusal_is_kept_for_half_a_minute() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        server.allowed = False
        for seconds in (0, 29, 2):
            await clock.sleep(seconds)
            assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).status == 403
        assert server.count("subjectaccessreviews") == 2
        server.allowed = True
        await clock.sleep(31)
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).allowed

    run_virtual(main)


@pytest.mark.parametrize("which", ["tokenreviews", "subjectaccessreviews"])
def test_met6_it_fails_closed_when_nobody_can_be_asked(which: str) -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        if which == "subjectaccessreviews":
            await authorizer.check("Bearer x", "/metrics")
            await authorizer.check(f"Bearer {TOKEN}", "/other")
        server.fail = [403] * 10
        decision = await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        assert decision.status == 500
        assert server.asked[-1][0] == which
        # An error is not remembered.
        server.fail = []
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).allowed

    run_virtual(main)


def test_met6_a_review_that_fails_is_tried_again_with_growing_pauses() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        server.fail = [500, Reset("broken"), 500, 500]
        begun = clock.monotonic()
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).allowed
        took = clock.monotonic() - begun
        least = 0.5 + 0.75 + 1.125 + 1.6875
        assert least <= took <= least * 1.2 + 0.01
        assert server.count("tokenreviews") == authz.TRIES == 5
        server.fail = [500] * 20
        await clock.sleep(400)
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).status == 500
        assert server.count("tokenreviews") == 10

    run_virtual(main)


def test_met6_a_review_has_ten_seconds_in_all() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        server.hang = True
        begun = clock.monotonic()
        assert (await authorizer.check(f"Bearer {TOKEN}", "/metrics")).status == 500
        assert clock.monotonic() - begun == pytest.approx(10, abs=0.01)

    run_virtual(main)


def test_met6_g13_the_token_is_neither_kept_nor_logged(capsys: pytest.CaptureFixture[str]) -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        server.fail = [403]
        await clock.sleep(400)
        await authorizer.check(f"Bearer {TOKEN}", "/metrics")
        kept = repr([vars(authorizer), vars(authorizer._users), vars(authorizer._rights)])
        assert TOKEN not in kept

    run_virtual(main)
    out = capsys.readouterr()
    assert TOKEN not in out.out + out.err


def test_met6_the_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(clock: VirtualClock) -> None:
        monkeypatch.setattr(authz, "REMEMBERED", 10)
        _, authorizer = make(clock)
        for n in range(50):
            await authorizer.check(f"Bearer {n}", "/metrics")
        assert len(authorizer._users) == 10

    run_virtual(main)


def test_met6_a_guarded_handler_sees_only_who_may() -> None:
    async def main(clock: VirtualClock) -> None:
        server, authorizer = make(clock)
        calls = 0

        async def handler(_call: Call) -> Reply:
            nonlocal calls
            calls += 1
            return Reply.text("metrics")

        guarded = authorizer.guard(handler)
        reply = await guarded(Call("GET", "/metrics"))
        assert (reply.status, reply.headers["www-authenticate"], calls) == (401, "Bearer", 0)
        server.allowed = False
        header = {"authorization": f"Bearer {TOKEN}"}
        assert (await guarded(Call("GET", "/metrics", headers=header))).status == 403 and calls == 0
        server.allowed = True
        await clock.sleep(31)
        assert (await guarded(Call("GET", "/metrics", headers=header))).status == 200 and calls == 1

    run_virtual(main)
