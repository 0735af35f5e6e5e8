"""What becomes of adoptions and releases that the server refuses, or that somebody else was faster with."""

from __future__ import annotations

import orjson
import pytest

from kruise.apis.core import PODS
from kruise.runtime.controller import After, Done
from kruise.runtime.errors import Fenced, Forbidden
from kruise.simulator.apiserver.call import Answer, Call
from kruise.simulator.apiserver.intercept import Interceptor, Proceed
from tests.unit.controllers.asts_bench import Bench, bench


class Refusing(Interceptor):
    """Answers the patches of pod web-1 with an error."""

    def __init__(self, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason

    async def request(self, call: Call, proceed: Proceed) -> Answer:
        if call.verb != "patch" or call.name != "web-1":
            return await proceed()
        call.document = orjson.loads(call.body or b"null")
        call.code = self.code
        body = {"kind": "Status", "status": "Failure", "code": self.code, "reason": self.reason, "message": "no"}
        return Answer(self.code, orjson.dumps(body))


async def orphaned(b: Bench) -> None:
    b.create()
    await b.begun()
    for number in range(3):
        b.server.patch(PODS, f"web-{number}", {"metadata": {"ownerReferences": None}}, actor="user")


def test_g1_one_pod_whose_adoption_is_refused_does_not_stop_the_others_and_is_tried_again() -> None:
    async def scenario(b: Bench) -> None:
        await orphaned(b)
        b.server.faults = Refusing(403, "Forbidden")
        with pytest.raises(Forbidden):
            await b.once()
        assert [bool(b.pod(n)["metadata"].get("ownerReferences")) for n in range(3)] == [True, False, True]
        b.server.faults = Interceptor()
        mark = b.mark()
        assert await b.once() == Done()
        assert b.counts(mark) == {"patch pods": 1}
        assert b.pod(1)["metadata"]["ownerReferences"]

    bench(scenario)


@pytest.mark.parametrize(("code", "reason"), [(409, "Conflict"), (404, "NotFound")])
def test_g1_a_pod_that_changed_meanwhile_is_looked_at_again_without_an_error(code: int, reason: str) -> None:
    async def scenario(b: Bench) -> None:
        await orphaned(b)
        b.server.faults = Refusing(code, reason)
        assert await b.once() == After(0.0), "with back-off: no event may come"
        b.server.faults = Interceptor()
        mark = b.mark()
        await b.once()
        assert b.counts(mark) == {"patch pods": 1}

    bench(scenario)


def test_ha_a_leader_that_lost_its_lease_adopts_nothing_more(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario(b: Bench) -> None:
        await orphaned(b)

        async def fenced(*_args: object, **_options: object) -> None:
            raise Fenced("not the leader any more")

        monkeypatch.setattr(b.client, "patch", fenced)
        with pytest.raises(ExceptionGroup) as caught:
            await b.once()
        assert caught.value.split(Fenced)[1] is None, "the fence is no error of a pod"

    bench(scenario)
