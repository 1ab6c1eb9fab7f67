"""nginx sends stored files itself once the portal has checked who asks: of a folder and of S3."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from flask import Flask
from sqlalchemy import select
from werkzeug.serving import make_server

from config import Settings
from tests.conftest import make_settings
from tests.factories import Account, make_api_token, make_study
from tests.nginx import of_folder, of_s3, running_nginx
from tests.s3 import BUCKET, running_object_server
from webapp.database import db
from webapp.storage import BlobStore
from webapp.studies.models import Prediction
from webapp.tenancy import unscoped

pytestmark = [
    pytest.mark.integration,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]


@pytest.fixture(params=["folder", "s3"])
def stored(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[dict[str, str], str]]:
    """The variables of a portal with each kind of store, and what nginx has to know of it."""
    if request.param == "folder":
        yield {}, of_folder(tmp_path / "home" / "blobs")
        return
    with running_object_server() as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        yield {"SULCUS_STORAGE_URL": f"s3://{BUCKET}/portal"}, of_s3(server.endpoint)


@pytest.fixture
def settings(
    tmp_path: Path, database_url: str, broker_url: str, stored: tuple[dict[str, str], str]
) -> Settings:
    return make_settings(
        tmp_path / "home",
        SULCUS_DATABASE_URL=database_url,
        SULCUS_BROKER_URL=broker_url,
        SULCUS_ACCEL_PREFIX="/stored/",
        **stored[0],
    )


@pytest.fixture
def address(app: Flask, tmp_path: Path, stored: tuple[dict[str, str], str]) -> Iterator[str]:
    """Of the portal behind nginx."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    with running_nginx(tmp_path / "nginx", f"http://127.0.0.1:{server.port}", stored[1]) as found:
        yield found
    server.shutdown()


def test_file_comes_from_nginx_to_those_who_may_see_it_alone(
    app: Flask, address: str, make_user: Callable[..., Account]
) -> None:
    owner, stranger = make_user(), make_user(organisation="Another hospital")
    image_id = make_study(app, owner).image_id
    with app.app_context(), unscoped():
        prediction = db.session.scalars(
            select(Prediction).where(Prediction.image_id == image_id)
        ).one()
        key = prediction.heatmap_key or ""
    store: BlobStore = app.extensions["blobs"]

    def ask(path: str, account: Account | None, **headers: str) -> requests.Response:
        if account is not None:
            headers["Authorization"] = f"Bearer {make_api_token(app, account)[1]}"
        return requests.get(address + path, headers=headers, timeout=10)

    heatmap = f"/api/v1/images/{image_id}/heatmap"
    found = ask(heatmap, owner)
    assert (found.status_code, found.headers["Content-Type"]) == (200, "image/png")
    assert found.content == store.get(key)
    assert "X-Accel-Redirect" not in found.headers
    assert "private" in found.headers["Cache-Control"]
    part = ask(heatmap, owner, Range="bytes=10-19")
    assert (part.status_code, part.content) == (206, store.get(key)[10:20])
    assert ask(heatmap, stranger).status_code == 404
    assert ask(heatmap, None).status_code == 401
    direct = f"/stored/{store.link(key)}"
    assert ask(direct, owner).status_code == 404  # the location is internal
    store.remove([key])
    assert ask(heatmap, owner).status_code == 404
