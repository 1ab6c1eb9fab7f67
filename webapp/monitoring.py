"""Liveness, readiness and metrics: ``/healthz``, ``/readyz`` and ``/metrics``."""

import logging
import os
import re
import time
from collections.abc import Iterable
from ipaddress import ip_address
from pathlib import Path
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Blueprint, Flask, Response, current_app, g, request
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
from prometheus_client.registry import Collector
from sqlalchemy.exc import DBAPIError

from webapp.accounts.access import public
from webapp.database import db
from webapp.health import Trouble, findings
from webapp.logs import method_of

_log = logging.getLogger(__name__)

blueprint = Blueprint("monitoring", __name__)

_BY_ADDRESS = frozenset({"/healthz", "/readyz", "/metrics"})
_PORT = re.compile(r"^(\[.*\]|[^:]*):\d+$")
_REQUESTS = Counter("sulcus_http_requests", "Answers", ["endpoint", "method", "status"])
_SECONDS = Histogram("sulcus_http_request_seconds", "Time to answer", ["endpoint"])


def init_app(app: Flask) -> None:
    """Add the endpoints and count every request."""
    if folder := os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        Path(folder).mkdir(parents=True, exist_ok=True)
    app.wsgi_app = _by_address(app.wsgi_app)  # type: ignore[assignment,method-assign]
    app.register_blueprint(blueprint)
    app.before_request(_start)
    app.after_request(_count)


def _by_address(application: WSGIApplication) -> WSGIApplication:
    """Probes and Prometheus call by an IP address, which SULCUS_TRUSTED_HOSTS need not name.

    Other names are refused here, too.
    """

    def answer(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ.get("PATH_INFO") in _BY_ADDRESS and _is_address(environ.get("HTTP_HOST", "")):
            environ["HTTP_HOST"] = "localhost"
        return application(environ, start_response)

    return answer


def _is_address(host: str) -> bool:
    try:
        ip_address(host.rpartition(":")[0].strip("[]") if _PORT.search(host) else host.strip("[]"))
    except ValueError:
        return False
    return True


@blueprint.get("/healthz")
@public
def healthz() -> ResponseReturnValue:
    """Liveness: 200 while the process answers."""
    return {"status": "ok"}


@blueprint.get("/readyz")
@public
def readyz() -> ResponseReturnValue:
    """Readiness: 200, or 503 with the codes of what is not working, and a sentence for each."""
    found = findings()
    reasons = [one.trouble for one in found]
    checks = {"database": Trouble.DATABASE not in reasons, "queue": Trouble.BROKER not in reasons}
    answer = {
        "status": "not ready" if found else "ok",
        **checks,
        "reasons": reasons,
        "messages": [one.sentence for one in found],
    }
    return answer, 503 if found else 200


@blueprint.get("/metrics")
@public
def metrics() -> ResponseReturnValue:
    """Metrics in Prometheus's text format, summed over all web processes."""
    registry = REGISTRY
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
        registry = CollectorRegistry()
        MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry) + _of_features(), content_type=CONTENT_TYPE_LATEST)


def add_collector(app: Flask, collector: Collector) -> None:
    """Let a feature add figures that are read from the database when they are asked for."""
    app.extensions.setdefault("collectors", []).append(collector)


def _of_features() -> bytes:
    return b"".join(
        _figures_of(collector) for collector in current_app.extensions.get("collectors", [])
    )


def _figures_of(collector: Collector) -> bytes:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(collector)
    try:
        return bytes(generate_latest(registry))
    except DBAPIError:
        # The figures of the processes are wanted most while the database is down.
        _log.warning("figures in the database are left out of the metrics")
        db.session.rollback()
        return b""


def _start() -> None:
    g.started = time.perf_counter()


def _count(response: Response) -> Response:
    endpoint = request.endpoint or "none"
    _REQUESTS.labels(endpoint, method_of(request), response.status_code).inc()
    if "started" in g:
        _SECONDS.labels(endpoint).observe(time.perf_counter() - g.started)
    return response
