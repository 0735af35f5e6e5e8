"""The three workload controllers. Each kind has a folder of its own; what they share is in ``common``."""
