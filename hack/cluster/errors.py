"""The one error of this package: every failure of the local control plane is told to a person, in one sentence."""

from __future__ import annotations


class ClusterError(Exception):
    """Building, starting or stopping the control plane failed. The text says what, and what to do next."""
