"""Is it alive, is it ready, what does it count: ``/healthz``, ``/readyz`` and ``/metrics``."""

import os
import time

import redis
from flask import Blueprint, Flask, Response, g, request
from flask.typing import ResponseReturnValue
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Histogram,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from webapp.access import public
from webapp.database import db
from webapp.extensions import current_settings
from webapp.logs import method_of

blueprint = Blueprint("monitoring", __name__)

_REQUESTS = Counter("sulcus_http_requests", "Answers", ["endpoint", "method", "status"])
_SECONDS = Histogram("sulcus_http_request_seconds", "Time to answer", ["endpoint"])


def init_app(app: Flask) -> None:
    """Add the addresses and count every request."""
    app.register_blueprint(blueprint)
    app.before_request(_start)
    app.after_request(_count)


@blueprint.get("/healthz")
@public
def healthz() -> ResponseReturnValue:
    """The process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
def readyz() -> ResponseReturnValue:
    """Database and queue answer; 503 with the name of what does not."""
    checks = {"database": _database_answers(), "queue": _queue_answers()}
    ready = all(checks.values())
    return {"status": "ok" if ready else "not ready", **checks}, 200 if ready else 503


@blueprint.get("/metrics")
@public
def metrics() -> ResponseReturnValue:
    """Counters in Prometheus's text format; of all web processes where there are several."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _database_answers() -> bool:
    try:
        db.session.execute(text("SELECT 1"))
    except SQLAlchemyError:
        return False
    return True


def _queue_answers() -> bool:
    settings = current_settings()
    client = redis.Redis.from_url(settings.redis_url, socket_timeout=2, socket_connect_timeout=2)
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False
    finally:
        client.close()


def _start() -> None:
    g.started = time.perf_counter()


def _count(response: Response) -> Response:
    endpoint = request.endpoint or "none"
    _REQUESTS.labels(endpoint, method_of(request), response.status_code).inc()
    if "started" in g:
        _SECONDS.labels(endpoint).observe(time.perf_counter() - g.started)
    return response
