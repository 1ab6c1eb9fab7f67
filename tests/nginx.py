"""A private nginx before the portal, with the configuration of the documents."""

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import requests

from tests.broker import free_port
from tests.waiting import wait_until

_CONFIGURATION = """
daemon off;
worker_processes 1;
pid {folder}/pid;
error_log {folder}/log;
user root;
events {{ worker_connections 64; }}
http {{
  access_log off;
  client_body_temp_path {folder}/body;
  proxy_temp_path {folder}/proxy;
  fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi;
  scgi_temp_path {folder}/scgi;
  server {{
    listen 127.0.0.1:{port};
    location / {{
      proxy_pass {portal};
      proxy_set_header Host $http_host;
    }}
    location /stored/ {{
      internal;
{stored}
    }}
  }}
}}
"""


def of_folder(folder: Path) -> str:
    """What nginx has to know of a folder of blobs."""
    return f"      alias {folder}/;"


def of_s3(endpoint: str) -> str:
    """What nginx has to know of a server of S3."""
    host = endpoint.partition("://")[2]
    return f"""      proxy_pass {endpoint}/;
      proxy_set_header Host {host};
      proxy_set_header Authorization "";
      proxy_set_header Cookie "";"""


@contextmanager
def running_nginx(folder: Path, portal: str, stored: str) -> Iterator[str]:
    """An nginx until the block ends; its address. The test is skipped where there is none.

    Args:
        folder: for its files.
        portal: the address of the portal.
        stored: of :func:`of_folder` or :func:`of_s3`.
    """
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("needs nginx: Debian's package nginx-light")
    folder.mkdir()
    port = free_port()
    text = _CONFIGURATION.format(folder=folder, port=port, portal=portal, stored=stored)
    (folder / "nginx.conf").write_text(text)
    process = subprocess.Popen([program, "-c", folder / "nginx.conf", "-p", folder])
    address = f"http://127.0.0.1:{port}"
    try:
        wait_until(lambda: _answers(f"{address}/healthz"), seconds=20, what="nginx")
        yield address
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=5).ok
    except requests.RequestException:
        return False
