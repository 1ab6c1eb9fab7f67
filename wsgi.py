"""The WSGI entry point: ``gunicorn wsgi:app`` and ``flask --app wsgi …``."""

import sys

from config import InvalidSetting
from webapp import create_app

try:
    app = create_app()
except InvalidSetting as problem:
    sys.exit(f"Sulcus cannot start: {problem}")
