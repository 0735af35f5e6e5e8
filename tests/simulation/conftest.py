"""The runs without faults, with which scenarios are compared, are made once for all processes of a test run."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterator
from pathlib import Path

import pytest

from kruise.simulator import scenario
from kruise.simulator.scenario import References, Result
from kruise.simulator.scenario_world import Product


class Shared(References):
    """Keeps what it makes in a folder. A run has one history in every process (CLK4): who made it matters not."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._folder = folder

    def make(self, product: Product, name: str) -> Result:
        builder = f"{product.build.__module__}.{getattr(product.build, '__qualname__', '<>')}"
        if "<" in builder:  # it has no name by which another process would know it
            return super().make(product, name)
        path = self._folder / f"{builder}.{name}"
        if not path.exists():
            result = super().make(product, name)
            own = path.with_name(f"{path.name}.{os.getpid()}")
            own.write_bytes(pickle.dumps(result))
            own.replace(path)
            return result
        found = pickle.loads(path.read_bytes())
        assert isinstance(found, Result)
        return found


@pytest.fixture(scope="session", autouse=True)
def _shared_references(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    if "PYTEST_XDIST_WORKER" not in os.environ:
        yield
        return
    # What pytest gives to a worker lies in a folder of the run, which is another one each time.
    folder = tmp_path_factory.getbasetemp().parent / "references"
    folder.mkdir(exist_ok=True)
    before, scenario.REFERENCES = scenario.REFERENCES, Shared(folder)
    yield
    scenario.REFERENCES = before
