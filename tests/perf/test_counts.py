"""What costs can be said exactly: counts and sizes, never times. Times are for ``python -m tests.perf``."""

from __future__ import annotations

import gc
import subprocess
import sys
from types import FrameType

import msgspec
import pytest

from kruise.apis.broadcastjob import BROADCASTJOBS
from kruise.apis.core import NODES, PODS
from kruise.runtime.cache.store import Store
from kruise.runtime.client.frames import Codec
from kruise.runtime.clock import SystemClock
from tests.perf import samples
from tests.perf.bench_memory import allocated, per_object
from tests.perf.harness import Bench, Report, failures
from tests.perf.samples import as_bytes
from tests.unit.controllers.asts_bench import Bench as SetBench
from tests.unit.controllers.asts_bench import bench as on_a_bench


def test_sto8_a_cached_pod_and_node_take_a_fifth_of_their_dicts_at_most() -> None:
    for resource, bodies in (
        (PODS, [as_bytes(samples.pod(n)) for n in range(300)]),
        (NODES, [as_bytes(samples.node(n)) for n in range(300)]),
    ):
        mine, dicts = per_object(resource, bodies)
        assert mine <= dicts / 5, f"{resource}: {mine:.0f} of {dicts:.0f} bytes"


def test_obj1_the_collector_tracks_few_objects_of_a_cached_pod() -> None:
    bodies = [as_bytes(samples.pod(n)) for n in range(200)]
    codec, store = Codec(PODS), Store(PODS, clock=SystemClock())
    for body in bodies[:100]:
        store.put(codec.decode(body))
    gc.collect()
    before = len(gc.get_objects())
    for body in bodies[100:]:
        store.put(codec.decode(body))
    gc.collect()
    # Per pod: its key, and the entry of the index by node. As plain dicts it would be sixty.
    assert (len(gc.get_objects()) - before) / 100 < 2.5


def test_fra3_what_repeats_is_stored_once() -> None:
    codec = Codec(PODS)
    one, two = (codec.decode(as_bytes(samples.pod(n))) for n in (1, 5001))
    assert one.metadata.namespace is two.metadata.namespace
    assert one.metadata.owner_references is two.metadata.owner_references
    assert one.spec.node_name is two.spec.node_name
    assert one.spec.tolerations is two.spec.tolerations
    assert one.spec.containers[0].image is two.spec.containers[0].image
    assert next(iter(one.metadata.labels)) is next(iter(two.metadata.labels))
    assert one.metadata.name is not two.metadata.name


def test_fra9_a_stored_template_does_not_keep_its_page_alive() -> None:
    jobs = [samples.broadcastjob(f"job-{n}", number=n + 1) for n in range(200)]
    size = len(as_bytes(jobs[0]))

    def one_of_a_page() -> object:
        page = msgspec.json.decode(as_bytes({"items": jobs}), type=dict[str, list[msgspec.Raw]])
        return Codec(BROADCASTJOBS).decode(page["items"][100])

    one_of_a_page()
    assert allocated(one_of_a_page) < 10 * size, "a page is 200 times as large"


def test_the_manager_starts_without_client_libraries_and_other_heavy_packages() -> None:
    heavy = ("kubernetes_asyncio", "kubernetes", "cryptography", "hypothesis", "jsonschema")
    code = f"import sys, kruise.main; print([m for m in {heavy!r} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def calls_of_a_pass(replicas: int, event: str) -> int:
    """Return how many calls of functions the pass after one pod event makes in a set of so many pods."""
    counted = 0

    def count(_frame: FrameType, what: str, _arg: object) -> None:
        nonlocal counted
        counted += what == "call"

    async def scenario(b: SetBench) -> None:
        b.create(replicas=replicas)
        await b.begun()
        before = len(b.server.log)
        if event == "annotated":
            b.server.patch(PODS, "web-7", {"metadata": {"annotations": {"seen": "yes"}}}, actor="user")
        else:
            b.run_pods(7, ready=False)
        b.sync()
        sys.setprofile(count)
        try:
            await b.once(sync=False)
        finally:
            sys.setprofile(None)
        assert len(b.server.log) == before + 1, "nothing is read and nothing written"

    on_a_bench(scenario)
    return counted


@pytest.mark.parametrize("event", ["annotated", "unready"])
def test_perf44_a_pod_event_costs_a_set_of_a_thousand_pods_what_it_costs_one_of_ten(event: str) -> None:
    small, large = calls_of_a_pass(10, event), calls_of_a_pass(1000, event)
    assert 50 < small < 2000
    assert large <= small + 40, "only the depth of sorted tables may differ"


def test_tst8_a_run_is_compared_by_units_and_relations() -> None:
    report = Report()
    report.add("fast", 10.0, "us", 1.0)
    report.add("slow", 10.0, "us", 6.0)
    report.add("new", 10.0, "us", 1.0)
    report.gate("fine", 1.0, 2.0, "it is")
    report.gate("broken", 3.0, 2.0, "it must not be")
    found = failures(report, {"fast": 1.0, "slow": 2.0})
    assert [text.partition(":")[0] for text in found] == ["slow", "new", "broken"]


def test_a_bench_counts_per_operation_and_runs_what_prepares_it() -> None:
    bench, prepared = Bench(repeats=1), []
    bench.time("nothing", lambda: None, per=1000, prepare=lambda: prepared.append(1))
    assert bench.report.results["nothing"].units < 1
    assert len(prepared) == 2, "one round warms up"
