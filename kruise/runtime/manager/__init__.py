"""The process around controllers: phases, leadership, events, servers for metrics, probes and debugging."""
