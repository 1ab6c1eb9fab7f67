"""Celery's entry point of the worker that trains, ``celery -A worker.trainer worker -Q training``.

It loads no model before it has something to do, so that it costs little while it waits.
"""

from worker.app import app

app.conf.include = ["worker.training"]
