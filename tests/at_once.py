"""Requests that are sent at the same moment."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import requests

from tests.dicoms import axial_series


def all_at_once(address: str, token: str, bodies: list[dict[str, Any]]) -> Counter[int]:
    """Post everything at the same moment; return how often each status came."""
    together = Barrier(len(bodies))
    headers = {"Authorization": f"Bearer {token}"}

    def send(body: dict[str, Any]) -> int:
        together.wait()
        return requests.post(address, headers=headers, timeout=120, **body).status_code

    with ThreadPoolExecutor(len(bodies)) as pool:
        return Counter(pool.map(send, bodies))


def slices_at_once(web: str, token: str, count: int) -> Counter[int]:
    """Upload the slices of one study, each by itself; return how often each status came."""
    slices = axial_series(count, size=64)
    bodies = [{"files": [("files", (f"{n}.dcm", one))]} for n, one in enumerate(slices)]
    return all_at_once(f"{web}/api/v1/studies", token, bodies)
