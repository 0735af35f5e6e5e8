"""BroadcastJob: one pod to completion on every eligible node.

``eligibility`` answers whether a pod may run on a node, ``pods`` names and builds pods, ``view`` keeps what is observed
of one job, ``plan`` decides, ``status`` words the result, ``reconciler`` does the writing, ``explain`` answers "why".
"""
