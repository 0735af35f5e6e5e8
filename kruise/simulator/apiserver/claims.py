"""The rules of PersistentVolumeClaims: what of a claim may change, and when it may grow.

Purpose: the part of kube-apiserver's claim registry and of its admission of larger claims that a controller can notice.

Guarantees:

* TST1: a claim's spec stays as it was created, but for its node of choice; once bound it may ask for more, where its
  storage class allows that (403 otherwise), and never for less than it has (422).

What this does not do: no volume is made or grown here; the provisioner does that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from kruise.apis.quantity import Quantity, QuantityError
from kruise.simulator.apiserver.failure import Cause, forbidden, forbidden_field

Body = dict[str, Any]

TABLE: Final = "persistentvolumeclaims"
CLASSES: Final = "storageclasses.storage.k8s.io"
_FREE: Final = ("resources", "volumeAttributesClassName")


def update(new: Body, old: Body) -> list[Cause]:
    """Return what an update of a claim may not do."""
    free = _FREE if _bound(old) else ()
    after = {k: v for k, v in (new.get("spec") or {}).items() if k not in free}
    before = {k: v for k, v in (old.get("spec") or {}).items() if k not in free}
    if not before.get("volumeName"):
        after.pop("volumeName", None)
    if after != before:
        text = (
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims"
        )
        return [forbidden_field("spec", text)]
    has = _size((old.get("status") or {}).get("capacity"))
    if _bound(old) and _asked(new) < _asked(old) and _asked(new) < has:
        return [forbidden_field("spec.resources.requests.storage", "field can not be less than status.capacity")]
    return []


def check_growth(new: Body, old: Body, storage_class: Callable[[str], Body | None]) -> None:
    """Refuse a claim that asks for more than its class gives it. Raises Failure 403."""
    if not _bound(old) or _asked(new) <= _asked(old):
        return
    found = storage_class(str((old.get("spec") or {}).get("storageClassName") or ""))
    if found is None or not found.get("allowVolumeExpansion"):
        text = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support "
            "resize"
        )
        raise forbidden(TABLE, "", str(old["metadata"]["name"]), text)


def _bound(claim: Body) -> bool:
    return bool((claim.get("status") or {}).get("phase") == "Bound")


def _asked(claim: Body) -> int:
    return _size(((claim.get("spec") or {}).get("resources") or {}).get("requests"))


def _size(amounts: Body | None) -> int:
    try:
        return Quantity.from_json((amounts or {}).get("storage") or 0).exact_milli()
    except (QuantityError, ValueError, TypeError):
        return 0
