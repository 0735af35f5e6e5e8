"""Admission: what happens to objects on their way into the cluster."""
