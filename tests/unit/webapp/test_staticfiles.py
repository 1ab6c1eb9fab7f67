"""Static files are kept by browsers until they change."""

import gzip
import re
from pathlib import Path

import brotli
import pytest
from flask import Flask
from flask.testing import FlaskClient

from webapp.staticfiles import version_of


def test_pages_name_files_by_a_version_and_browsers_keep_them(client: FlaskClient) -> None:
    page = client.get("/sign-in", follow_redirects=True).get_data(as_text=True)
    found = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert found
    for address in found:
        assert re.fullmatch(r"/static/[0-9a-f]{12}/.+", address)
        answer = client.get(address)
        assert answer.status_code == 200
        assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [("gzip, deflate, br, zstd", "br"), ("gzip", "gzip"), ("br;q=0, gzip;q=0.5", "gzip")],
)
def test_texts_are_compressed_as_the_browser_takes_them(
    client: FlaskClient, app: Flask, accepted: str, encoding: str
) -> None:
    folder = Path(app.static_folder or "")
    address = f"/static/{version_of(folder)}/vendor/htmx.min.js"
    plain = (folder / "vendor" / "htmx.min.js").read_bytes()
    answer = client.get(address, headers={"Accept-Encoding": accepted})
    assert answer.headers["Content-Encoding"] == encoding
    assert "Accept-Encoding" in answer.headers["Vary"]
    assert answer.mimetype == client.get(address).mimetype
    decoded = brotli.decompress if encoding == "br" else gzip.decompress
    assert decoded(answer.data) == plain
    assert len(answer.data) < 0.4 * len(plain)
    again = client.get(
        address, headers={"Accept-Encoding": accepted, "If-None-Match": answer.headers["ETag"]}
    )
    assert again.status_code == 304


def test_parts_pictures_and_old_browsers_get_files_as_they_are(
    client: FlaskClient, app: Flask
) -> None:
    root = f"/static/{version_of(Path(app.static_folder or ''))}"
    for headers in ({}, {"Accept-Encoding": "identity"}, {"Accept-Encoding": "br;q=0"}):
        answer = client.get(f"{root}/vendor/htmx.min.js", headers=headers)
        assert "Content-Encoding" not in answer.headers
        assert "Accept-Encoding" in answer.headers["Vary"]
    part = client.get(
        f"{root}/vendor/htmx.min.js", headers={"Accept-Encoding": "br", "Range": "bytes=0-9"}
    )
    assert (part.status_code, len(part.data)) == (206, 10)
    missing = client.get(f"{root}/js/none.js", headers={"Accept-Encoding": "br"})
    assert missing.status_code == 404


def test_an_address_without_a_version_is_asked_for_again(client: FlaskClient) -> None:
    answer = client.get("/static/css/sulcus.css")
    assert answer.headers["Cache-Control"] == "no-cache"
    assert client.get("/static/0123456789ab/css/sulcus.css").status_code == 404


def test_nothing_outside_the_folder_is_served(client: FlaskClient, app: Flask) -> None:
    version = version_of(Path(app.static_folder or ""))
    for path in ("../__init__.py", "..%2f__init__.py", "%2e%2e/__init__.py", "/etc/passwd"):
        assert client.get(f"/static/{version}/{path}").status_code in {404, 308}


def test_the_version_changes_with_a_file_and_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text("1")
    before = version_of(tmp_path)
    assert version_of(tmp_path) == before
    (tmp_path / "a.js").write_text("2")
    changed = version_of(tmp_path)
    (tmp_path / "a.js").rename(tmp_path / "b.js")
    assert len({before, changed, version_of(tmp_path)}) == 3
