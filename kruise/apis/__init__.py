"""The API types of the three kinds, and what is known about the core types they carry: pure, no I/O.

Purpose: defaulting, validation, conversion and the small value types (quantities, int-or-percent, selectors, hashes)
that admission, planners and the embedded API server share.

Guarantees: everything here is a function of its arguments; nothing reads a clock, a file outside the package, or the
network. Functions that work on plain JSON never remove a field they do not know.

What this does not do: it never talks to an API server; the runtime does.
"""
