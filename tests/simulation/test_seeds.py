"""The seeds that every change must survive: a fixed list, and every one that ever failed.

``make simulate N=...`` explores more. Two hundred scenarios take about 80 seconds of one core.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from hack.simulate import production, quiet_logs
from kruise.runtime.testing.tape import Tape
from kruise.simulator.faults import OnChunk, OnList, OnOpen, OnPod, OnWrite, Plan, View, draw_plan
from kruise.simulator.history import Artefact
from kruise.simulator.scenario import Result, draw, reference, replay, run_seed
from kruise.simulator.scenario_catalogue import WORKLOADS

PRODUCT = production()
FIRST, COUNT = 0, 200
HERE = Path(__file__).parent
PAST = [
    line.split("#")[0].split()
    for line in (HERE / "past_failures.txt").read_text().splitlines()
    if line.split("#")[0].strip()
]


def check(result: Result) -> None:
    again = f"make simulate SEED={result.seed}"
    assert result.survived, f"{result.workload}, seed {result.seed}\n{result.error}\n  {again}"


@pytest.mark.parametrize("seed", range(FIRST, FIRST + COUNT))
def test_tst5_the_product_survives_the_fixed_seeds(seed: int) -> None:
    quiet_logs()
    check(run_seed(PRODUCT, seed))


@pytest.mark.parametrize("words", PAST, ids="-".join)
def test_tst5_the_product_survives_what_once_failed(words: list[str]) -> None:
    quiet_logs()
    if words[0].endswith(".json"):
        check(replay(PRODUCT, Artefact.read(HERE / words[0]), history=False))
    else:
        workload, seed = words
        check(run_seed(PRODUCT, int(seed), workload="" if workload == "any" else workload))


@pytest.mark.parametrize("seed", [3, 33])
def test_clk4_a_seed_has_one_history(seed: int) -> None:
    quiet_logs()
    first, second = run_seed(PRODUCT, seed), run_seed(PRODUCT, seed)
    assert first.digest == second.digest
    assert first.tape == second.tape
    assert first.digest != run_seed(PRODUCT, seed + 1).digest


def test_clk4_an_artefact_replays_a_run(tmp_path: Path) -> None:
    quiet_logs()
    result = run_seed(PRODUCT, 11)
    result.artefact("abc").write(tmp_path / "run.json")
    again = replay(PRODUCT, Artefact.read(tmp_path / "run.json"))
    assert again.digest == result.digest
    assert "ADDED" in again.history


def test_tst2_a_plan_survives_its_way_through_json_and_all_faults_are_drawn() -> None:
    kinds: set[str] = set()
    for seed in range(400):
        _, plan, _ = draw(seed)
        assert Plan.from_json(plan.to_json()) == plan
        kinds |= {*plan.writes.values(), *plan.chunks.values(), *plan.opens.values(), *plan.lists.values(), *plan.views}
        kinds |= {one.kind for one in plan.pods}
    assert kinds == {*OnWrite, *OnChunk, *OnOpen, *OnList, *OnPod, *View}
    assert draw_plan(Tape(5), writes=9) == draw_plan(Tape(5), writes=9)


@pytest.mark.parametrize("name", WORKLOADS)
def test_a_workload_without_faults_comes_to_its_end(name: str) -> None:
    quiet_logs()
    result = reference(PRODUCT, name)
    assert result.survived, result.error
    assert result.struck == {}
