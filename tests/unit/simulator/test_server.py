from __future__ import annotations

import asyncio

import orjson
import pytest

from kruise.runtime.client.transport import Request
from kruise.runtime.clock import Random
from kruise.runtime.errors import Refused, Reset, Timeout, Truncated
from kruise.runtime.objects import PartialObject, Resource
from kruise.runtime.testing import Script, VirtualClock, run_virtual
from kruise.simulator.apiserver import ApiServer, Chunk, Failure, Interceptor, Interceptors

JOBS = Resource("apps.kruise.io", "v1beta1", "BroadcastJob", "broadcastjobs", PartialObject, custom=True)


def pod(name, **meta):
    return {"metadata": {"name": name, **meta}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}


def make(clock=None, **options):
    server = ApiServer(clock or VirtualClock(asyncio.get_running_loop()), Random(1), **options)
    server.registry.add_custom(JOBS)
    return server


class StoppedClock:
    def now(self):
        return 1_767_225_600.0

    def monotonic(self):
        return 0.0

    boottime = monotonic

    async def sleep(self, seconds):
        await asyncio.sleep(seconds)


@pytest.fixture
def server():
    return make(StoppedClock())


def job(name, **spec):
    return {"metadata": {"name": name}, "spec": spec}


def failure(code, reason, action, *args, **kwargs):
    with pytest.raises(Failure) as caught:
        action(*args, **kwargs)
    assert (caught.value.code, caught.value.reason) == (code, reason), caught.value
    return caught.value


def test_tst1_create_fills_in_what_the_server_owns(server):
    created = server.create("pods", pod("a"))
    meta = created["metadata"]
    assert meta["namespace"] == "default"
    assert len(meta["uid"]) == 36
    assert meta["creationTimestamp"] == "2026-01-01T00:00:00Z"
    assert meta["generation"] == 1
    assert created["status"]["phase"] == "Pending"
    assert server.get("pods", "a") == created


def test_tst1_one_version_per_commit_over_all_resources(server):
    before = server.storage.rv
    a = server.create("pods", pod("a"))
    b = server.create("configmaps", {"metadata": {"name": "b"}})
    assert [int(x["metadata"]["resourceVersion"]) for x in (a, b)] == [before + 1, before + 2]


def test_tst1_a_taken_name_is_already_exists_and_not_conflict(server):
    server.create("pods", pod("a"))
    error = failure(409, "AlreadyExists", server.create, "pods", pod("a"))
    assert error.details == {"name": "a", "kind": "pods"}
    assert error.message == 'pods "a" already exists'


def test_tst1_generate_name_uses_the_safe_alphabet(server):
    names = {server.create("pods", pod("", generateName="web-") | {})["metadata"]["name"] for _ in range(20)}
    assert len(names) == 20
    assert all(n.startswith("web-") and set(n[4:]) <= set("bcdfghjklmnpqrstvwxz2456789") and len(n) == 9 for n in names)


def test_tst1_no_object_in_a_namespace_that_is_not_there_or_goes(server):
    failure(404, "NotFound", server.create, "pods", pod("a", namespace="nowhere"))
    server.create("namespaces", {"metadata": {"name": "gone"}})
    server.delete("namespaces", "gone")
    error = failure(403, "Forbidden", server.create, "pods", pod("a", namespace="gone"))
    assert error.details["causes"][0]["reason"] == "NamespaceTerminating"


