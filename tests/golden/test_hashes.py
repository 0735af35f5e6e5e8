"""Hashes: the bytes that names, labels and annotations of existing clusters hold."""

from __future__ import annotations

from typing import Any

from kruise.apis import hashes
from kruise.apis.sidecarset_hash import sidecarset_hashes
from tests.golden.loader import Case, parametrize


def answer(case: Case) -> dict[str, Any]:
    what = case.input
    match what["do"]:
        case "safeEncodeString":
            return {"encoded": hashes.safe_encode(what["text"])}
        case "fnv":
            data = what["text"].encode()
            return {
                "utf8hex": data.hex(),
                "fnv32": hashes.fnv32(data),
                "fnv32a": hashes.fnv32a(data),
                "fnv64": str(hashes.fnv64(data)),
                "fnv64a": str(hashes.fnv64a(data)),
            }
        case "controllerRevision":
            found = hashes.controller_revision_hash(what["text"].encode(), what["collisionCount"])
            return {"hash": found, "name": hashes.controller_revision_name(what["name"], found)}
        case "deepHashBytes":
            data = what["text"].encode()
            return {"dump": hashes.deep_hash_dump(data), "hash": hashes.deep_hash_bytes(data)}
        case "envFromMetadata":
            found_hash = hashes.env_from_metadata_hash(
                what["container"], what.get("labels") or {}, what.get("annotations") or {}
            )
            return {"hash": found_hash}
        case "sidecarSet":
            whole, without_images = sidecarset_hashes(what["sidecarSet"]["spec"])
            return {"hash": whole, "hashWithoutImage": without_images}
    raise AssertionError(f"unknown question {what['do']!r}")


@parametrize("hashes")
def test_hashes(case: Case) -> None:
    assert answer(case) == case.output
