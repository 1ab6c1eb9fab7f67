"""Static files are kept by browsers until they change."""

import re
from pathlib import Path

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
