"""Gunicorn's settings, the same on one machine and in the container.

Threads, because requests wait for the database, and a page that waits for its result
keeps a connection open. Processes, if one interpreter is not enough. No proxy is needed
to protect the threads from slow connections.
"""

import shutil
import sys
from pathlib import Path
from typing import Any

from config import InvalidSetting, WebServerSettings

try:
    _settings = WebServerSettings.from_environment()
except InvalidSetting as _problem:
    sys.exit(f"Sulcus cannot start: {_problem}")

wsgi_app = "wsgi:app"
bind = f"{_settings.bind}:{_settings.port}"

worker_class = "deploy.connections.CollectingWorker"
workers = _settings.web_workers
threads = _settings.web_threads
# Leaves a hundred descriptors free if a process may have 1,024.
worker_connections = 800
# The heartbeat file is in memory: on a slow disk it can stall a healthy worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

# gthread's timeout applies to the worker, not to one request, so a slow upload does
# not trigger it.
timeout = 60
graceful_timeout = _settings.graceful_timeout
keepalive = 5
limit_request_fields = 64

# Proxies whose X-Forwarded-* headers set the URL scheme; a comma-separated list or "*".
forwarded_allow_ips = _settings.forwarded_allow_ips

# SCRIPT_NAME and PATH_INFO come only from the request line, never from headers of that name.
forwarder_headers = ""

# Paths contain invitation tokens and study identifiers, and query strings contain patient codes.
# More people read logs than the database, so only the URL rule is logged.
accesslog = "-"
errorlog = "-"
access_log_format = '%(h)s "%({sulcus.route}e)s %(H)s" %(s)s %(b)s %(M)sms %({sulcus.request}e)s'
logger_class = "webapp.gunicornlogs.DiscreetLogger"
loglevel = _settings.log_level

# Its default path is per user, so two instances would conflict.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Empty the folder of the processes' metrics: old files would be counted again."""
    if _settings.metrics_dir:
        shutil.rmtree(_settings.metrics_dir, ignore_errors=True)
        _settings.metrics_dir.mkdir(parents=True)


def child_exit(server: Any, worker: Any) -> None:
    """Remove a dead worker's gauges from the sum."""
    if _settings.metrics_dir:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """Connect to the broker before the first upload needs it; let requests share the cores."""
    import cv2

    from webapp.queueing import warm_up

    # A picture of a slice is too small to be divided: it takes half as much processor time again.
    cv2.setNumThreads(1)
    warm_up(worker.wsgi)
