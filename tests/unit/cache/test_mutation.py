"""mutation.py: a changed cached object is found and named."""

from __future__ import annotations

import asyncio

import msgspec
import pytest

from kruise.runtime.cache.mutation import CacheMutated, MutationDetector
from kruise.runtime.objects import Object, ObjectMeta, PartialObject
from kruise.runtime.testing.loop import VirtualClock, run_virtual


def pod(name: str = "a", **labels: str) -> PartialObject:
    return PartialObject(kind="Pod", metadata=ObjectMeta(namespace="ns", name=name, labels=labels))


def test_obj3_a_change_is_found_within_a_second_and_shown_without_values() -> None:
    async def main() -> None:
        clock = VirtualClock()
        detector = MutationDetector(clock)
        one = pod(app="x", gone="y")
        detector.track(one)
        detector.track(pod("b"))

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
        assert isinstance(error, CacheMutated) and clock.monotonic() == 61
        text = str(error)
        assert "Pod ns/a" in text and "s3cret" not in text
        for part in ("labels.app has another value", "labels.gone removed", "labels.new added"):
            assert part in text

    run_virtual(main())


def test_obj3_objects_are_kept_for_two_minutes_and_checked_a_last_time() -> None:
    async def main() -> None:
        clock = VirtualClock()
        detector = MutationDetector(clock)
        one, two = pod("a"), pod("b", x="y")
        detector.track(one)
        await clock.sleep(100)
        detector.track(two)
        await clock.sleep(30)
        detector.check()
        assert len(detector) == 1
        one.metadata.labels["x"] = "late"  # not watched any more
        detector.check()
        two.metadata.labels["x"] = "z"
        await clock.sleep(600)
        with pytest.raises(CacheMutated, match="ns/b"):
            detector.check()

    run_virtual(main())


def test_obj3_lists_and_many_changes_are_described() -> None:
    class Odd(Object, kw_only=True):
        items: list[dict[str, int]] = msgspec.field(default_factory=list)

    async def main() -> None:
        detector = MutationDetector(VirtualClock())
        odd = Odd(metadata=ObjectMeta(name="a"), items=[{"n": 1}])
        detector.track(odd)
        odd.items[0]["n"] = 2
        with pytest.raises(CacheMutated, match=r"items\[0\]\.n has another value"):
            detector.check()
        odd.items.append({})
        with pytest.raises(CacheMutated, match="items had 1 elements, has 2"):
            detector.check()
        many = pod("b")
        again = MutationDetector(VirtualClock())
        again.track(many)
        many.metadata.labels.update({f"k{i}": "v" for i in range(15)})
        with pytest.raises(CacheMutated, match="and 5 more"):
            again.check()

    run_virtual(main())


def test_obj3_the_variable_of_client_go_switches_it_on() -> None:
    assert MutationDetector.wanted({"KUBE_CACHE_MUTATION_DETECTOR": "true"})
    assert not MutationDetector.wanted({}) and not MutationDetector.wanted({"KUBE_CACHE_MUTATION_DETECTOR": "false"})