def test_tst1_an_update_that_changes_nothing_keeps_the_version(server):
    created = server.create(JOBS, job("j", parallelism=1))
    commits = len(server.storage.commits)
    patched = server.patch(
        JOBS, "j", {"spec": {"parallelism": 1}, "metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}}
    )
    assert patched == created
    assert len(server.storage.commits) == commits
    assert server.log.calls[-1].changed is False


def test_tst1_generation_counts_spec_and_not_metadata_or_status(server):
    server.create(JOBS, job("j", parallelism=1))
    assert server.patch(JOBS, "j", {"metadata": {"labels": {"a": "b"}}})["metadata"]["generation"] == 1
    assert server.patch(JOBS, "j", {"status": {"active": 1}}, subresource="status")["metadata"]["generation"] == 1
    assert server.patch(JOBS, "j", {"spec": {"parallelism": 2}})["metadata"]["generation"] == 2


def test_tst1_status_and_main_resource_are_isolated(server):
    created = server.create(JOBS, job("j", parallelism=1) | {"status": {"active": 9}})
    assert "status" not in created
    both = {"spec": {"parallelism": 5}, "status": {"active": 1}, "metadata": {"labels": {"x": "y"}}}
    after = server.patch(JOBS, "j", both, subresource="status")
    assert (after["spec"], after["status"]) == ({"parallelism": 1}, {"active": 1})
    assert "labels" not in after["metadata"]
    after = server.patch(JOBS, "j", both | {"status": {"active": 7}})
    assert (after["spec"], after["status"]) == ({"parallelism": 5}, {"active": 1})


def test_tst1_pod_status_patch_changes_labels_annotations_and_conditions_together(server):
    server.create("pods", pod("a", ownerReferences=[{"apiVersion": "v1", "kind": "X", "name": "x", "uid": "1"}]))
    patch = {
        "metadata": {"labels": {"l": "1"}, "annotations": {"a": "1"}, "ownerReferences": []},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
        "spec": {"nodeName": "n"},
    }
    after = server.patch(
        "pods", "a", patch, subresource="status", content_type="application/strategic-merge-patch+json"
    )
    assert after["metadata"]["labels"] == {"l": "1"}
    assert after["metadata"]["annotations"] == {"a": "1"}
    times = {"lastProbeTime": None, "lastTransitionTime": None}
    assert after["status"]["conditions"] == [{"type": "Ready", "status": "True", **times}]
    assert len(after["metadata"]["ownerReferences"]) == 1
    assert "nodeName" not in after["spec"]


def test_tst1_a_stale_version_is_409_and_a_wrong_uid_422(server):
    created = server.create("pods", pod("a"))
    stale = created["metadata"]["resourceVersion"]
    server.patch("pods", "a", {"metadata": {"labels": {"x": "1"}}})
    failure(409, "Conflict", server.patch, "pods", "a", {"metadata": {"resourceVersion": stale}})
    error = failure(422, "Invalid", server.patch, "pods", "a", {"metadata": {"uid": "wrong"}})
    assert "metadata.uid" in error.message and "field is immutable" in error.message
    failure(422, "Invalid", server.patch, "pods", "a", {"metadata": {"uid": "wrong"}}, subresource="status")
    failure(409, "Conflict", server.patch, "pods", "a", {"metadata": {"uid": "wrong", "resourceVersion": stale}})


def test_tst1_on_the_status_of_a_custom_resource_the_uid_is_no_precondition(server):
    created = server.create(JOBS, job("j"))
    patch = {"metadata": {"uid": "wrong"}, "status": {"active": 1}}
    after = server.patch(JOBS, "j", patch, subresource="status")
    assert after["metadata"]["uid"] == created["metadata"]["uid"]
    assert after["status"] == {"active": 1}
    stale = {"metadata": {"resourceVersion": created["metadata"]["resourceVersion"]}, "status": {"active": 2}}
    failure(409, "Conflict", server.patch, JOBS, "j", stale, subresource="status")
    failure(422, "Invalid", server.patch, JOBS, "j", {"metadata": {"uid": "wrong"}})


def test_tst1_put_with_a_wrong_uid_is_409_and_without_a_version_422_for_custom_kinds(server):
    server.create(JOBS, job("j"))
    failure(409, "Conflict", server.edit, JOBS, "j", lambda o: o["metadata"].update(uid="wrong"))
    failure(422, "Invalid", server.edit, JOBS, "j", lambda o: o["metadata"].pop("resourceVersion"))
    server.create("configmaps", {"metadata": {"name": "c"}})
    server.edit("configmaps", "c", lambda o: (o["metadata"].pop("resourceVersion"), o.update(data={"a": "b"})))
    assert server.get("configmaps", "c")["data"] == {"a": "b"}


def test_tst1_delete_preconditions(server):
    created = server.create(JOBS, job("j"))
    old = created["metadata"]["resourceVersion"]
    server.patch(JOBS, "j", {"spec": {"x": 1}})
    failure(409, "Conflict", server.delete, JOBS, "j", preconditions={"uid": "wrong"})
    failure(
        409,
        "Conflict",
        server.delete,
        JOBS,
        "j",
        preconditions={"uid": created["metadata"]["uid"], "resourceVersion": old},
    )
    answer = server.delete(JOBS, "j", preconditions={"uid": created["metadata"]["uid"]})
    assert (answer["status"], answer["details"]["uid"]) == ("Success", created["metadata"]["uid"])
    failure(404, "NotFound", server.delete, JOBS, "j")


def test_tst1_a_strategic_patch_of_a_custom_resource_is_415(server):
    server.create(JOBS, job("j"))
    failure(
        415, "UnsupportedMediaType", server.patch, JOBS, "j", {}, content_type="application/strategic-merge-patch+json"
    )
    failure(415, "UnsupportedMediaType", server.patch, JOBS, "j", {}, content_type="application/apply-patch+yaml")


def test_tst1_controller_revision_data_never_changes(server):
    server.create("controllerrevisions.apps", {"metadata": {"name": "r"}, "data": {"b": 1, "a": 2}, "revision": 1})
    server.patch("controllerrevisions.apps", "r", {"revision": 2})
    failure(422, "Invalid", server.patch, "controllerrevisions.apps", "r", {"data": {"b": 3}})
    strategic = "application/strategic-merge-patch+json"
    failure(422, "Invalid", server.patch, "controllerrevisions.apps", "r", {"revision": 3}, content_type=strategic)


def test_tst1_a_lease_needs_six_fraction_digits(server):
    spec = {"renewTime": "2026-01-01T00:00:00.000000Z", "holderIdentity": "a", "leaseDurationSeconds": 15}
    server.create("leases.coordination.k8s.io", {"metadata": {"name": "l"}, "spec": spec})
    for stamp in ("2026-01-01T00:00:00Z", "2026-01-01T00:00:00.5Z"):
        failure(422, "Invalid", server.patch, "leases.coordination.k8s.io", "l", {"spec": {"renewTime": stamp}})


def event(**fields):
    base = {
        "metadata": {"name": "e"},
        "eventTime": "2026-01-01T00:00:00.000000Z",
        "action": "Create",
        "reason": "Created",
        "reportingController": "kruise",
        "reportingInstance": "kruise-0",
        "type": "Normal",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "a"},
        "note": "n",
    }
    return base | fields


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"action": ""}, "action"),
        ({"note": "x" * 1025}, "message"),
        ({"series": {"count": 1, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}, "series.count"),
        ({"deprecatedSource": {"component": "x"}}, "source"),
        ({"type": "Odd"}, "type"),
        ({"reportingInstance": ""}, "reportingInstance"),
    ],
)
def test_tst1_the_rules_of_events(server, fields, field):
    error = failure(422, "Invalid", server.create, "events.events.k8s.io", event(**fields))
    assert error.details["causes"][0]["field"] == field


