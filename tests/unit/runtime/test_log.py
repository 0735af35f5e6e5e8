"""log.py: the form of a line, context, and what is never printed."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import Iterator
from typing import Any

import pytest
import structlog

from kruise.main import main
from kruise.runtime.clock import Random, new_uuid
from kruise.runtime.errors import ConfigError
from kruise.runtime.log import SLOW, SlowThresholds, bound, configure, get_logger, slow


class Stopped:
    def now(self) -> float:
        return 1772704800.25

    monotonic = boottime = now

    async def sleep(self, seconds: float) -> None: ...


@pytest.fixture(autouse=True)
def _restore() -> Iterator[None]:
    before = structlog.get_config()
    yield
    structlog.configure(**before)


def output(form: str = "json", level: str = "debug") -> io.StringIO:
    out = io.StringIO()
    configure(form=form, level=level, stream=out, clock=Stopped())
    return out


def lines(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


RECONCILE = {
    "controller": "broadcastjob-controller",
    "controllerGroup": "apps.kruise.io",
    "controllerKind": "BroadcastJob",
    "BroadcastJob": {"name": "a", "namespace": "default"},
    "namespace": "default",
    "name": "a",
    "reconcileID": "0f1e",
}


def test_log1_golden_json_line_has_the_keys_of_controller_runtime() -> None:
    out = output()
    with bound(**RECONCILE):
        get_logger("controller").info("reconcile done", result="success")
    (line,) = lines(out)
    assert line == {
        "ts": "2026-03-05T10:00:00.250000Z",
        "level": "info",
        "logger": "controller",
        "event": "reconcile done",
        "result": "success",
        **RECONCILE,
    }
    assert [key for key in line if key in RECONCILE] == list(RECONCILE)


def test_log1_golden_text_line() -> None:
    out = output("text")
    with bound(controller="c", name="a"):
        get_logger("queue").warning("key held back", after=1.5)
    assert out.getvalue() == (
        "2026-03-05T10:00:00.250000Z [warning  ] key held back [queue] after=1.5 controller=c name=a\n"
    )


@pytest.mark.parametrize(("form", "level"), [("xml", "info"), ("json", "loud")])
def test_log1_a_bad_form_or_level_names_the_flag(form: str, level: str) -> None:
    with pytest.raises(ConfigError, match="--log"):
        configure(form=form, level=level)


def test_log1_lines_below_the_level_are_dropped() -> None:
    out = output(level="warning")
    get_logger("x").info("quiet")
    get_logger("x").error("loud")
    assert [line["event"] for line in lines(out)] == ["loud"]


async def test_log2_context_reaches_child_tasks_and_does_not_leak_between_reconciles() -> None:
    out = output()
    rng = Random(1)
    log = get_logger("worker")

    async def step(name: str) -> None:
        await asyncio.sleep(0)
        log.info("wrote", step=name)

    async def reconcile(name: str) -> None:
        with bound(name=name, reconcileID=new_uuid(rng)):
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(step("one"))
                await asyncio.sleep(0)
                tasks.create_task(step("two"))
        log.info("after")

    async with asyncio.TaskGroup() as tasks:
        for name in ("a", "b", "c"):
            tasks.create_task(reconcile(name))
    log.info("outside")
    found = lines(out)
    ids: dict[str, set[str]] = {}
    for line in found:
        if line["event"] == "wrote":
            ids.setdefault(line["name"], set()).add(line["reconcileID"])
        else:
            assert "name" not in line and "reconcileID" not in line
    assert sorted(ids) == ["a", "b", "c"]
    assert all(len(one) == 1 for one in ids.values())
    assert len(set.union(*ids.values())) == 3


def test_log3_each_threshold_has_its_default_and_its_flag(capsys: pytest.CaptureFixture[str]) -> None:
    assert slow() == SLOW == SlowThresholds(handler=0.05, decode=0.05, loop_lag=0.1, reconcile=10.0)
    flags = {"handler": "20ms", "decode": "30ms", "loop": "200ms", "reconcile": "1m"}
    # No such kubeconfig: the process ends after it has set up its log.
    assert main([*(f"--slow-{name}-threshold={value}" for name, value in flags.items()), "--kubeconfig=/-/"], {}) == 2
    assert slow() == SlowThresholds(handler=0.02, decode=0.03, loop_lag=0.2, reconcile=60.0)
    assert main(["--slow-loop-threshold=0s"], {}) == 2
    assert "--slow-loop-threshold=0s: want at least" in capsys.readouterr().err


SECRET = "s3cr3t-value-nobody-may-see"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"


@pytest.mark.parametrize("level", ["debug", "info", "warning", "error", "critical", "exception"])
@pytest.mark.parametrize("form", ["json", "text"])
def test_log4_nothing_secret_is_printed_at_any_level(level: str, form: str) -> None:
    out = output(form)
    say = getattr(get_logger("x"), level)
    try:
        raise ValueError(f"got authorization: Bearer {SECRET} and {JWT}")
    except ValueError:
        say(
            "request failed",
            token=SECRET,
            Authorization=f"Bearer {SECRET}",
            tls_private_key=SECRET,
            body=b'{"data": {"password": "%s"}}' % SECRET.encode(),
            raw=SECRET.encode(),
            object={"metadata": {"name": "a"}, "spec": SECRET},
            nested={"deep": [{"password": SECRET}, {"stringData": {"k": SECRET}}]},
            text=f"header Bearer {SECRET} was refused, basic {SECRET} too, {JWT}",
            pem=f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}\n-----END RSA PRIVATE KEY-----",
            exc_info=True,
        )
    assert SECRET not in out.getvalue()
    assert JWT not in out.getvalue()
    assert "REDACTED" in out.getvalue()


def test_log4_a_secret_message_is_cleaned_too() -> None:
    out = output()
    get_logger("x").info(f"sent Bearer {SECRET}")
    assert SECRET not in out.getvalue()


def test_log4_the_name_of_a_secret_is_no_secret() -> None:
    out = output()
    get_logger("x").info("reconcile", Secret={"name": "certs", "namespace": "ns"}, secretName="certs", tokens=None)
    (line,) = lines(out)
    assert line["Secret"] == {"name": "certs", "namespace": "ns"}
    assert line["secretName"] == "certs"
