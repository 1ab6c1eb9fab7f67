"""DICOM, NIfTI and archives from disk: slices in the order of the head, refusals with a reason."""

import io
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pydicom
import pytest

from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, read_bytes, strip_nifti
from ml.imaging.series import assemble
from ml.imaging.studies import read_study
from tests.dicoms import axial_series

TEST_SET = Path(pydicom.__file__).parent / "data" / "test_files"


def test_folder_is_read_from_below_to_above_whatever_the_names(tmp_path: Path) -> None:
    for number, content in enumerate(axial_series(5)[::-1]):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    (tmp_path / "notes.txt").write_text("no image")
    found = list(read_study(tmp_path))
    assert [Path(one.path).name for one in found] == [
        "notes.txt",
        *(f"{n}.dcm" for n in (4, 3, 2, 1, 0)),
    ]
    assert isinstance(found[0].slice, UnreadableImage)


def test_archive_is_read_like_a_folder(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for number, content in enumerate(axial_series(3)):
            archive.writestr(f"{number}", content)
    path = tmp_path / "disc.zip"
    path.write_bytes(buffer.getvalue())
    assert len(list(read_study(path))) == 3


def test_missing_slice_is_counted() -> None:
    files = axial_series(6)
    (plan,) = assemble([inspect(content) for content in [*files[:2], *files[3:]]])
    assert (plan.missing, plan.slice_spacing, plan.is_volume) == (1, 3.0, False)


def test_slices_around_a_missing_one_are_found_with_their_places(tmp_path: Path) -> None:
    for number, content in enumerate(axial_series(6)):
        if number != 2:
            (tmp_path / f"{number}.dcm").write_bytes(content)
    found = list(read_study(tmp_path))
    assert {one.volume for one in found} == {0}
    assert [one.place for one in found] == pytest.approx([0, 3, 9, 12, 15])


def test_nifti_loses_its_texts_and_keeps_its_slices() -> None:
    values = np.random.default_rng(1).integers(0, 900, (40, 50, 60)).astype(np.int16)
    image = nib.Nifti1Image(values, np.diag([1.0, 1.0, 2.0, 1.0]))
    image.header["descrip"] = b"Roentgen, Wilhelmina"
    content = image.to_bytes()
    stripped = strip_nifti(content, Limits())
    before, after = read_bytes(content), read_bytes(stripped)
    assert len(before) == len(after) == 60
    assert all((a.pixels == b.pixels).all() for a, b in zip(before, after, strict=True))
    assert b"Roentgen" not in zlib.decompress(stripped, 31)


@pytest.mark.filterwarnings("ignore")
def test_every_file_of_pydicom_s_test_set_is_read_or_refused_with_a_reason() -> None:
    outcomes = {}
    # What is in the package; pydicom would download the rest.
    for path in sorted(path for path in TEST_SET.rglob("*") if path.is_file()):
        try:
            outcomes[path.name] = len(read_bytes(path.read_bytes()))
        except UnreadableImage as error:
            outcomes[path.name] = error.code
    assert len(outcomes) > 50
    assert outcomes["MR_small.dcm"] == outcomes["MR_small_RLE.dcm"] == 1
    assert outcomes["CT_small.dcm"] == "not_mr"
    assert outcomes["rtplan.dcm"] == "no_pixels"
