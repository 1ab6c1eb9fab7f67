"""Damaged, lying and hostile DICOM files are refused before they cost, and quoted nowhere."""

import contextlib
import io
import logging
import sys
import threading
import tracemalloc
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
)

from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, parse_dicom, read_bytes
from ml.imaging.discretion import discreet
from tests.dicom_images import an_image, code_of
from tests.dicoms import as_bytes

SET = Path(pydicom.data.__file__).parent / "test_files"
LIMITS = Limits()


class TestLies:
    """Headers that promise more than there is are refused before memory is set aside."""

    @pytest.mark.parametrize(
        ("rows", "columns", "code"),
        [(65535, 64, "header_lies"), (65, 64, "header_lies"), (65535, 65535, "too_many_pixels")],
    )
    def test_size_of_native_pixels(self, rows: int, columns: int, code: str) -> None:
        assert frugally(lambda: code_of(an_image(Rows=rows, Columns=columns))) == code

    def test_number_of_frames(self) -> None:
        assert code_of(an_image(NumberOfFrames=1500)) == "header_lies"
        compressed = an_image()
        compressed.compress(RLELossless)
        compressed.NumberOfFrames = 3
        assert code_of(compressed) == "header_lies"

    def test_more_frames_than_announced(self) -> None:
        dataset = an_image()
        dataset.PixelData = dataset.PixelData * 3
        assert code_of(dataset) == "more_frames"
        dataset.NumberOfFrames = 2
        assert code_of(dataset) == "more_frames"
        dataset.NumberOfFrames = 3
        assert len(read_bytes(as_bytes(dataset))) == 3

    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
    @pytest.mark.parametrize("has_offsets", [True, False])
    def test_more_compressed_frames_than_announced(
        self, syntax: pydicom.uid.UID, has_offsets: bool
    ) -> None:
        dataset = an_image(NumberOfFrames=3)
        dataset.PixelData = dataset.PixelData * 3
        dataset.compress(syntax)
        frames = list(generate_frames(dataset.PixelData, number_of_frames=3))
        dataset.PixelData = encapsulate(frames, has_bot=has_offsets)
        assert len(read_bytes(as_bytes(dataset))) == 3
        dataset.NumberOfFrames = 1
        assert code_of(dataset) == "more_frames"

    def test_a_frame_in_several_fragments_is_one(self) -> None:
        dataset = an_image()
        dataset.compress(JPEG2000Lossless)
        (frame,) = generate_frames(dataset.PixelData, number_of_frames=1)
        dataset.PixelData = encapsulate([frame], fragments_per_frame=3, has_bot=False)
        assert len(read_bytes(as_bytes(dataset))) == 1

    @pytest.mark.parametrize("syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless])
    def test_size_of_compressed_pixels(self, syntax: pydicom.uid.UID) -> None:
        dataset = an_image()
        dataset.compress(syntax)
        dataset.Rows = dataset.Columns = 7000
        assert frugally(lambda: code_of(dataset)) == "header_lies"

    def test_size_in_the_codestream(self) -> None:
        dataset = an_image()
        dataset.compress(JPEG2000Lossless)
        dataset.PixelData = dataset.PixelData.replace(
            (64).to_bytes(4, "big") * 2, (60000).to_bytes(4, "big") * 2, 1
        )
        assert frugally(lambda: code_of(dataset)) == "header_lies"

    def test_baseline_jpeg_of_another_size(self) -> None:
        jpeg = io.BytesIO()
        from PIL import Image

        Image.fromarray(np.zeros((40, 50), np.uint8)).save(jpeg, "JPEG")
        dataset = an_image(BitsAllocated=8, BitsStored=8, HighBit=7)
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([jpeg.getvalue()])
        assert code_of(dataset) == "header_lies"
        dataset.Rows, dataset.Columns = 40, 50
        assert read_bytes(as_bytes(dataset))[0].pixels.shape == (40, 50)

    def test_deflated_file_that_never_ends(self) -> None:
        dataset = an_image()
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        # Meta information that hides the transfer syntax behind a large element.
        dataset.file_meta.PrivateInformationCreatorUID = "1.2.3"
        dataset.file_meta.PrivateInformation = bytes(5000)
        content = as_bytes(dataset)
        head = content[: content.index(zlib_body(content))]
        deflater = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
        bomb = head + deflater.compress(bytes(300 * 2**20)) + deflater.flush()
        assert len(bomb) < 2**20
        limits = Limits(max_total_bytes=2**24)
        assert frugally(lambda: code_of(bomb, limits)) == "too_many_pixels"

    def test_file_of_nothing_but_tiny_elements_or_items(self) -> None:
        head = as_bytes(an_image())[:-64]
        items = b"\x09\x00\x10\x00SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\0\0\0\0" * 300_000
        assert frugally(lambda: code_of(head + items)) == "too_many_pixels"
        elements = b"".join(
            b"\x09\x00" + (0x1000 + n % 60000).to_bytes(2, "little") + b"LO\0\0"
            for n in range(600_000)
        )
        content = as_bytes(an_image())
        at = content.index(b"\x10\x00\x10\x00PN")
        assert code_of(content[:at] + elements + content[at:]) == "too_many_pixels"

    def test_sequences_that_go_too_deep(self) -> None:
        nested = b"\x09\x00\x10\x10SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff" * 5000
        content = as_bytes(an_image())
        at = content.index(b"\x10\x00\x10\x00PN")
        assert code_of(content[:at] + nested + content[at:]) == "truncated"


class TestDamage:
    def test_a_file_cut_off_anywhere_is_refused(self) -> None:
        content = as_bytes(an_image())
        for end in range(0, len(content), 13):
            code = code_of(content[:end])
            assert code in {"empty", "unsupported", "truncated", "no_pixels"}, end
        assert code_of(content[:-2000]) == "truncated"

    def test_a_compressed_file_cut_off_is_refused(self) -> None:
        content = (SET / "MR_small_RLE.dcm").read_bytes()
        assert {code_of(content[:end]) for end in range(4000, 7000, 250)} == {"truncated"}

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damaged_headers_never_raise_anything_else(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(["MR_small.dcm", "MR_small_implicit.dcm"]))
        content = bytearray((SET / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 12))):
            at = data.draw(st.integers(0, 1800))
            content[at] = data.draw(st.integers(0, 255))
        for ask in (inspect, read_bytes, lambda one: parse_dicom(one, LIMITS)):
            with contextlib.suppress(UnreadableImage):
                ask(bytes(content))

    @settings(max_examples=150, deadline=None)
    @given(st.data())
    def test_damaged_compressed_pixels_never_raise_anything_else(self, data: st.DataObject) -> None:
        name = data.draw(
            st.sampled_from(
                ["MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "MR_small_jp2klossless.dcm"]
            )
        )
        content = bytearray((SET / name).read_bytes())
        for _ in range(data.draw(st.integers(1, 6))):
            at = data.draw(st.integers(1800, len(content) - 1))
            content[at] = data.draw(st.integers(0, 255))
        with contextlib.suppress(UnreadableImage):
            read_bytes(bytes(content))


def test_the_directory_of_a_disc_is_no_damaged_file() -> None:
    content = (SET / "dicomdirtests" / "DICOMDIR").read_bytes()
    with pytest.raises(UnreadableImage) as caught:
        parse_dicom(content, LIMITS)
    assert caught.value.code == "no_pixels"


class TestDiscretion:
    NAME = "Roentgen"

    def test_no_warning_log_line_or_error_quotes_the_file(
        self, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        content = as_bytes(an_image(StudyInstanceUID="1.2.3.4"))
        for old, new in (
            (b"1.2.3.4\0", self.NAME.encode()),
            (b"20240229", self.NAME.encode()),
            (b"101112", self.NAME.encode()[:6]),
        ):
            assert old in content
            content = content.replace(old, new)
        with caplog.at_level(logging.DEBUG), warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            dataset = parse_dicom(content, LIMITS)
            str(dataset.get("StudyInstanceUID")), str(dataset.get("StudyDate"))
            read_bytes(content)
            with pytest.raises(UnreadableImage) as caught:
                read_bytes(content[:-100])
        told = [str(one.message) for one in heard] + [one.getMessage() for one in caplog.records]
        assert not [line for line in told if self.NAME[:6] in line]
        assert self.NAME not in str(caught.value)
        assert caught.value.__cause__ is None
        assert capfd.readouterr() == ("", "")

    def test_silence_holds_for_every_thread_and_ends_with_the_last(
        self, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
    ) -> None:
        before = list(warnings.filters)
        inside, first_has_left = threading.Event(), threading.Event()

        def speak() -> None:
            warnings.warn("a name", stacklevel=1)
            logging.getLogger("pydicom.pixels").critical("a name")

        def second() -> None:
            with discreet("truncated", "x"):
                inside.set()
                assert first_has_left.wait(30)
                speak()

        thread = threading.Thread(target=second)
        with warnings.catch_warnings(record=True) as recorded:
            warnings.simplefilter("always")
            with discreet("truncated", "x"):
                thread.start()
                assert inside.wait(30)
            first_has_left.set()
            thread.join(30)
            assert (caplog.messages, recorded, capfd.readouterr()) == ([], [], ("", ""))
            speak()
            assert (caplog.messages, len(recorded)) == (["a name"], 1)
        assert list(warnings.filters) == before


def test_reading_needs_no_torch() -> None:
    import subprocess

    program = "import ml.imaging, ml.imaging.studies, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def frugally(action: Callable[[], str], most: int = 120) -> str:
    """The result of an action that may take ``most`` MB of memory."""
    tracemalloc.start()
    try:
        result = action()
        peak = tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
    assert peak < most, f"{peak:.0f} MB"
    return result


def zlib_body(content: bytes) -> bytes:
    """What follows the meta information."""
    file = io.BytesIO(content)
    pydicom.filereader.read_preamble(file, force=False)
    pydicom.filereader._read_file_meta_info(file)
    return file.read()
