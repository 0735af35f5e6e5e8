"""What a person runs: ``kruise status`` and, with the embedded cluster, ``kruise demo``."""
