"""One of the processes that share a server's ports: `python -m serving.worker NUMBER JOB`, started by
serving.workers.

It tells each step in a line of JSON on its standard output, that its models are loaded, that its ports are
open, or what failed; opens the ports when a line comes in, and ends when its input does.
"""

import json
import os
import sys
import threading
from dataclasses import asdict, replace
from importlib import import_module
from typing import Any

from serving.errors import ZooError
from serving.server import Options, log_to_stderr, run, stop_at_end_of_input
from serving.workers import Job


def main() -> None:
    """Exits 0 once it has drained, 1 when it could not start."""
    number, job = int(sys.argv[1]), Job.from_json(sys.argv[2])
    log_to_stderr(f"worker {number}: ")
    out = os.fdopen(os.dup(1), "w", buffering=1)
    # What libraries print is not for the parent.
    os.dup2(2, 1)

    def tell(said: dict[str, Any]) -> None:
        out.write(json.dumps(said) + "\n")

    admitted, stopping = threading.Event(), threading.Event()
    stop_at_end_of_input(stopping, admitted)

    def wait_for_the_others() -> None:
        tell({})
        admitted.wait()

    try:
        run(_shared(job), lambda ready: tell(asdict(ready)), stopping, wait_for_the_others)
    except (ZooError, OSError) as error:
        tell({"error": str(error)})
        sys.exit(1)


def _shared(job: Job) -> Options:
    """What the job asks for, on the ports that it names."""
    options: Options = import_module(job.module).options(**job.arguments)
    arguments = {**options.grpc.arguments, "grpc.so_reuseport": 1}
    return replace(
        options,
        grpc=replace(options.grpc, port=job.grpc_port, arguments=arguments),
        rest=options.rest and replace(options.rest, port=job.rest_port, shared=True),
    )


if __name__ == "__main__":
    main()
