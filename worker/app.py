"""The Celery entry point: ``celery -A worker.app worker`` and ``… beat``."""

import sys

from celery import Celery

from config import InvalidSetting
from webapp import create_app

try:
    flask_app = create_app()
except InvalidSetting as problem:
    sys.exit(f"Sulcus cannot start: {problem}")


app: Celery = flask_app.extensions["celery"]
