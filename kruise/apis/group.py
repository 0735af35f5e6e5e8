"""The API group of every kind of this project, which is OpenKruise's: their objects are ours without a change."""

from __future__ import annotations

from typing import Final

GROUP: Final = "apps.kruise.io"