def test_tst1_an_event_is_seen_in_both_groups_and_its_note_is_immutable(server):
    server.create("events.events.k8s.io", event())
    core = server.get("events", "e")
    assert (core["apiVersion"], core["message"], core["involvedObject"]["name"]) == ("v1", "n", "a")
    failure(422, "Invalid", server.patch, "events.events.k8s.io", "e", {"note": "other"})
    series = {"series": {"count": 2, "lastObservedTime": "2026-01-01T00:00:00.000000Z"}}
    assert server.patch("events.events.k8s.io", "e", series)["series"]["count"] == 2
    found = server.do("GET", "/api/v1/namespaces/default/events?fieldSelector=involvedObject.name%3Da,type!%3DWarning")
    assert len(found["items"]) == 1


def test_tst1_a_dry_run_does_everything_but_the_commit(server):
    rv = server.storage.rv
    body = {"apiVersion": "v1", "kind": "Pod", **pod("a")}
    created = server.do("POST", "/api/v1/namespaces/default/pods?dryRun=All", body)
    assert created["metadata"]["uid"]
    assert server.storage.rv == rv and server.get("pods", "a") is None
    assert not server.log.writes()


def test_tst1_wrong_paths_and_verbs(server):
    failure(404, "NotFound", server.do, "GET", "/api/v1/namespaces/default/nothings")
    failure(404, "NotFound", server.do, "GET", "/apis/none.io/v1/things")
    failure(405, "MethodNotAllowed", server.do, "PUT", "/api/v1/namespaces/default/pods", {})
    server.create("pods", pod("a"))
    failure(404, "NotFound", server.do, "GET", "/api/v1/namespaces/default/pods/a/scale")
    for method, sub in (("GET", "log"), ("POST", "exec"), ("GET", "attach"), ("POST", "portforward")):
        refused = failure(400, "BadRequest", server.do, method, f"/api/v1/namespaces/default/pods/a/{sub}")
        assert f"pods/{sub}: a simulated pod runs no process" in str(refused)


