"""What the store does, counted for Prometheus."""

from prometheus_client import Counter

BYTES = Counter("sulcus_storage_io_bytes", "Bytes of blobs", ["direction"])
FAILURES = Counter("sulcus_storage_failures", "Reads and writes that failed", ["reason"])
for _reason in ("no_room", "missing", "away", "other"):
    FAILURES.labels(_reason)  # from 0 on: Prometheus cannot see a first one rise otherwise
