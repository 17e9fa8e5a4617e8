"""Our server on one machine or a cluster by Ray Serve (https://docs.ray.io/en/latest/serve)."""

import json
from collections.abc import Sequence
from pathlib import Path

from serving.folders import by_name


def config(
    folders: Sequence[str | Path],
    host: str = "127.0.0.1",
    grpc_port: int = 8500,
    rest_port: int = 8501,
) -> str:
    """A Serve config file: BASE/NAME folders served under their names by replicas of `ray_replica`.

    Every node needs cnn-zoo[ray,serve] and the folders at these paths. Raises DeployError for a folder
    without versions.
    """
    found = by_name(folders)
    return f"""\
# serve run serve.yaml
# zoo predict 127.0.0.1:{grpc_port} {json.dumps(next(iter(found)))} rose.jpg
proxy_location: EveryNode
http_options:
  host: {json.dumps(host)}
  port: {rest_port}
grpc_options:
  # On all addresses: Ray has no setting for it.
  port: {grpc_port}
  grpc_servicer_functions: [serving.deployment.ray_replica.add_services]
logging_config:
  enable_access_log: false
applications:
  - name: models
    route_prefix: /
    import_path: serving.deployment.ray_replica:application
    args:
      models: {json.dumps([str(path) for path in found.values()])}
      fidelity: exact
    deployments:
      - name: Replica
        num_replicas: 1
        ray_actor_options:
          num_cpus: 1
        # What is beyond both is refused at once.
        max_ongoing_requests: 64
        max_queued_requests: 100
"""
