"""The Celery entry point: ``celery -A worker.app worker`` and ``… beat``."""

import logging
import sys

from celery import Celery

from config import InvalidSetting
from webapp import create_app

try:
    flask_app = create_app()
except InvalidSetting as problem:
    sys.exit(f"Sulcus cannot start: {problem}")


# Two lines for each task, the sweeper's every five seconds included, would hide what matters;
# the tasks log themselves what they did.
for noisy in ("celery.app.trace", "celery.beat", "celery.worker.strategy"):
    logging.getLogger(noisy).setLevel(logging.WARNING)

app: Celery = flask_app.extensions["celery"]