def test_tst1_bodies_that_are_no_objects(server):
    path = "/api/v1/namespaces/default/pods"
    failure(400, "BadRequest", server.do, "POST", path, [1])
    failure(422, "Invalid", server.do, "POST", path, {"metadata": {"name": "a"}})  # it is a pod, without containers
    failure(400, "BadRequest", server.do, "POST", path, {"kind": "Node", "apiVersion": "v1", "metadata": {"name": "a"}})
    failure(413, "RequestEntityTooLarge", server.do, "POST", path, {"x": "y" * (3 << 20)})
    failure(422, "Invalid", server.create, "pods", pod("Not_A_Name"))
    failure(
        422,
        "Invalid",
        server.create,
        "configmaps",
        {"metadata": {"name": "c", "annotations": {"a": "x" * (256 << 10)}}},
    )


def test_tst1_partial_metadata_on_reads_and_writes(server):
    accept = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json"
    server.create("pods", pod("a"))
    path = "/api/v1/namespaces/default/pods"
    got = server.do("GET", f"{path}/a", accept=accept)
    assert set(got) == {"kind", "apiVersion", "metadata"} and got["kind"] == "PartialObjectMetadata"
    listed = server.do("GET", path, accept=accept.replace("Metadata;", "MetadataList;"))
    assert listed["kind"] == "PartialObjectMetadataList" and listed["items"][0]["metadata"]["name"] == "a"
    merge = "application/merge-patch+json"
    patched = server.do("PATCH", f"{path}/a", {"metadata": {"labels": {"x": "y"}}}, accept=accept, content_type=merge)
    assert patched["kind"] == "PartialObjectMetadata" and patched["metadata"]["labels"] == {"x": "y"}


def test_tst1_tables(server):
    server.create("pods", pod("a"))
    table = server.do("GET", "/api/v1/namespaces/default/pods", accept="application/json;as=Table;v=v1;g=meta.k8s.io")
    assert table["kind"] == "Table" and table["rows"][0]["cells"][:5] == ["a", "0/1", "Pending", "0", "0s"]
    failure(406, "NotAcceptable", server.do, "GET", "/api/v1/pods", accept="application/yaml")


def test_tst1_items_of_builtin_lists_have_no_kind_and_custom_ones_do(server):
    server.create("pods", pod("a"))
    server.create(JOBS, job("j"))
    assert "kind" not in server.do("GET", "/api/v1/pods")["items"][0]
    assert server.do("GET", "/apis/apps.kruise.io/v1beta1/broadcastjobs")["items"][0]["kind"] == "BroadcastJob"


def test_tst1_discovery(server):
    groups = server.do("GET", "/apis")
    assert {"apps", "apps.kruise.io"} <= {g["name"] for g in groups["groups"]}
    resources = {r["name"]: r for r in server.do("GET", "/apis/apps.kruise.io/v1beta1")["resources"]}
    assert resources["broadcastjobs"]["kind"] == "BroadcastJob" and "broadcastjobs/status" in resources
    assert server.do("GET", "/version")["minor"] == "37"
    accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json"
    assert server.do("GET", "/apis", accept=accept)["kind"] == "APIGroupDiscoveryList"
    failure(404, "NotFound", server.do, "GET", "/apis/none.io/v1")


def test_tst1_scale(server):
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i:1"}]}}
    spec = {"replicas": 3, "selector": {"matchLabels": {"a": "b"}}, "serviceName": "s", "template": template}
    server.create("statefulsets.apps", {"metadata": {"name": "s"}, "spec": spec})
    path = "/apis/apps/v1/namespaces/default/statefulsets/s/scale"
    assert server.do("GET", path)["spec"] == {"replicas": 3}
    merge = "application/merge-patch+json"
    assert server.do("PATCH", path, {"spec": {"replicas": 5}}, content_type=merge)["spec"] == {"replicas": 5}
    after = server.get("statefulsets.apps", "s")
    assert after["spec"]["replicas"] == 5 and after["metadata"]["generation"] == 2
    stale = {"metadata": {"resourceVersion": "1"}, "spec": {"replicas": 6}}
    failure(409, "Conflict", server.do, "PATCH", path, stale, content_type=merge)


