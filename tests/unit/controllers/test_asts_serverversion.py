"""The version of the API server is asked for rarely, and its absence is an error only at first."""

from __future__ import annotations

from typing import Any

import pytest

from kruise.controllers.statefulset.serverversion import GOOD_FOR, ServerVersion
from kruise.runtime.errors import Refused
from kruise.runtime.testing import Script


class Live:
    def __init__(self, *answers: Any) -> None:
        self.answers = Script(*answers)

    async def server_version(self) -> str:
        answer = self.answers.take()
        if isinstance(answer, Exception):
            raise answer
        return str(answer)


class Still:
    at = 0.0

    def monotonic(self) -> float:
        return self.at


async def test_an_answer_is_good_for_minutes_and_an_upgrade_is_noticed() -> None:
    clock: Any = Still()
    version = ServerVersion(Live("v1.31.0", "v1.32.0"), clock)  # type: ignore[arg-type]
    assert [await version.get(), await version.get()] == ["v1.31.0", "v1.31.0"]
    clock.at = GOOD_FOR
    assert await version.get() == "v1.32.0"


async def test_without_any_answer_it_is_an_error_and_later_the_last_one_counts() -> None:
    clock: Any = Still()
    version = ServerVersion(Live(Refused("no"), "v1.32.0", Refused("no")), clock)  # type: ignore[arg-type]
    with pytest.raises(Refused):
        await version.get()
    assert await version.get() == "v1.32.0"
    clock.at = GOOD_FOR
    assert await version.get() == "v1.32.0"
