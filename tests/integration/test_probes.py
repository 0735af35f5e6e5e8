"""The probes (TST7): the embedded server must answer as a real one.

Without a real server the embedded one is held to the answers that were recorded from one; with it, both are asked.
"""

from __future__ import annotations

import pytest

from hack.cluster import Cluster
from tests.integration.probes import runner
from tests.integration.probes.comparing import broken, differences, recorded, wanted_of_embedded
from tests.integration.probes.differences import ACCEPTED
from tests.integration.probes.embedded import embedded
from tests.integration.probes.registry import PROBES

_SEEN: dict[str, object] = {}


async def embedded_answers() -> dict[str, object]:
    if not _SEEN:
        async with embedded() as target:
            _SEEN.update(await runner.ask_all(target))
    return _SEEN


def test_tst7_there_are_enough_probes_and_an_answer_to_each() -> None:
    assert len(PROBES) >= 120
    _, answers = recorded()
    assert sorted(answers) == sorted(PROBES)
    assert not [name for name, answer in answers.items() if broken(answer)]
    assert set(ACCEPTED) <= set(PROBES)


@pytest.mark.parametrize("name", PROBES)
async def test_tst7_the_embedded_server_answers_as_recorded(name: str) -> None:
    version, answers = recorded()
    found = (await embedded_answers())[name]
    told = "\n  ".join(differences(wanted_of_embedded(name, answers[name]), found))
    assert not told, f"{name} differs from Kubernetes {version}:\n  {told}"


@pytest.mark.real
async def test_tst7_the_real_server_answers_as_recorded(real_cluster: Cluster) -> None:
    version, answers = recorded()
    target = await runner.of_kubeconfig(str(real_cluster.admin))
    found = await runner.ask_all(target)
    told = [f"{name}{line}" for name in PROBES for line in differences(answers[name], found[name])]
    assert not told, f"Kubernetes {target.name} differs from {version}:\n" + "\n".join(told)
