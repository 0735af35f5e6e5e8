"""Advanced StatefulSet: pods with an identity, updated in place.

Expected flow of one reconcile: ``reconciler`` gathers what the caches show into a ``view``, ``plan`` decides, ``apply``
writes, ``plan.settle`` says what the status must be. Only ``apply`` and ``reconciler`` touch the network.
"""
