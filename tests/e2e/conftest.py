"""One real control plane for the session; a manager, an observer and the invariants for each test."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from hack.cluster import AuditLog, Cluster
from tests.e2e.harness import checks
from tests.e2e.harness.definitions import define, post, without_definitions
from tests.e2e.harness.manager import ManagerProcess
from tests.e2e.harness.observer import Observer
from tests.e2e.harness.report import REPORT
from tests.e2e.harness.webhooks import installed
from tests.e2e.harness.world import World
from tests.integration.real_cluster import need_binaries
from tests.unit.hack.definitions import SetDefinition

NODES = 50
LAST = ("test_rbac_used",)
"""Looks back on the whole session."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the modules that look back on the session at its end."""
    items.sort(key=lambda item: item.path.stem in LAST)


def pytest_runtestloop(session: pytest.Session) -> None:
    """Build the control plane before the first test: a build takes longer than a test may."""
    if not session.config.option.collectonly and any(item.get_closest_marker("real") for item in session.items):
        need_binaries()


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print the figures."""
    if lines := REPORT.text():
        terminalreporter.section("figures of the end-to-end tests")
        for line in lines:
            terminalreporter.write_line(line)
    REPORT.write()


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """The control plane, with 50 nodes at first; skips where its binaries cannot be had."""
    if problem := need_binaries():
        pytest.skip(f"no control plane: {problem}")
    started = World(tmp_path_factory.mktemp("e2e"), nodes=NODES).start()
    try:
        yield started
    finally:
        started.stop()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server without any definition of ours, and with nothing that runs pods."""
    with without_definitions(tmp_path_factory.mktemp("bare")) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def server(bare: Cluster, request: pytest.FixtureRequest) -> Cluster:
    """The same with our definitions, all versions served. A module says by which SHORT name it asks for them."""
    return define(bare, request.module.SHORT)


@pytest.fixture
def kept(server: Cluster, kind: SetDefinition) -> Iterator[dict[str, Any]]:
    """A set that is stored there. A module says of which ``kind``."""
    yield post(server, kind, kind.started("kept"), dry=False)
    server.api.call("DELETE", kind.path("kept"))


@dataclass(slots=True)
class Watched:
    """What looks on at one test."""

    observer: Observer
    audit: AuditLog
    mark: int
    slack: float = checks.SLACK
    quiescent: bool = True
    """Whether the end of the test is a state of rest, so that counts must be right."""
    start_ordinal: bool = False
    """Whether the manager has the feature gate StatefulSetStartOrdinal."""


@pytest.fixture
def watched(world: World) -> Iterator[Watched]:
    """The neutral observer; the invariants are checked on what it saw when the test is over."""
    mark = world.cluster.audit.mark()
    observer = Observer(world.cluster).start()
    seen = Watched(observer, world.cluster.audit, mark)
    try:
        yield seen
        observer.stop()
        more = {"quiescent": seen.quiescent, "start_ordinal": seen.start_ordinal}
        checks.finish(observer, seen.audit, mark, slack=seen.slack, **more)
    finally:
        observer.stop()
        world.clean()


@pytest.fixture
def launch(world: World, watched: Watched) -> Iterator[Callable[..., ManagerProcess]]:
    """Start managers that are stopped when the test is over, whatever became of it."""
    started: list[ManagerProcess] = []

    def start(*flags: str, **options: Any) -> ManagerProcess:
        manager = world.manager(*flags, **options)
        started.append(manager)
        return manager.start()

    try:
        yield start
        for manager in started:
            manager.stop()
    finally:
        for manager in started:
            manager.kill()


@pytest.fixture
def component(world: World) -> Iterator[Callable[[str], list[str]]]:
    """Give the rights of a feature gate's component until the test is over; the flags that it sets come back."""
    with contextlib.ExitStack() as given:
        yield lambda name: given.enter_context(world.component(name))


@pytest.fixture
def manager(launch: Callable[..., ManagerProcess]) -> ManagerProcess:
    """A manager that leads."""
    return launch().wait_leading()


@pytest.fixture
def webhooks(world: World, watched: Watched) -> Iterator[None]:
    """The configurations of the webhooks, as they are shipped. They go after the managers, and before the cleaning."""
    with installed(world):
        yield


@pytest.fixture
def hooked(webhooks: None, launch: Callable[..., ManagerProcess]) -> Callable[..., ManagerProcess]:
    """Start managers that serve webhooks; return each when the API server calls it and it is ready."""

    def start(*flags: str, **options: Any) -> ManagerProcess:
        return launch(*flags, webhooks=True, **options).wait_ready()

    return start
