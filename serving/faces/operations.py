"""What operators ask over REST: is the server alive and ready, which models are there, how is it doing."""

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

from starlette.responses import PlainTextResponse, Response

from serving.errors import Code
from serving.models.choosing import choice_of
from serving.models.lifecycle import Models
from serving.models.versions import ServedModel
from serving.runtimes import Runtime
from serving.watching import metrics

METRICS_PATH = "/monitoring/prometheus/metrics"
LIVE, READY, MODELS = "/v1/health/live", "/v1/health/ready", "/v1/models"


def page(models: Models, method: str, path: str, query: str, metrics_path: str | None) -> Response | None:
    """The reply to an operator's question; None for every other path. `metrics_path` None answers none."""
    if metrics_path is not None and path == metrics_path and method == "GET":
        if query:
            return PlainTextResponse(f"Unexpected path: {path}?{query}", 400)
        return Response(metrics.page(_loaded(models)), media_type=metrics.CONTENT_TYPE)
    if method != "GET":
        return None
    if path == LIVE:
        return _json({"status": "live"})
    if path == READY:
        return _readiness(models)
    if path == MODELS:
        return _json({"models": [_described(model) for model in models.all().values()]})
    return None


def _readiness(models: Models) -> Response:
    """Ready means that every model answers; 503 names those that do not."""
    waiting = [name for name, model in models.all().items() if not model.ready()]
    if waiting:
        return _json({"status": "not ready", "models": waiting}, 503)
    return _json({"status": "ready"})


def _described(model: ServedModel) -> dict[str, Any]:
    versions = [
        {"version": str(status.version), "state": status.state.name}
        | ({"error": status.message} if status.code != Code.OK else {})
        | (_engine(held.runtime) if (held := model.loaded.get(status.version)) else {})
        for status in model.history()
    ]
    return {"name": model.name, "ready": model.ready(), "versions": versions}


def _engine(runtime: Runtime) -> dict[str, Any]:
    """The engine, and how it was chosen: each candidate's milliseconds for a picture and what it is off the
    reference.
    """
    choice = choice_of(runtime)
    return {"runtime": runtime.name} | ({"choice": asdict(choice)} if choice else {})


def _loaded(models: Models) -> Iterable[metrics.Served]:
    return [
        metrics.Served(name, version, held.runtime.name, _seconds(held.runtime))
        for name, model in models.all().items()
        for version, held in list(model.loaded.items())
    ]


def _seconds(runtime: Runtime) -> dict[str, float]:
    choice = choice_of(runtime)
    measured = choice.measured if choice else ()
    return {str(m.candidate): m.milliseconds / 1000 for m in measured if m.milliseconds is not None}


def _json(reply: Any, status: int = 200) -> Response:
    return Response(json.dumps(reply, indent=1).encode(), status, media_type="application/json")
