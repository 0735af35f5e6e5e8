"""What the tests on a real control plane do where there is none."""

from __future__ import annotations

from typing import Any

import pytest

from hack.cluster import ClusterError, binaries
from tests.integration.real_cluster import need_binaries


def test_tst6_without_binaries_the_reason_to_skip_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def ensure(**_: Any) -> None:
        raise ClusterError("go is missing; install it, or set KUBEBUILDER_ASSETS")

    monkeypatch.setattr(binaries, "find", lambda: None)
    monkeypatch.setattr(binaries, "ensure", ensure)
    assert need_binaries() == "go is missing; install it, or set KUBEBUILDER_ASSETS"
