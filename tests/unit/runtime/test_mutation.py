"""mutation.py: a changed cached object is found and named."""

from __future__ import annotations

import asyncio

import pytest

from kruise.runtime.mutation import MutationDetector, ObjectMutated, enabled
from kruise.runtime.objects import ObjectMeta, PartialObject
from kruise.runtime.testing.loop import VirtualClock, run_virtual


def pod(name: str = "a", **labels: str) -> PartialObject:
    return PartialObject(kind="Pod", metadata=ObjectMeta(namespace="ns", name=name, labels=labels))


def test_obj3_a_change_is_found_within_a_second_and_shown_without_values() -> None:
    async def main() -> None:
        clock = VirtualClock()
        detector = MutationDetector(clock, active=True)
        one = pod(app="x", gone="y")
        detector.add(one)
        detector.add(pod("b"))

        async def spoil() -> None:
            await clock.sleep(60.5)
            one.metadata.labels["app"] = "s3cret"
            one.metadata.labels["new"] = "s3cret"
            del one.metadata.labels["gone"]

        async def both() -> None:
            async with asyncio.TaskGroup() as group:
                group.create_task(detector.run())
                group.create_task(spoil())

        with pytest.raises(ExceptionGroup) as caught:
            await both()
        (error,) = caught.value.exceptions
        assert isinstance(error, ObjectMutated) and clock.monotonic() == 61
        text = str(error)
        assert "Pod ns/a" in text and "s3cret" not in text
        for part in ("labels.app has another value", "labels.gone removed", "labels.new added"):
            assert part in text

    run_virtual(main())


def test_obj3_objects_are_kept_for_two_minutes_and_checked_a_last_time() -> None:
    async def main() -> None:
        clock = VirtualClock()
        detector = MutationDetector(clock, active=True)
        one, two = pod("a"), pod("b", x="y")
        detector.add(one)
        await clock.sleep(100)
        detector.add(two)
        await clock.sleep(30)
        detector.check()
        assert len(detector) == 1
        one.metadata.labels["x"] = "late"  # not watched any more
        detector.check()
        two.metadata.labels["x"] = "z"
        await clock.sleep(600)
        with pytest.raises(ObjectMutated, match="ns/b"):
            detector.check()

    run_virtual(main())


def test_obj3_nothing_is_remembered_when_it_is_off() -> None:
    async def main() -> None:
        detector = MutationDetector(VirtualClock(), active=False)
        detector.add(pod())
        assert len(detector) == 0
        await detector.run()  # returns

    run_virtual(main())


def test_obj3_the_variable_of_client_go_switches_it_on() -> None:
    assert enabled({"KUBE_CACHE_MUTATION_DETECTOR": "true"})
    assert not enabled({}) and not enabled({"KUBE_CACHE_MUTATION_DETECTOR": "false"})
