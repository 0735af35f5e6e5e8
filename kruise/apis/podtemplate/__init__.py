"""Pod templates as the core API completes and checks them.

Purpose: the two functions that every workload kind needs for the template it carries, on plain JSON.

Guarantees:

* Defaulting is pure, returns a new object and never removes a field, known or not. It is idempotent.
* Validation is that of the pod template in Kubernetes 1.32 with the lenient options of the Go manager: the same
  errors, in the same order, at the same paths, in the same words.

What this does not do: it asks no API server. Whether a service account, a claim or a class exists is not known here.
"""

from kruise.apis.podtemplate.defaults import default_pod_template
from kruise.apis.podtemplate.validation import validate_pod_template

__all__ = ["default_pod_template", "validate_pod_template"]
