"""Studies arrive in every format with the right slices, the right way round."""

import gzip
import io
import uuid
import zipfile
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from flask import Flask
from flask.testing import FlaskClient
from PIL import Image

from ml.imaging import read_bytes
from ml.imaging.pictures import encode_png
from tests.factories import SAMPLE, Account
from tests.photos import heic, webp
from tests.tiffs import as_tiff
from tests.volumes import SHAPE, as_mgh, as_nifti_file, as_nrrd, looks, small_volume
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.errors import QuestionableUpload, RefusedUpload
from webapp.extensions import current_blobs
from webapp.intake.arrival import Handling, UploadedFile
from webapp.intake.submission import submit_files
from webapp.studies.models import Study
from webapp.tenancy import acting_for, unscoped

MakeUser = Callable[..., Account]


def submit(app: Flask, account: Account, files: dict[str, bytes], plane: str = "auto") -> uuid.UUID:
    with app.app_context(), acting_for(account.organisation_id):
        return submit_files(
            actor=find_user_by_address(account.email),
            files=[UploadedFile(name, content) for name, content in files.items()],
            handling=Handling(plane=plane),
        ).study.id


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()


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


def noise(seed: int, dtype: type = np.uint8) -> npt.NDArray[np.generic]:
    """(60, 80) pixels in which no letters are found; the upper left corner is bright."""
    pixels = np.add.outer(np.arange(60), np.arange(80)) + seed
    pixels[:20, :20] = 230
    return (pixels * (257 if dtype is np.uint16 else 1)).astype(dtype)


def kept_pixels(app: Flask, study_id: uuid.UUID) -> list[npt.NDArray[np.generic]]:
    with app.app_context(), unscoped():
        images = db.session.get_one(Study, study_id).images
        assert [image.position for image in images] == list(range(len(images)))
        contents = [current_blobs().get(image.blob_key or "") for image in images]
    assert all(content.startswith(b"\x89PNG") for content in contents)
    return [read_bytes(content)[0].pixels for content in contents]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_pages_of_a_tiff_become_slices_in_their_order(
    app: Flask, make_user: MakeUser, dtype: type
) -> None:
    pages = [noise(seed, dtype) for seed in (5, 3, 9)]
    found = kept_pixels(app, submit(app, make_user(), {"stack.tif": as_tiff(*pages)}))
    assert len(found) == 3
    assert all(np.array_equal(*pair) for pair in zip(found, pages, strict=True))


def test_a_page_alone_is_kept_too(app: Flask, make_user: MakeUser) -> None:
    (found,) = kept_pixels(app, submit(app, make_user(), {"one.tif": as_tiff(noise(1))}))
    assert np.array_equal(found, noise(1))


@pytest.mark.parametrize("encode", [webp, heic])
def test_photographs_are_kept_upright(
    app: Flask, make_user: MakeUser, encode: Callable[..., bytes]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees
    content = encode(Image.fromarray(noise(1)).convert("RGB"), exif=exif.tobytes())
    (found,) = kept_pixels(app, submit(app, make_user(), {"photo": content}))
    assert found.shape[:2] == (80, 60)
    assert found[:15, -15:].min() > 220


def test_a_damaged_page_is_named_and_a_reduced_one_counted(app: Flask, make_user: MakeUser) -> None:
    account = make_user()
    bad = as_tiff(noise(1), noise(2).astype(np.int16))
    with pytest.raises(RefusedUpload) as caught:
        submit(app, account, {"stack.tif": bad})
    assert list(caught.value.fields) == ["stack.tif/2"]
    reduced = as_tiff(noise(1), noise(2), noise(3), each=[{254: 0}, {254: 0}, {254: 1}])
    files = {"a/stack.tif": reduced, "b/bad.tif": bad, "c/cut.tif": bad[:100]}
    study_id = submit(app, account, {"disc.zip": zipped(files)})
    with app.app_context(), unscoped():
        found = db.session.get_one(Study, study_id)
        assert len(found.images) == 3
        assert found.left_out == {"reduced_copy": 1, "sample_type": 1, "truncated": 1}


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("scans.7z", b"7z\xbc\xaf\x27\x1c\0\4", "7z archives cannot be opened; pack the files as"),
        ("letter", b"%PDF-1.7", "This is a PDF document; export its images as DICOM or PNG."),
        ("cine.mp4", b"\0\0\0\x10ftypisom\0\0\0\0", "Videos are not accepted; export the slices"),
        ("scans.zip", zipped({"a": b"b"})[:40], "The archive is damaged or incomplete."),
        ("head.nhdr", b"NRRD0004\ndata file: head.raw\n", "are in another file"),
        ("map.tif", as_tiff(noise(1).astype(np.float32)), "save it with 8 or 16 bits"),
    ],
    # Not by content: an archive names the moment when it was made.
    ids=lambda value: value if isinstance(value, str) and "." in value[-6:] else "",
)
def test_what_is_refused_is_named_with_a_way_out(
    app: Flask,
    make_user: MakeUser,
    sign_in: Callable[[Account], FlaskClient],
    name: str,
    content: bytes,
    sentence: str,
) -> None:
    answer = sign_in(make_user()).post(
        "/studies/new",
        data={"files": [(io.BytesIO(content), name)]},
        headers={"Accept": "application/json"},
    )
    assert answer.status_code == 422
    assert sentence in answer.get_json()["errors"][name]


def test_documents_in_an_archive_are_left_out_by_name(app: Flask, make_user: MakeUser) -> None:
    files = {"a.png": encode_png(noise(1)), "b": b"%PDF-1.4", "c": b"Rar!\x1a\x07\0"}
    study_id = submit(app, make_user(), {"disc.zip": zipped(files)})
    with app.app_context(), unscoped():
        found = db.session.get_one(Study, study_id)
        assert found.left_out == {"pdf": 1, "rar": 1}


def test_letters_are_looked_for_on_each_page(app: Flask, make_user: MakeUser) -> None:
    (clean,) = (one.pixels for one in read_bytes(SAMPLE.read_bytes()))
    written = clean.copy()
    cv2.putText(written, "ROENTGEN W 1947", (8, 24), cv2.FONT_HERSHEY_SIMPLEX, 0.7, 255, 2)
    files = {"stack.tif": as_tiff(clean, written)}
    account = make_user()
    with pytest.raises(QuestionableUpload) as caught:
        submit(app, account, files)
    assert list(caught.value.extra["regions"]) == ["stack.tif/2"]
