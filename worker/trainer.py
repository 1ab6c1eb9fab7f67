"""Celery's entry point of the worker that trains, ``celery -A worker.trainer worker -Q training``.

It loads no model before it has something to do, so that it costs little while it waits.
"""

import faulthandler
import sys

from celery.signals import worker_process_init

from worker.app import app

app.conf.include = ["worker.training", "worker.metrics", "worker.presence"]


@worker_process_init.connect
def tell_where_it_crashes(**_signal: object) -> None:
    """Write the stack of all threads to the log where a library crashes the process."""
    if sys.__stderr__ is not None:  # Celery's own is no file
        faulthandler.enable(file=sys.__stderr__)
