"""The cache: what the API server said, kept in this process and kept true.

One list-and-watch per resource fills one store; see ``reflector.py`` (the rules, without I/O), ``watcher.py`` (the I/O,
without rules), ``store.py``, ``informer.py`` (who is told), ``cache.py`` (the declared set) and ``consistency.py`` (no
plan on a cache older than one's own writes).
"""
