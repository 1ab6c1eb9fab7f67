"""Studies arrive in every format with the right slices, the right way round."""

import gzip
import uuid
from collections.abc import Callable

import pytest
from flask import Flask

from tests.factories import Account
from tests.volumes import SHAPE, as_mgh, as_nifti_file, as_nrrd, looks, small_volume
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.extensions import current_blobs
from webapp.studies.models import Study
from webapp.studies.operations import Handling, UploadedFile, submit_files
from webapp.tenancy import acting_for, unscoped

MakeUser = Callable[..., Account]


def submit(app: Flask, account: Account, files: dict[str, bytes], plane: str = "auto") -> uuid.UUID:
    with app.app_context(), acting_for(account.organisation_id):
        return submit_files(
            actor=find_user_by_address(account.email),
            files=[UploadedFile(name, content) for name, content in files.items()],
            handling=Handling(plane=plane),
        ).study.id


VOLUMES: dict[str, Callable[[], bytes]] = {
    "head.mgh": lambda: as_mgh(small_volume("LIA")),
    "head.mgz": lambda: gzip.compress(as_mgh(small_volume("LIA"))),
    "head.nrrd": lambda: as_nrrd(small_volume("LPS"), encoding="gzip"),
}


@pytest.mark.parametrize("name", VOLUMES)
def test_a_volume_of_any_format_arrives_as_the_same_slices(
    app: Flask, make_user: MakeUser, name: str
) -> None:
    study_id = submit(app, make_user(), {name: VOLUMES[name]()}, "coronal")
    with app.app_context(), unscoped():
        (series,) = db.session.get_one(Study, study_id).series
        assert (series.plane, series.is_volume, len(series.images)) == ("coronal", True, SHAPE[1])
        kept = current_blobs().get(series.images[0].source_key or "")
    assert looks(kept, "coronal") == looks(as_nifti_file(small_volume()), "coronal")
