"""Every file of pydicom's test set that comes with the package has a fixed outcome."""

from collections import Counter
from pathlib import Path

import pydicom.data
import pytest

from ml.errors import UnreadableImage
from ml.imaging import inspect, read_bytes

# What is in the folder, not what ``get_testdata_files`` would download.
SET = Path(pydicom.data.__file__).parent

# Number of slices, or the code of the refusal. Files that are not named: see `usual`.
OUTCOMES: dict[str, int | str] = {
    "charset_files/chrJapMulti.dcm": "no_pixels",
    "charset_files/chrJapMultiExplicitIR6.dcm": "no_pixels",
    "charset_files/chrKoreanMulti.dcm": "no_pixels",
    "charset_files/chrSQEncoding.dcm": "no_pixels",
    "charset_files/chrSQEncoding1.dcm": "no_pixels",
    "test_files/693_J2KI.dcm": "not_mr",
    "test_files/CT_small.dcm": "not_mr",
    "test_files/ExplVR_BigEnd.dcm": "not_mr",
    "test_files/ExplVR_BigEndNoMeta.dcm": "no_pixels",
    "test_files/ExplVR_LitEndNoMeta.dcm": "no_pixels",
    "test_files/GDCMJ2K_TextGBR.dcm": "colour_capture",
    "test_files/J2K_pixelrep_mismatch.dcm": "not_mr",
    "test_files/JPEG-lossy.dcm": "not_mr",
    "test_files/JPEG2000-embedded-sequence-delimiter.dcm": "not_mr",
    "test_files/JPEG2000.dcm": "not_mr",
    "test_files/JPEGLSNearLossless_08.dcm": "too_small",
    "test_files/JPEGLSNearLossless_16.dcm": "too_small",
    "test_files/JPGExtended.dcm": "not_mr",
    "test_files/MR_small.dcm": 1,
    "test_files/MR_small_RLE.dcm": 1,
    "test_files/MR_small_bigendian.dcm": 1,
    "test_files/MR_small_expb.dcm": 1,
    "test_files/MR_small_implicit.dcm": 1,
    "test_files/MR_small_jp2klossless.dcm": 1,
    "test_files/MR_small_jpeg_ls_lossless.dcm": 1,
    "test_files/MR_small_padded.dcm": 1,
    "test_files/MR_truncated.dcm": "truncated",
    "test_files/UN_sequence.dcm": "no_pixels",
    "test_files/badVR.dcm": "not_mr",
    "test_files/empty_charset_LEI.dcm": "no_pixels",
    "test_files/examples_jpeg2k.dcm": "not_mr",
    "test_files/examples_overlay.dcm": 1,
    "test_files/examples_palette.dcm": "not_mr",
    "test_files/examples_rgb_color.dcm": "not_mr",
    "test_files/examples_ybr_color.dcm": "not_mr",
    "test_files/image_dfl.dcm": 1,
    "test_files/liver_1frame.dcm": "not_mr",
    "test_files/liver_expb_1frame.dcm": "not_mr",
    "test_files/meta_missing_tsyntax.dcm": "no_pixels",
    "test_files/nested_priv_SQ.dcm": "no_pixels",
    "test_files/no_meta.dcm": "unsupported",  # starts with a blank, so it is no DICOM
    "test_files/no_meta_group_length.dcm": "no_pixels",
    "test_files/priv_SQ.dcm": "no_pixels",
    "test_files/reportsi.dcm": "no_pixels",
    "test_files/reportsi_with_empty_number_tags.dcm": "no_pixels",
    "test_files/rtdose.dcm": "not_mr",
    "test_files/rtdose_1frame.dcm": "not_mr",
    "test_files/rtdose_expb.dcm": "not_mr",
    "test_files/rtdose_expb_1frame.dcm": "not_mr",
    "test_files/rtdose_rle.dcm": "not_mr",
    "test_files/rtdose_rle_1frame.dcm": "not_mr",
    "test_files/rtplan.dcm": "no_pixels",
    "test_files/rtplan_truncated.dcm": "truncated",
    "test_files/rtstruct.dcm": "no_pixels",
    "test_files/test-SR.dcm": "no_pixels",
    "test_files/waveform_ecg.dcm": "no_pixels",
    "test_files/zipMR.gz": "unsupported",  # a gzipped DICOM file is neither DICOM nor NIfTI
}


def usual(name: str) -> int | str:
    """The outcome of files that come in families."""
    path = Path(name)
    if path.suffix in {".txt", ".json", ".md", ".icc", ".dump"} or path.name == "README":
        return "unsupported"
    families: dict[str, int | str] = {
        "charset_files/": 1,  # grey captures of 32 x 32 px
        "palettes/": "no_pixels",
        "test_files/SC_": "colour_capture",
        "test_files/dicomdirtests/TINY_ALPHA/": "no_pixels",
        "test_files/dicomdirtests/DICOMDIR": "no_pixels",
        "test_files/dicomdirtests/98892003/": "too_small",  # MR of 16 x 16 px
        "test_files/dicomdirtests/98892001/": "not_mr",
        "test_files/dicomdirtests/77654033/": "not_mr",
    }
    return next(outcome for start, outcome in families.items() if name.startswith(start))


def outcome(content: bytes) -> tuple[int | str, int | str]:
    """What the header leads to, and what decoding leads to."""
    answers: list[int | str] = []
    for ask in (lambda: len(inspect(content).frames), lambda: len(read_bytes(content))):
        try:
            answers.append(ask())
        except UnreadableImage as error:
            answers.append(error.code)
    return answers[0], answers[1]


def files() -> list[str]:
    found = [path for path in SET.rglob("*") if path.is_file()]
    return sorted(
        path.relative_to(SET).as_posix()
        for path in found
        if path.suffix not in {".py", ".pyc"} and path.parent != SET
    )


@pytest.mark.parametrize("name", files())
def test_each_file_becomes_slices_or_a_refusal_with_its_reason(
    name: str, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    header, pixels = outcome((SET / name).read_bytes())
    expected = OUTCOMES[name] if name in OUTCOMES else usual(name)
    assert (header, pixels) == (expected, expected)
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_the_set_is_there_and_covers_acceptance_and_every_common_refusal() -> None:
    counted = Counter(OUTCOMES.get(name) or usual(name) for name in files())
    assert counted.total() > 150
    assert {1, "no_pixels", "not_mr", "colour_capture", "truncated", "too_small"} <= set(counted)
