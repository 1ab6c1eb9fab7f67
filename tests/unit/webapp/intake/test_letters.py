"""Letters in original slices and in volumes are asked about at every door."""

import gzip
import io
from collections.abc import Callable

import cv2
import nibabel as nib
import numpy as np
import numpy.typing as npt
import pydicom
import pytest
from flask import Flask

from ml.errors import UnreadableImage
from tests.dicoms import as_bytes, head, mr_slice
from tests.factories import Account
from tests.unit.webapp.intake.test_arrival import receive, study, submit
from webapp.database import db
from webapp.errors import QuestionableUpload
from webapp.intake.arrival import Handling
from webapp.intake.letters import BurnedIn
from webapp.studies.models import Study
from webapp.tenancy import unscoped

MakeUser = Callable[..., Account]
Grey = npt.NDArray[np.uint16]
MASK, KEEP = Handling(burned_in=BurnedIn.MASK), Handling(burned_in=BurnedIn.KEEP)


def named(pixels: Grey) -> Grey:
    ink = np.zeros(pixels.shape, np.uint8)
    cv2.putText(ink, "ROENTGEN W 1947", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.6, 255, 2)
    return np.where(ink > 0, np.uint16(4095), pixels)


def kept(app: Flask, study_id: object) -> bytes:
    with app.app_context(), unscoped():
        source: bytes = app.extensions["blobs"].get(study(study_id).images[0].source_key or "")  # type: ignore[arg-type]
        return source


@pytest.fixture
def original() -> bytes:
    """As a scanner stores it, with a name in its pixels."""
    return as_bytes(mr_slice(named(head(0, 1, 256))))


@pytest.fixture
def frames() -> bytes:
    """Sixty frames as a scanner stores them, the last but one with a name."""
    plain = head(0, 1, 256)
    dataset = mr_slice(plain)
    dataset.NumberOfFrames = 60
    dataset.PixelData = np.stack([*[plain] * 58, named(plain), plain]).tobytes()
    return as_bytes(dataset)


@pytest.fixture
def volume() -> bytes:
    plain = head(0, 1, 256)
    stack = np.stack([*[plain] * 8, named(plain), *[plain] * 8])
    # Shown are columns from right to left and rows from front to back.
    voxels = np.ascontiguousarray(stack[:, ::-1, ::-1].transpose(2, 1, 0).astype(np.int16))
    return bytes(nib.Nifti1Image(voxels, np.diag([1.0, 1.0, 5.0, 1.0])).to_bytes())


@pytest.mark.parametrize("kind", ["original", "frames", "volume"])
def test_letters_are_asked_about_and_nothing_is_kept(
    app: Flask, make_user: MakeUser, kind: str, request: pytest.FixtureRequest
) -> None:
    content = request.getfixturevalue(kind)
    with pytest.raises(QuestionableUpload) as asked:
        submit(app, make_user(), [content])
    left, top, right, bottom = asked.value.regions["0.dcm"][0]
    assert left < 0.1
    assert top < 0.1
    assert right > 0.5
    assert bottom < 0.2
    with app.app_context(), unscoped():
        assert not db.session.query(Study).count()


@pytest.mark.parametrize("kind", ["original", "frames"])
def test_other_systems_are_refused(
    app: Flask, make_user: MakeUser, kind: str, request: pytest.FixtureRequest
) -> None:
    with pytest.raises(UnreadableImage, match="text in the image"):
        receive(app, make_user(), [request.getfixturevalue(kind)])


def test_letters_of_an_original_slice_are_blacked_out(
    app: Flask, make_user: MakeUser, original: bytes
) -> None:
    content = kept(app, submit(app, make_user(), [original], MASK))
    pixels = pydicom.dcmread(io.BytesIO(content)).pixel_array
    assert pixels[8:28, 8:200].max() < 1000
    assert np.array_equal(pixels[60:], head(0, 1, 256)[60:])


def test_letters_of_a_volume_are_blacked_out(
    app: Flask, make_user: MakeUser, volume: bytes
) -> None:
    content = kept(app, submit(app, make_user(), [volume], MASK))
    voxels = np.asarray(nib.Nifti1Image.from_bytes(gzip.decompress(content)).dataobj)
    before = np.asarray(nib.Nifti1Image.from_bytes(volume).dataobj)
    assert voxels.max() < 4095
    assert np.array_equal(voxels[..., :8], before[..., :8])
    assert np.array_equal(voxels[:, :190, 8], before[:, :190, 8])


@pytest.mark.parametrize("kind", ["original", "volume"])
def test_who_has_looked_may_keep_them(
    app: Flask, make_user: MakeUser, kind: str, request: pytest.FixtureRequest
) -> None:
    submit(app, make_user(), [request.getfixturevalue(kind)], KEEP)
