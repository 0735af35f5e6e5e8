from __future__ import annotations

import urllib.parse

import pytest

from kruise.runtime.clock import Random
from kruise.simulator.apiserver import ApiServer, Failure
from tests.unit.simulator.stopped_clock import StoppedClock


@pytest.fixture
def server():
    server = ApiServer(StoppedClock(), Random(1))
    for i in range(10):
        server.create("configmaps", {"metadata": {"name": f"c{i}", "labels": {"odd": str(i % 2)}}})
    return server


def listed(server, **query):
    return server.do("GET", "/api/v1/namespaces/default/configmaps?" + urllib.parse.urlencode(query))


def names(body):
    return [i["metadata"]["name"] for i in body["items"]]


def refused(code, server, **query):
    with pytest.raises(Failure) as caught:
        listed(server, **query)
    assert caught.value.code == code, caught.value
    return caught.value


def test_tst1_all_pages_show_one_snapshot(server):
    page = listed(server, limit=4)
    rv = page["metadata"]["resourceVersion"]
    assert page["metadata"]["remainingItemCount"] == 6
    found = names(page)
    while token := page["metadata"].get("continue"):
        server.create("configmaps", {"metadata": {"name": f"d{len(found)}"}})
        if server.get("configmaps", "c9"):
            server.delete("configmaps", "c9")
        page = listed(server, **{"limit": 4, "continue": token})
        assert page["metadata"]["resourceVersion"] == rv
        found += names(page)
    assert found == [f"c{i}" for i in range(10)]


def test_tst1_an_expired_page_is_410_with_a_token_that_goes_on(server):
    token = listed(server, limit=4)["metadata"]["continue"]
    server.create("configmaps", {"metadata": {"name": "c35"}})
    server.delete("configmaps", "c8")
    server.storage.compact(server.storage.rv)
    error = refused(410, server, **{"limit": 4, "continue": token})
    assert error.reason == "Expired" and error.continue_token
    page = listed(server, **{"limit": 9, "continue": error.continue_token})
    assert names(page) == ["c35", "c4", "c5", "c6", "c7", "c9"]
    assert int(page["metadata"]["resourceVersion"]) == server.storage.rv


def test_tst1_with_a_selector_pages_are_full_and_nothing_is_said_of_the_rest(server):
    page = listed(server, limit=3, labelSelector="odd=1")
    assert names(page) == ["c1", "c3", "c5"] and "remainingItemCount" not in page["metadata"]
    page = listed(server, **{"limit": 3, "labelSelector": "odd=1", "continue": page["metadata"]["continue"]})
    assert names(page) == ["c7", "c9"] and "continue" not in page["metadata"]


def test_tst1_a_list_at_an_exact_version_shows_the_past(server):
    then = server.storage.rv
    server.delete("configmaps", "c0")
    assert len(names(listed(server, resourceVersion=then, resourceVersionMatch="Exact"))) == 10
    assert len(names(listed(server, resourceVersion=then, limit=100))) == 10
    assert len(names(listed(server, resourceVersion=then, resourceVersionMatch="NotOlderThan"))) == 9
    assert len(names(listed(server, resourceVersion=then))) == 9
    server.storage.compact(server.storage.rv)
    refused(410, server, resourceVersion=then, resourceVersionMatch="Exact")
    refused(504, server, resourceVersion=server.storage.rv + 5, resourceVersionMatch="Exact")


def test_tst1_options_that_make_no_sense(server):
    refused(422, server, resourceVersionMatch="Exact")
    refused(422, server, resourceVersion="0", resourceVersionMatch="Exact")
    refused(422, server, resourceVersion="1", resourceVersionMatch="Odd")
    refused(422, server, sendInitialEvents="true")
    refused(400, server, resourceVersion="abc")
    refused(400, server, **{"continue": "!!!"})
    refused(400, server, limit="x")
    token = listed(server, limit=4)["metadata"]["continue"]
    refused(400, server, **{"continue": token, "resourceVersion": 5})


def test_tst1_lists_are_in_the_order_of_keys(server):
    server.create("configmaps", {"metadata": {"name": "a", "namespace": "kube-system"}})
    server.create("configmaps", {"metadata": {"name": "z", "namespace": "default"}})
    body = server.do("GET", "/api/v1/configmaps")
    keys = [(i["metadata"]["namespace"], i["metadata"]["name"]) for i in body["items"]]
    assert keys == sorted(keys)
