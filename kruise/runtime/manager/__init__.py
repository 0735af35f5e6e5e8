"""The process around controllers: phases, leadership, events, servers for metrics, probes and debugging.

Read it in this order: ``phases.py`` says what starts and stops when, and why; ``manager.py`` does it, with the values
of ``options.py``. ``lease.py`` is the rule of who leads, ``leader.py`` its shell, ``term.py`` the fence of what leaders
write. ``recorder.py`` reports events. ``http.py`` serves ``health.py``, ``metrics_server.py`` (behind ``authz.py`` and
``certs.py``, when it is secure) and ``debug.py``.

Every part works alone; a manager only joins them.
"""
