"""Keeps a lease while a long call gives no sign of life."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta

from webapp.leases import LeaseLost
from worker.app import flask_app


@contextmanager
def held(renew: Callable[[], None], *, lease: timedelta) -> Iterator[None]:
    """Renew a lease in a thread of its own until the block ends, or until the lease is lost.

    Whoever lost it notices when it writes its result: that write is fenced.
    """
    over = threading.Event()

    def keep() -> None:
        while not over.wait(lease.total_seconds() / 4):
            try:
                with flask_app.app_context():
                    renew()
            except LeaseLost:
                return
            except Exception:  # noqa: S112 - the database may be back at the next try
                continue

    thread = threading.Thread(target=keep, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
