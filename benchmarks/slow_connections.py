"""Time to answer somebody with an account while strangers hold connections open.

``python -m benchmarks.slow_connections --connections 100`` starts the product, opens as many
unfinished requests of each of three kinds in turn, and prints the median and the longest time of
twenty answers beside those without.
"""

import argparse
import contextlib
import socket
import statistics
import tempfile
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests

from benchmarks.product import product, signed_in

_FORM = "POST /sign-in HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n"
_KINDS = {
    "heads": "GET /sign-in HTTP/1.1\r\nHost: a\r\n",
    "small bodies": _FORM + "Content-Length: 60000\r\n\r\nemail=a",
    "large bodies": _FORM + "Content-Length: 500000000\r\n\r\nemail=a",
}
_ANSWERS = 20


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--connections", type=int, default=100)
    connections = parser.parse_args().connections
    with tempfile.TemporaryDirectory() as folder, product(Path(folder)) as address:
        session = signed_in(Path(folder))
        print(f"{'none':14} {_times(session, address)}")
        for kind, sent in _KINDS.items():
            with contextlib.ExitStack() as stack:
                where = urlsplit(address)
                for _ in range(connections):
                    slow = socket.create_connection((where.hostname, where.port))
                    stack.enter_context(slow).sendall(sent.encode())
                print(f"{kind:14} {_times(session, address)}")


def _times(session: requests.Session, address: str) -> str:
    taken = []
    for _ in range(_ANSWERS):
        started = time.perf_counter()
        session.get(f"{address}/api/v1/studies", timeout=120).raise_for_status()
        taken.append(1000 * (time.perf_counter() - started))
    return f"median {statistics.median(taken):6.0f} ms, longest {max(taken):6.0f} ms"


if __name__ == "__main__":
    main()