def test_tst1_reviews_answer_from_what_the_test_states(server):
    server.reviews.tokens["good"] = {"username": "prometheus"}
    server.reviews.allows = lambda spec: spec.get("user") == "prometheus"
    path = "/apis/authentication.k8s.io/v1/tokenreviews"
    assert server.do("POST", path, {"kind": "TokenReview", "spec": {"token": "good"}})["status"]["authenticated"]
    bad = server.do("POST", path, {"kind": "TokenReview", "spec": {"token": "bad"}})
    assert not bad["status"].get("authenticated")
    path = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
    assert not server.do("POST", path, {"kind": "SubjectAccessReview", "spec": {"user": "x"}})["status"]["allowed"]


def test_tst1_admission_hooks_see_and_change_and_refuse(server):
    seen = []

    def hook(call, operation, obj, old):
        seen.append((operation, call.resource, old is not None))
        if obj["metadata"].get("labels", {}).get("bad"):
            raise Failure(403, "Forbidden", "no")
        obj["metadata"].setdefault("annotations", {})["hook"] = "was here"
        return obj

    server.operations.admission.append(hook)
    created = server.create("configmaps", {"metadata": {"name": "c"}})
    assert created["metadata"]["annotations"] == {"hook": "was here"}
    failure(403, "Forbidden", server.patch, "configmaps", "c", {"metadata": {"labels": {"bad": "yes"}}})
    server.delete("configmaps", "c")
    assert seen == [("CREATE", "configmaps", False), ("UPDATE", "configmaps", True), ("DELETE", "configmaps", True)]


def test_the_log_counts_writes_exactly(server):
    server.create("pods", pod("a"), actor="kruise-manager")
    server.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}}, actor="kruise-manager")
    server.patch("pods", "a", {"metadata": {"labels": {"x": "y"}}}, actor="kruise-manager")
    failure(404, "NotFound", server.delete, "pods", "b", actor="kruise-manager")
    server.create("events.events.k8s.io", event(), actor="kruise-manager")
    calls = server.log.writes(actor="kruise-manager")
    assert [(c.verb, c.code, c.changed) for c in calls] == [
        ("create", 201, True),
        ("patch", 200, True),
        ("patch", 200, False),
        ("delete", 404, None),
    ]
    assert (calls[1].before, calls[1].after) == (calls[0].after, calls[2].before)
    assert server.log.counts(actor="kruise")["patch pods 200"] == 2


def test_uids_and_names_are_the_same_for_the_same_seed():
    def run():
        server = make(StoppedClock())
        return [server.create("pods", pod("", generateName="p-"))["metadata"] for _ in range(3)]

    assert run() == run()


# Through the transport


async def get(transport, path, **kw):
    return await transport.request(Request("GET", path, **kw))


def test_tst2_every_request_passes_the_hook():
    class Hook(Interceptor):
        def __init__(self):
            self.verbs = []

        async def request(self, call, proceed):
            answer = await proceed()
            self.verbs.append((call.verb, call.resource, answer.status))
            return answer

    async def main(clock):
        server = make(clock)
        server.faults = Hook()
        transport = server.transport("m")
        await get(transport, "/api/v1/pods")
        await get(transport, "/api/v1/namespaces/default/pods/none")
        stream = await transport.stream(Request("GET", "/api/v1/pods?watch=1"))
        async with stream:
            pass
        assert server.faults.verbs == [("list", "pods", 200), ("get", "pods", 404), ("watch", "pods", 200)]

    run_virtual(main)


def test_tst2_an_answer_can_be_delayed_replaced_or_lost_after_the_commit():
    class Hook(Interceptor):
        async def request(self, call, proceed):
            if call.name == "slow":
                await asyncio.sleep(60)
            if call.name == "replaced":
                raise_ = Failure(429, "TooManyRequests", "slow down", retry_after=7)
                from kruise.simulator.apiserver import Answer

                return Answer(429, raise_.body(), raise_.headers())
            answer = await proceed()
            if call.method == "POST":
                raise Reset("lost")
            return answer

    async def main(clock):
        server = make(clock)
        server.faults = Hook()
        transport = server.transport("m")
        with pytest.raises(Timeout):
            await get(transport, "/api/v1/nodes/slow", timeout=30)
        assert clock.monotonic() == 30
        answer = await get(transport, "/api/v1/nodes/replaced")
        assert (answer.status, answer.headers["retry-after"]) == (429, "7")
        body = orjson.dumps({"apiVersion": "v1", "kind": "Pod", **pod("a")})
        with pytest.raises(Reset):
            await transport.request(Request("POST", "/api/v1/namespaces/default/pods", body=body))
        assert server.get("pods", "a") is not None

    run_virtual(main)


