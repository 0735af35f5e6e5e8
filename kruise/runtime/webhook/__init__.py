"""Admission and conversion over HTTPS, for any kind.

Purpose: a pure core that makes bytes of bytes (``admission``, ``handlers``, ``patching``, ``conversion``), and around
it a thin server (``server``) with certificates that renew themselves (``certs``, ``stores``, ``targets``, ``keeper``,
``dial``).

What this does not do: it knows no kind. What to default, to refuse or to convert comes in as functions.
"""
