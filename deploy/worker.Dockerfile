# The worker image: torch, the model's weights, and everything that the queue runs.
# Build from the repository's root: docker build -f deploy/worker.Dockerfile -t sulcus-worker .
#
# One image for CPU and GPU: the torch that pip takes by default on x86-64 Linux
# brings its CUDA libraries (about 4 GB) and runs on the CPU where there is no GPU.
# For a small CPU-only image, pass the URL of PyTorch's index of CPU builds:
#   docker build --build-arg TORCH_INDEX_URL=... -f deploy/worker.Dockerfile .

FROM python:3.11.14-slim-bookworm AS build
WORKDIR /app
RUN python -m venv /venv
COPY requirements/web.txt requirements/worker.txt requirements/constraints.txt requirements/
# torch first and alone: its layer is large, and other pins change more often.
ARG TORCH_INDEX_URL=""
RUN grep -E '^(torch|torchvision)==' requirements/worker.txt > requirements/torch.txt \
    && /venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        ${TORCH_INDEX_URL:+--extra-index-url "$TORCH_INDEX_URL"} \
        --requirement requirements/torch.txt --constraint requirements/constraints.txt
RUN /venv/bin/pip install --no-cache-dir --disable-pip-version-check \
        --requirement requirements/worker.txt --constraint requirements/constraints.txt
COPY config.py wsgi.py ./
COPY migrations/ migrations/
COPY webapp/ webapp/
COPY worker/ worker/
COPY ml/ ml/
RUN python -m compileall -q .

FROM python:3.11.14-slim-bookworm
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin sulcus \
    && install -d -o sulcus -g sulcus -m 0700 /var/lib/sulcus
COPY --from=build /venv /venv
COPY --from=build /app /app
WORKDIR /app
# HOME and the caches of torch and matplotlib are in /tmp: the rest is read-only.
ENV PATH=/venv/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    HOME=/tmp \
    MPLCONFIGDIR=/tmp/matplotlib \
    SULCUS_HOME=/var/lib/sulcus \
    SULCUS_DEVICE=cpu \
    PROMETHEUS_MULTIPROC_DIR=/tmp/metrics \
    SULCUS_LOG_LEVEL=INFO \
    SULCUS_WORKER_CONCURRENCY=1
USER 10001:10001
# Pings this worker through the broker; without "-A", so that torch is not imported.
HEALTHCHECK --interval=60s --timeout=20s --start-period=60s --retries=3 \
    CMD ["sh", "-c", "CELERY_BROKER_URL=$SULCUS_BROKER_URL exec celery inspect ping --timeout 10 --destination celery@$(hostname)"]
# "exec" makes Celery process 1, the one that gets Docker's stop signal.
CMD ["sh", "-c", "exec celery -A worker.app worker --loglevel \"$SULCUS_LOG_LEVEL\" --concurrency \"$SULCUS_WORKER_CONCURRENCY\" --without-gossip --without-mingle ${SULCUS_WORKER_QUEUES:+--queues $SULCUS_WORKER_QUEUES}"]