def test_tst2_interceptors_are_nested_and_each_sees_every_request():
    class Named(Interceptor):
        def __init__(self, name, seen):
            self.name, self.seen = name, seen

        async def request(self, call, proceed):
            self.seen.append(self.name)
            return await proceed()

        def chunk(self, call, line):
            return Chunk((line + self.name.encode(),))

    async def main(clock):
        server, seen = make(clock), []
        server.faults = Interceptors([Named("a", seen), Named("b", seen)])
        transport = server.transport()
        async with await transport.stream(Request("GET", "/api/v1/namespaces?watch=1")) as stream:
            assert seen == ["a", "b"]
            assert (await stream.read_line()).endswith(b"}ba")

    run_virtual(main)


def test_tst5_a_cut_transport_sends_nothing_and_brings_nothing_back():
    async def main(clock):
        server = make(clock)
        transport = server.transport("m", latency=2.0)
        body = orjson.dumps({"apiVersion": "v1", "kind": "Pod", **pod("a")})
        stream = await transport.stream(Request("GET", "/api/v1/pods?watch=1"))

        async def create():
            with pytest.raises(Reset):
                await transport.request(Request("POST", "/api/v1/namespaces/default/pods", body=body))

        async def read():
            with pytest.raises(Reset):
                await stream.read_line()

        async with asyncio.TaskGroup() as group:
            group.create_task(create())
            group.create_task(read())
            await clock.sleep(0.5)
            transport.cut()
        assert server.get("pods", "a") is None
        with pytest.raises(Refused):
            await get(transport, "/api/v1/pods")
        assert server.frontend().watching() == 0

    run_virtual(main)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        (lambda n, line: Chunk((line,)), ["a", "b", "c", "end"]),
        (lambda n, line: Chunk(() if n == 1 else (line,)), ["a", "c", "end"]),
        (lambda n, line: Chunk((line, line)), ["a", "a", "b", "b", "c", "c", "end"]),
        (lambda n, line: Chunk((line,), end=n == 1), ["a", "b", "end"]),
        (lambda n, line: Chunk((), half=line[:5]) if n == 1 else Chunk((line,)), ["a", "Truncated"]),
        (lambda n, line: Chunk((line,), error=Reset("cut") if n == 1 else None), ["a", "b", "Reset"]),
    ],
)
def test_tst2_chunks_can_be_dropped_doubled_and_cut(verdicts, expected):
    class Hook(Interceptor):
        n = -1

        def chunk(self, call, line):
            self.n += 1
            return verdicts(self.n, line)

    async def main(clock):
        server = make(clock)
        server.faults = Hook()
        seen = []
        path = f"/api/v1/pods?watch=1&timeoutSeconds=60&resourceVersion={server.storage.rv}"
        async with await server.transport().stream(Request("GET", path)) as stream:
            for name in "abc":
                server.create("pods", pod(name))
            try:
                while line := await stream.read_line():
                    seen.append(orjson.loads(line)["object"]["metadata"]["name"])
                seen.append("end")
            except (Reset, Truncated) as error:
                seen.append(type(error).__name__)
        assert seen == expected

    run_virtual(main)


def test_tst2_a_delayed_chunk_holds_back_what_follows_and_a_stalled_stream_waits_for_ever():
    class Hook(Interceptor):
        def __init__(self):
            self.delays = Script(0.0, 5.0, 0.0, float("inf"), name="the delays")

        def chunk(self, call, line):
            return Chunk((line,), after=self.delays.take())

    async def main(clock):
        server = make(clock)
        server.faults = Hook()
        path = f"/api/v1/pods?watch=1&resourceVersion={server.storage.rv}"
        async with await server.transport().stream(Request("GET", path)) as stream:
            for name in "abcd":
                server.create("pods", pod(name))
            assert stream.buffered()
            await stream.read_line()
            assert not stream.buffered()
            await stream.read_line()
            assert clock.monotonic() == 5.0
            assert stream.buffered()
            await stream.read_line()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(3600):
                    await stream.read_line()

    run_virtual(main)


def test_a_stream_that_was_refused_has_its_status_as_body():
    async def main(clock):
        server = make(clock)
        async with await server.transport().stream(
            Request("GET", "/api/v1/pods?watch=1&fieldSelector=x%3Dy")
        ) as stream:
            assert stream.status == 400
            assert orjson.loads(await stream.read_all())["reason"] == "BadRequest"

    run_virtual(main)
