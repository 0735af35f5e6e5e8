"""From a change to a reconcile: predicates, handlers, sources, the work queue, the worker loop, the builder."""
