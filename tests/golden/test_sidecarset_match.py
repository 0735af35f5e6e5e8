"""Which pods a set selects, in which namespaces it is found, and what marks a canary."""

from __future__ import annotations

from kruise.apis.selectors import SelectorError
from kruise.controllers.sidecarset.match import Matcher, canary_base, index_keys, is_active, selected_namespaces
from tests.golden.loader import Case, parametrize


@parametrize("sidecarset-match")
def test_match(case: Case) -> None:
    pod, item = case.input["pod"], case.input["set"]
    namespaces = {n["metadata"]["name"]: n["metadata"].get("labels") or {} for n in case.input["namespaces"]}
    annotations = item["metadata"].get("annotations")
    base = (annotations or {}).get("apps.kruise.io/sidecarset-base", "")
    status, metadata = pod.get("status") or {}, pod["metadata"]
    found: dict[str, object] = {
        "active": is_active(status.get("phase") or "", metadata.get("deletionTimestamp")),
        "canary": bool(canary_base(annotations)),
        "base": canary_base(annotations) or base,
    }
    chosen = item["spec"].get("namespaceSelector")
    if chosen is not None:
        try:
            found["namespaces"] = list(selected_namespaces(chosen, namespaces))
        except SelectorError as error:
            found["namespacesError"] = str(error)
    try:
        matcher = Matcher.of(item["spec"])
        found["matched"] = matcher.matches(metadata.get("labels"), namespaces.get(metadata.get("namespace") or ""))
    except SelectorError as error:
        found["matched"] = False
        if "namespacesError" not in found:
            found["error"] = str(error)
    assert found == case.output


@parametrize("sidecarset-namespace-index")
def test_namespace_index(case: Case) -> None:
    assert list(index_keys(case.input["set"]["spec"].get("namespaceSelector"))) == case.output["keys"]
