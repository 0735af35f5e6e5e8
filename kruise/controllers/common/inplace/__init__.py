"""Update of a pod where it stands: what changes, in which batches, and when it is complete."""
