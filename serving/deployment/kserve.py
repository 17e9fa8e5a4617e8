"""TensorFlow Serving on Kubernetes by KServe, serving.kserve.io/v1beta1 (https://kserve.github.io/website)."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from serving.deployment.tensorflow_serving import RELEASE, saved_models
from serving.errors import DeployError

# A service's name is part of host names: RFC 1035.
NAME = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


def manifest(folders: Sequence[str | Path], storage: str) -> str:
    """An InferenceService for each BASE/NAME folder, whose copy the cluster finds at `storage`/NAME.

    storage: a URI as s3://bucket/models, gs://bucket/models or pvc://claim/models.
    Raises DeployError for a folder that holds no SavedModel, a name that Kubernetes does not allow, a storage
    that is no URI.
    """
    if "://" not in storage:
        raise DeployError(
            f'"{storage}" is no place that a cluster can read: copy the folders to a bucket or a volume, and '
            "give its URI, as s3://bucket/models or pvc://claim/models"
        )
    found = saved_models(folders)
    for name in found:
        if not NAME.fullmatch(name):
            raise DeployError(
                f'"{name}" can be no service on Kubernetes (lower-case letters, digits and dashes, a letter '
                "first, 63 at most): rename the folder"
            )
    return "---\n".join(_service(name, f"{storage.rstrip('/')}/{name}") for name in found)


def _service(name: str, uri: str) -> str:
    return f"""\
# kubectl apply -f FILE
# kubectl get inferenceservice {name}  tells the URL: POST pictures to its /v1/models/{name}:predict
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: {name}
spec:
  predictor:
    model:
      modelFormat:
        name: tensorflow
      # The image's tag: KServe's own is years older than what exports the models.
      runtimeVersion: {RELEASE}
      storageUri: {json.dumps(uri)}
      # gRPC instead of REST:
      # ports: [{{containerPort: 9000, name: h2c, protocol: TCP}}]
"""
