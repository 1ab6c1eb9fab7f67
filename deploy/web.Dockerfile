# The web image: pages and API, without torch and without the model's weights.
# Build from the repository's root: docker build -f deploy/web.Dockerfile -t sulcus-web .
# Base images are pinned to a patch release; with your own registry, pin the digest
# that you have scanned instead.

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements/web.txt requirements/constraints.txt requirements/
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --requirement requirements/web.txt --constraint requirements/constraints.txt
COPY config.py wsgi.py ./
COPY migrations/ migrations/
COPY webapp/ webapp/
COPY worker/ worker/
COPY ml/ ml/
COPY deploy/gunicorn.conf.py deploy/connections.py deploy/
# The pages need only the model cards; the weights are needed only in the worker.
RUN find ml/weights -type f ! -name '*.json' -delete \
    && python -m compileall -q .

FROM python:3.11.14-slim-bookworm
# A new named volume takes over this folder's owner and mode.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sulcus \
    && install -d -o sulcus -g sulcus -m 0700 /var/lib/sulcus
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    SULCUS_HOME=/var/lib/sulcus \
    SULCUS_BIND=0.0.0.0 \
    SULCUS_WEB_WORKERS=2 \
    PROMETHEUS_MULTIPROC_DIR=/tmp/metrics \
    PORT=8000
USER 10001:10001
EXPOSE 8000
HEALTHCHECK --interval=15s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request; urllib.request.urlopen(f\"http://127.0.0.1:{os.environ['PORT']}/healthz\", timeout=4)"]
CMD ["gunicorn", "--config", "deploy/gunicorn.conf.py", "wsgi:app"]
