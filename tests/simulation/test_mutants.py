"""Proof that the simulation looks: each mutant of the product is killed by the workload that is meant to notice it."""

from __future__ import annotations

import pytest

from hack.simulate import production, quiet_logs
from tests.simulation.mutants import MUTANTS, Mutant, hunt
from tests.simulation.set_mutants import SET_MUTANTS
from tests.simulation.sidecar_mutants import SIDECAR_MUTANTS

PRODUCT = production()


@pytest.mark.parametrize(
    "mutant", [*MUTANTS, *SET_MUTANTS, *SIDECAR_MUTANTS], ids=lambda mutant: mutant.name.replace(" ", "-")
)
def test_a_mutant_is_killed(mutant: Mutant) -> None:
    quiet_logs()
    killed = hunt(PRODUCT, mutant)
    assert killed is not None, f"nothing notices that the product {mutant.name} ({mutant.rule})"
