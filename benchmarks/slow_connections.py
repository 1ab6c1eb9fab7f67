"""Response time for a signed-in user while other clients hold slow connections open.

``python -m benchmarks.slow_connections --connections 100`` starts the product, opens 100
unfinished requests of each of four kinds in turn, and prints the median, 95th percentile and
maximum time to the worklist, with and without them. The last kind is uploads by a user with an
account; the other kinds are anonymous.
"""

import argparse
import contextlib
import re
import socket
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from benchmarks.product import EMAIL, PASSWORD, product, signed_in

_FORM = "POST /sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
_KINDS = {
    "heads": "GET /sign-in HTTP/1.1\r\nHost: a\r\n",
    "small bodies": _FORM + "Content-Length: 60000\r\n\r\nemail=a",
    "large bodies": _FORM + "Content-Length: 500000000\r\n\r\nemail=a",
    "uploads": "POST /api/v1/studies HTTP/1.1\r\nHost: a\r\nAuthorization: {authorization}\r\n"
    "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 500000000\r\n\r\n--b\r\n",
}
_ANSWERS = 60
_CSRF_TOKEN = re.compile(r'name="csrf_token"[^>]*value="([^"]+)"')


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=100)
    connections = parser.parse_args().connections
    with tempfile.TemporaryDirectory() as folder, product(Path(folder)) as address:
        authorization = str(signed_in(Path(folder)).headers["Authorization"])
        browser = _browser(address)
        print(f"{'none':14} {_times(browser, address)}")
        for kind, sent in _KINDS.items():
            with contextlib.ExitStack() as stack:
                where = urlsplit(address)
                for _ in range(connections):
                    slow = socket.create_connection((where.hostname, where.port))
                    request = sent.format(authorization=authorization)
                    stack.enter_context(slow).sendall(request.encode())
                print(f"{kind:14} {_times(browser, address)}")


def _browser(address: str) -> requests.Session:
    """A session with the cookie of a signed-in account."""
    browser = requests.Session()
    token, *_others = _CSRF_TOKEN.findall(browser.get(f"{address}/sign-in", timeout=60).text)
    form = {"email": EMAIL, "password": PASSWORD, "csrf_token": token}
    browser.post(f"{address}/sign-in", data=form, timeout=60).raise_for_status()
    return browser


def _times(browser: requests.Session, address: str) -> str:
    taken = []
    for _ in range(_ANSWERS):
        started = time.perf_counter()
        answer = browser.get(f"{address}/", allow_redirects=False, timeout=120)
        assert answer.status_code == 200, answer.status_code
        taken.append(1000 * (time.perf_counter() - started))
    late = statistics.quantiles(taken, n=20)[-1]
    figures = {"median": statistics.median(taken), "p95": late, "longest": max(taken)}
    return ", ".join(f"{name} {value:6.0f} ms" for name, value in figures.items())


if __name__ == "__main__":
    main()
