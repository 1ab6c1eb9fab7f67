"""The nginx of the compose file before a real portal."""

import re
import shutil
import socket
import string
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from deploy import connections
from tests.factories import SAMPLE
from tests.portal import REPOSITORY, Portal
from tests.waiting import wait_until
from webapp import uploads

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
TEMPLATE = REPOSITORY / "deploy" / "nginx" / "sulcus.conf.template"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def filled(values: dict[str, str]) -> str:
    """As the image's envsubst does, which leaves nginx's own variables alone."""

    class Braced(string.Template):
        pattern = (
            r"\$\{(?P<braced>SULCUS_\w+)\}|(?P<escaped>(?!))|(?P<named>(?!))|(?P<invalid>(?!))"
        )

    return Braced(TEMPLATE.read_text()).substitute(values)


class Proxy:
    def __init__(self, http: int, https: int, certificate: Path) -> None:
        self.http, self.https = f"http://127.0.0.1:{http}", f"https://127.0.0.1:{https}"
        self.certificate = str(certificate)


@pytest.fixture
def proxy(portal: Portal, tmp_path: Path) -> Iterator[Proxy]:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        pytest.skip("needs nginx")
    portal.environment["SULCUS_TRUSTED_PROXIES"] = "1"
    portal.environment["SULCUS_TRUSTED_HOSTS"] = "127.0.0.1"
    upstream = portal.start_web().removeprefix("http://")
    certificate, key = tmp_path / "fullchain.pem", tmp_path / "privkey.pem"
    make = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
    alternative = ["-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [
            "openssl",
            *make.split(),
            "-subj",
            "/CN=127.0.0.1",
            *alternative,
            "-out",
            certificate,
            "-keyout",
            key,
        ],
        check=True,
        capture_output=True,
    )
    http, https = free_port(), free_port()
    config = filled(
        {
            "SULCUS_UPSTREAM": upstream,
            "SULCUS_PROXY_HTTP_PORT": f"127.0.0.1:{http}",
            "SULCUS_PROXY_HTTPS_PORT": f"127.0.0.1:{https}",
            "SULCUS_PROXY_NAMES": "_",
            "SULCUS_PROXY_CERTIFICATE": str(certificate),
            "SULCUS_PROXY_KEY": str(key),
            "SULCUS_PROXY_MAX_BODY_MB": "1",
        }
    ).replace("/dev/stdout", str(tmp_path / "access"))
    folders = "".join(
        f"{kind}_temp_path {tmp_path}/{kind}; "
        for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    path = tmp_path / "nginx.conf"
    path.write_text(
        f"daemon off; pid {tmp_path}/pid; error_log {tmp_path}/error;\n"
        f"events {{}}\nhttp {{ {folders}\n{config}\n}}\n"
    )
    process = subprocess.Popen([program, "-c", path], stderr=subprocess.DEVNULL)
    found = Proxy(http, https, certificate)
    try:
        wait_until(lambda: _answers(found), seconds=20, what="nginx")
        yield found
    finally:
        process.terminate()
        process.wait(timeout=10)


def _answers(proxy: Proxy) -> bool:
    try:
        return requests.get(f"{proxy.https}/healthz", verify=proxy.certificate, timeout=5).ok
    except requests.RequestException:
        return False


def test_portal_is_reached_through_tls_within_its_limits(
    portal: Portal, proxy: Proxy, tmp_path: Path
) -> None:
    moved = requests.get(f"{proxy.http}/sign-in?x=1", allow_redirects=False, timeout=10)
    assert (moved.status_code, moved.headers["Location"]) == (301, "https://127.0.0.1/sign-in?x=1")
    page = requests.get(f"{proxy.https}/sign-in", verify=proxy.certificate, timeout=10)
    assert page.status_code == 200
    assert page.headers["Strict-Transport-Security"]  # the portal knows that it is https
    assert uuid.UUID(page.headers["X-Request-ID"])
    assert (
        requests.get(f"{proxy.https}/metrics", verify=proxy.certificate, timeout=10).status_code
        == 403
    )

    token = portal.token(portal.make_user().email)
    bearer = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "10.9.8.7"}
    sent = requests.post(
        f"{proxy.https}/api/v1/studies",
        headers=bearer,
        files={"files": ("a.jpg", SAMPLE.read_bytes())},
        verify=proxy.certificate,
        timeout=30,
    )
    assert sent.status_code == 202
    large = requests.post(
        f"{proxy.https}/api/v1/studies",
        headers=bearer,
        files={"files": ("a.jpg", bytes(2 * 2**20))},
        verify=proxy.certificate,
        timeout=30,
    )
    assert large.status_code == 413
    log = (tmp_path / "access").read_text()
    assert page.headers["X-Request-ID"].replace("-", "") in log
    assert "sign-in" not in log
    assert "10.9.8.7" not in "".join(portal.everything())  # nobody chooses their address


def test_times_and_sizes_agree_with_the_portals(portal: Portal) -> None:
    text = TEMPLATE.read_text()

    def seconds(name: str) -> int:
        (found,) = re.findall(rf"{name} (\d+)s;", text)
        return int(found)

    assert seconds("client_header_timeout") == connections.SECONDS_TO_ARRIVE
    assert seconds("client_body_timeout") == connections.STALL_SECONDS
    count, size = re.findall(r"large_client_header_buffers (\d+) (\d+)k", text)[0]
    assert int(count) * int(size) * 1024 == connections.LARGEST_HEAD
    gunicorn = (REPOSITORY / "deploy" / "gunicorn.conf.py").read_text()
    keepalive = re.findall(r"^keepalive = (\d+)", gunicorn, re.MULTILINE)
    assert seconds("    keepalive_timeout") < int(keepalive[0])
    compose = (REPOSITORY / "docker-compose.yml").read_text()
    (body,) = re.findall(r"SULCUS_PROXY_MAX_BODY_MB:-(\d+)", compose)
    settings = portal.app.extensions["settings"]
    assert int(body) * 2**20 > settings.max_upload_bytes + uploads._BESIDE_FILES
