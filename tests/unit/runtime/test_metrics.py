"""The metric surface against Appendix A, byte for byte."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kruise.runtime.metrics import (
    CONTENT_TYPE,
    EXCEEDED,
    EXPONENTIAL_BUCKETS,
    Described,
    Metrics,
    Sample,
    ScrapeFamily,
    go_float,
    lint,
)

ROOT = Path(__file__).parents[3]

RT = (
    ".005 .01 .025 .05 .1 .15 .2 .25 .3 .35 .4 .45 .5 .6 .7 .8 .9 1 1.25 1.5 1.75 2 2.5 3 3.5 4 4.5 5 6 7 8 9 10 15 "
    "20 25 30 40 50 60"
)
EXP = "1e-08 1e-07 1e-06 9.999999999999999e-06 9.999999999999999e-05 0.001 0.01 0.1 1 10 100 1000"
LAT = ".005 .025 .1 .25 .5 1 2 4 8 15 30 60"
SIZE = "64 256 512 1024 4096 16384 65536 262144 1.048576e+06 4.194304e+06 1.6777216e+07"

# name: (type, labels, bounds as Go prints them)
UPSTREAM: dict[str, tuple[str, str, str]] = {
    "controller_runtime_reconcile_total": ("counter", "controller result", ""),
    "controller_runtime_reconcile_errors_total": ("counter", "controller", ""),
    "controller_runtime_terminal_reconcile_errors_total": ("counter", "controller", ""),
    "controller_runtime_reconcile_panics_total": ("counter", "controller", ""),
    "controller_runtime_reconcile_timeouts_total": ("counter", "controller", ""),
    "controller_runtime_reconcile_time_seconds": ("histogram", "controller", RT),
    "controller_runtime_max_concurrent_reconciles": ("gauge", "controller", ""),
    "controller_runtime_active_workers": ("gauge", "controller", ""),
    "controller_runtime_webhook_latency_seconds": ("histogram", "webhook", EXP),
    "controller_runtime_webhook_requests_total": ("counter", "webhook code", ""),
    "controller_runtime_webhook_requests_in_flight": ("gauge", "webhook", ""),
    "controller_runtime_webhook_panics_total": ("counter", "", ""),
    "controller_runtime_conversion_webhook_panics_total": ("counter", "", ""),
    "workqueue_depth": ("gauge", "name controller priority", ""),
    "workqueue_adds_total": ("counter", "name controller", ""),
    "workqueue_retries_total": ("counter", "name controller", ""),
    "workqueue_queue_duration_seconds": ("histogram", "name controller", EXP),
    "workqueue_work_duration_seconds": ("histogram", "name controller", EXP),
    "workqueue_unfinished_work_seconds": ("gauge", "name controller", ""),
    "workqueue_longest_running_processor_seconds": ("gauge", "name controller", ""),
    "rest_client_requests_total": ("counter", "code method host", ""),
    "rest_client_request_duration_seconds": ("histogram", "verb host", LAT),
    "rest_client_rate_limiter_duration_seconds": ("histogram", "verb host", LAT),
    "rest_client_dns_resolution_duration_seconds": ("histogram", "host", LAT),
    "rest_client_request_size_bytes": ("histogram", "verb host", SIZE),
    "rest_client_response_size_bytes": ("histogram", "verb host", SIZE),
    "rest_client_request_retries_total": ("counter", "code verb host", ""),
    "leader_election_master_status": ("gauge", "name", ""),
    "leader_election_slowpath_total": ("counter", "name", ""),
    "certwatcher_read_certificate_total": ("counter", "", ""),
    "certwatcher_read_certificate_errors_total": ("counter", "", ""),
    "kruise_manager_is_leader": ("gauge", "", ""),
}
OURS: dict[str, tuple[str, str]] = {
    **{
        f"kruise_informer_{name}": ("gauge", "group version resource")
        for name in (
            "objects", "store_bytes", "last_event_age_seconds", "resource_version_lag_seconds", "pending_keys",
        )
    },
    "kruise_informer_relists_total": ("counter", "group version resource reason"),
    "kruise_informer_watchlist_fallback_total": ("counter", "group version resource reason"),
    "kruise_informer_watch_stalls_total": ("counter", "group version resource"),
    "kruise_informer_decode_seconds": ("histogram", "group version resource"),
    "kruise_informer_undecodable_total": ("counter", "group version resource"),
    "kruise_consistency_wait_seconds": ("histogram", "controller"),
    "kruise_consistency_skipped_total": ("counter", "controller"),
    "kruise_consistency_timeouts_total": ("counter", "controller"),
    "kruise_leader_lease_remaining_seconds": ("gauge", "name"),
    "kruise_leader_fenced_writes_total": ("counter", "name"),
    "kruise_leader_takeover_seconds": ("gauge", "name"),
    "kruise_event_loop_lag_seconds": ("gauge", ""),
    "kruise_webhook_certificate_expiry_seconds": ("gauge", ""),
    "kruise_noop_writes_skipped_total": ("counter", "controller"),
    "kruise_events_dropped_total": ("counter", "reason"),
    "kruise_metrics_source_errors_total": ("counter", "metric"),
}  # fmt: skip


def every_family() -> Metrics:
    """Metrics with one sample in each family."""
    m = Metrics(clients=True, process=False)
    for one in m.catalog:
        metric = next(x for x in vars(m).values() if _name_of(x) == one.name)
        if isinstance(metric, ScrapeFamily):
            metric.add(lambda one=one: [Sample(tuple(f"a {label}" for label in one.labels), 1.0)])  # type: ignore[misc]
        elif one.labels:
            child = metric.labels(*[f"a {label}" for label in one.labels])
            child.observe(1) if one.kind == "histogram" else child.inc()
        else:
            metric.inc()
    return m


def _name_of(x: object) -> str:
    if isinstance(x, ScrapeFamily):
        return x.name
    inner = getattr(x, "_metric", x)
    base = str(getattr(inner, "_name", ""))
    return f"{base}_total" if type(inner).__name__ == "Counter" else base


def test_met1_names_types_and_labels_equal_appendix_a() -> None:
    have = {one.name: one for one in Metrics(clients=True, process=False).catalog}
    for name, (kind, labels, _) in UPSTREAM.items():
        assert (have[name].kind, " ".join(have[name].labels)) == (kind, labels), name
    for name, (kind, labels) in OURS.items():
        assert (have[name].kind, " ".join(have[name].labels)) == (kind, labels), name
    more = set(have) - set(UPSTREAM) - set(OURS)
    assert all(name.startswith("kruise_") for name in more), "a foreign name that Appendix A does not know"


def test_met1_a_scrape_spells_every_bound_as_go_does() -> None:
    text = every_family().render().decode()
    for name, (kind, _, bounds) in UPSTREAM.items():
        assert f"\n# TYPE {name} {kind}\n" in "\n" + text
        if kind != "histogram":
            continue
        lines = [line for line in text.splitlines() if line.startswith(f"{name}_bucket{{")]
        have = [line.split('le="')[1].split('"')[0] for line in lines]
        want = [f"0{b}" if b.startswith(".") else b for b in bounds.split()]
        assert have == [*want, "+Inf"], name


def test_met1_the_exponential_bounds_are_the_floats_that_go_multiplies() -> None:
    have, value = [], 10e-9
    for _ in range(12):
        have.append(value)
        value *= 10
    assert list(EXPONENTIAL_BUCKETS) == have


def test_met2_a_scrape_has_no_created_series() -> None:
    assert b"_created" not in every_family().render()
    assert CONTENT_TYPE.startswith("text/plain; version=0.0.4")


def test_met2_two_registries_share_nothing() -> None:
    one, two = Metrics(process=False), Metrics(process=False)
    one.reconcile_total.labels("c", "success").inc()
    assert b'result="success"' in one.render()
    assert b'result="success"' not in two.render()


def test_met2_the_process_python_and_gc_are_there() -> None:
    text = Metrics().render().decode()
    for name in ("process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds", "python_info",
                 "python_gc_collections_total", "python_gc_objects_collected_total"):  # fmt: skip
        assert f"\n{name}" in text, name


def test_met1_the_client_families_are_opt_in_but_for_the_requests() -> None:
    have = {one.name for one in Metrics(process=False).catalog}
    assert "rest_client_requests_total" in have
    assert not {name for name in have if name.startswith("rest_client_")} - {"rest_client_requests_total"}
    opt_in = {one.name for one in Metrics(process=False, clients=True).catalog if one.opt_in}
    assert opt_in == {n for n in UPSTREAM if n.startswith("rest_client_")} - {"rest_client_requests_total"}


def test_met1_the_slow_path_counter_is_registered() -> None:
    m = Metrics(process=False)
    m.leader_slowpath.labels("kruise-manager")
    assert b'leader_election_slowpath_total{name="kruise-manager"} 0.0' in m.render()


def test_met3_labels_beyond_the_limit_are_counted_together() -> None:
    m = Metrics(process=False)
    family = m.reconcile_total
    for n in range(10_000):
        family.labels(f"c{n}", "success").inc()
    text = m.render().decode()
    assert text.count("controller_runtime_reconcile_total{") <= 2001
    assert f'controller="{EXCEEDED}"' in text
    total = sum(
        float(x.rsplit(" ", 1)[1]) for x in text.splitlines() if x.startswith("controller_runtime_reconcile_total{")
    )
    assert total == 10_000


def test_met3_label_sets_are_fixed_at_registration() -> None:
    with pytest.raises(ValueError, match="do not fit"):
        Metrics(process=False).reconcile_total.labels("c")


def test_met3_children_go_with_their_owner() -> None:
    m = Metrics(process=False)
    m.reconcile_total.labels("c", "success").inc()
    m.reconcile_total.remove("c", "success")
    m.reconcile_total.remove("never", "there")
    assert b"controller_runtime_reconcile_total{" not in m.render() and len(m.reconcile_total) == 0


def test_met3_informer_metrics_carry_group_version_resource_only() -> None:
    for one in Metrics(process=False).catalog:
        if one.name.startswith("kruise_informer_"):
            assert set(one.labels) <= {"group", "version", "resource", "reason"}


def test_met2_a_source_that_fails_loses_its_own_samples_only() -> None:
    m = Metrics(process=False)

    def broken() -> list[Sample]:
        raise RuntimeError("no")

    m.queue_depth.add(broken)
    stop = m.queue_depth.add(lambda: [Sample(("q", "c", "0"), 3.0)])
    told: list[tuple[str, str]] = []
    m.on_source_error = lambda name, error: told.append((name, repr(error)))
    for _ in range(3):
        assert b'workqueue_depth{controller="c",name="q",priority="0"} 3.0' in m.render()
    # It is counted at every scrape, so that somebody can look for it, and told of once, because scrapes come often.
    assert m.source_errors.labels("workqueue_depth")._value.get() == 3.0
    assert told == [("workqueue_depth", "RuntimeError('no')")]
    stop()
    assert b"workqueue_depth{" not in m.render()


def test_crt5_the_certificate_that_ends_first_is_the_one_shown() -> None:
    m = Metrics(process=False)
    assert b"\nkruise_webhook_certificate_expiry_seconds " not in m.render()
    for seconds in (500.0, 100.0, 900.0):
        m.certificate_expiry.add(lambda seconds=seconds: [Sample((), seconds)])  # type: ignore[misc]
    assert b"\nkruise_webhook_certificate_expiry_seconds 100.0\n" in m.render()


def test_met4_every_name_passes_the_lint() -> None:
    assert lint(Metrics(clients=True, process=False).catalog) == []


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        (Described("CamelCase", "gauge", (), "T."), "snake case"),
        (Described("writes", "counter", (), "T."), "_total"),
        (Described("depth_total", "gauge", (), "T."), "no counter"),
        (Described("wait_milliseconds", "gauge", (), "T."), "base unit"),
        (Described("wait", "histogram", (), "T."), "unit"),
        (Described("a", "gauge", ("Kind",), "T."), "label"),
        (Described("a", "gauge", ("le",), "T."), "reserved label"),
        (Described("a_count", "gauge", (), "T."), "reserved suffix"),
        (Described("a", "gauge", (), "no full stop"), "full stop"),
        (Described("a_seconds", "histogram", (), "T.", (2.0, 1.0)), "order"),
    ],
)
def test_met4_the_lint_names_what_is_wrong(bad: Described, says: str) -> None:
    assert any(says in line for line in lint([bad])), lint([bad])


def test_met4_the_lint_sees_a_name_that_is_there_twice() -> None:
    one = Described("a", "gauge", (), "T.")
    assert any("twice" in line for line in lint([one, one]))


def test_met4_a_family_of_a_controller_joins_the_catalog_once() -> None:
    m = Metrics(process=False)
    m.add(ScrapeFamily("kruise_broadcastjob_status_active", "Active pods.", ("namespace", "broadcastjob")))
    assert m.catalog[-1].name == "kruise_broadcastjob_status_active"
    with pytest.raises(ValueError, match="kruise_broadcastjob_status_active"):
        m.add(ScrapeFamily("kruise_broadcastjob_status_active", "Active pods.", ()))


def test_met4_the_generated_document_is_up_to_date() -> None:
    run = subprocess.run(
        [sys.executable, str(ROOT / "hack" / "gen_metrics_docs.py"), "--check"],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.0, "1"), (0.25, "0.25"), (1e-08, "1e-08"), (1048576.0, "1.048576e+06"), (262144.0, "262144"), ("+Inf", "+Inf")],
)
def test_met1_numbers_are_spelled_as_go_does(value: float | str, text: str) -> None:
    assert go_float(value) == text
