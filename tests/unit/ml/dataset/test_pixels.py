"""Training sees slices with the proportions that serving gives them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.dataset import Entry, read_manifest, write_manifest
from ml.dataset.feedback import from_feedback
from ml.dataset.pixels import pixels_of
from ml.dataset.tensors import prepare
from ml.errors import InvalidManifest
from ml.imaging import Slice, square_pixels
from ml.imaging.pictures import encode_png
from ml.labels import Label
from ml.preprocess import PIPELINES


@pytest.fixture
def squashed(tmp_path: Path) -> Entry:
    """A round head whose rows lie twice as far apart as its columns."""
    rows, columns = np.mgrid[:48, :96]
    head = ((rows - 24) * 2) ** 2 + (columns - 48) ** 2 < 40**2
    path = tmp_path / "squashed.png"
    path.write_bytes(encode_png((head * 150 + rows).astype(np.uint8)))
    return Entry(path, Label.GLIOMA, "p", spacing=(2.0, 1.0))


def test_training_gets_what_serving_gets(squashed: Entry) -> None:
    pixels = pixels_of(replace(squashed, spacing=None))
    assert pixels.shape == (48, 96)
    served = square_pixels(Slice(pixels, spacing=(2.0, 1.0)))
    assert served.shape == (96, 96)
    np.testing.assert_array_equal(pixels_of(squashed), served)
    (image,) = prepare([squashed], preprocessing="head-crop", size=64).images
    wanted = PIPELINES["head-crop"](served, 64).image.astype(np.float16)
    np.testing.assert_array_equal(image[0].numpy(), wanted)


@pytest.mark.parametrize(
    ("columns", "values", "spacing"),
    [
        ("row_spacing,column_spacing,pixel_aspect", "2.0,1.0,", (2.0, 1.0)),
        ("row_spacing,column_spacing,pixel_aspect", ",,2.0", (2.0, 1.0)),
        ("row_spacing,column_spacing,pixel_aspect", ",,0.5", (1.0, 2.0)),
        ("row_spacing,column_spacing,pixel_aspect", ",,", None),
    ],
)
def test_manifests_and_exports_tell_the_spacing(
    squashed: Entry, columns: str, values: str, spacing: tuple[float, float] | None
) -> None:
    folder = squashed.path.parent
    manifest = folder / "manifest.csv"
    manifest.write_text(
        f"path,label,group,image_id,study_id,reader,{columns}\n"
        f"squashed.png,glioma,p,i,s,r,{values}\n"
    )
    (read,) = read_manifest(manifest)
    (answered,) = from_feedback(manifest).entries
    assert read.spacing == answered.spacing == spacing
    write_manifest(folder / "again.csv", [answered])
    (again,) = read_manifest(folder / "again.csv")
    assert again.spacing == spacing


@pytest.mark.parametrize("values", ["2.0,,", "0,1,", "nan,1,", "1,inf,", "900,1,", ",,-1", "x,1,"])
def test_impossible_spacing_is_refused_with_its_line(squashed: Entry, values: str) -> None:
    manifest = squashed.path.parent / "manifest.csv"
    manifest.write_text(
        f"path,label,row_spacing,column_spacing,pixel_aspect\nsquashed.png,glioma,{values}\n"
    )
    with pytest.raises(InvalidManifest, match="line 2"):
        read_manifest(manifest)
