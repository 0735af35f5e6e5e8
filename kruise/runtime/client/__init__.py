"""The way to the API server: transport, credentials, REST verbs, frames, and the typed client on top.

Read it in this order: ``transport.py`` is the seam; ``http.py`` is its network side, with ``tls.py``, ``proxy.py`` and
the credentials of ``auth.py`` and ``kubeconfig.py``. ``rest.py`` speaks the verbs of the API: it retries what is safe
to retry (``retry.py``), turns answers into errors (``answers.py``), and lets as many writes out at once as the server
bears (``window.py``). ``frames.py`` decodes watches, ``client.py`` is what a controller uses.

Importing ``rest.py`` or ``client.py`` loads no HTTP library: only who makes an ``HttpTransport`` needs one (AUT4).
"""
