"""Gunicorn's settings, the same on one machine and in the container.

Threads, because a request waits for the database and a page that waits for its
result keeps a connection open; processes, where one interpreter is not enough.
No proxy is needed to keep slow connections away from the threads.
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
# With a hundred descriptors to spare where a process may have 1,024.
worker_connections = 800
# The heartbeat file in memory: on a slow disk it can stall a healthy worker.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108

# gthread's timeout is about the worker, not about one request, so a slow upload
# does not trip it.
timeout = 60
graceful_timeout = _settings.graceful_timeout
keepalive = 5
limit_request_fields = 64

# Whose X-Forwarded-* headers count for the URL scheme; a comma-separated list or "*".
forwarded_allow_ips = _settings.forwarded_allow_ips

# SCRIPT_NAME and PATH_INFO come from the request line alone, whoever sends headers of that name.
forwarder_headers = ""

# Paths hold invitations' tokens and studies' identifiers, query strings a search for a patient's
# code, and logs travel further than the database does: what is logged is the address's rule.
accesslog = "-"
errorlog = "-"
access_log_format = '%(h)s "%({sulcus.route}e)s %(H)s" %(s)s %(b)s %(M)sms'
logger_class = "webapp.gunicornlogs.DiscreetLogger"
loglevel = _settings.log_level

# Its default path is one per user, so two instances would fight over it.
control_socket_disable = True


def on_starting(server: Any) -> None:
    """Give the processes' metrics an empty folder: old files would count twice."""
    if _settings.metrics_dir:
        shutil.rmtree(_settings.metrics_dir, ignore_errors=True)
        _settings.metrics_dir.mkdir(parents=True)


def child_exit(server: Any, worker: Any) -> None:
    """Take a dead worker's gauges out of the sum."""
    if _settings.metrics_dir:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]


def post_worker_init(worker: Any) -> None:
    """Reach the broker before the first upload needs it."""
    from webapp.queueing import warm_up

    warm_up(worker.wsgi)
