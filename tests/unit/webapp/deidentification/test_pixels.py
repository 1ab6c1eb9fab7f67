"""Pixel Data holds nothing but the picture after de-identification."""

import io
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pydicom
import pydicom.data
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydicom.encaps import encapsulate, generate_frames
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from ml.errors import UnreadableImage
from ml.imaging import Limits, parse_dicom
from tests.dicoms import as_bytes, head, mr_slice
from webapp.deidentification import Pseudonymiser, deidentify
from webapp.deidentification.pixel_data import keep_only_pixels

MARK = b"Kovarik^Ilse 19610417"
BUNDLED = Path(pydicom.data.__file__).parent / "test_files"
# Made to be refused: no decoder reads them.
UNDECODABLE = {
    "JPEG-lossy.dcm",
    "JPEG2000-embedded-sequence-delimiter.dcm",
    "MR_truncated.dcm",
    "badVR.dcm",
    "nested_priv_SQ.dcm",
}
PSEUDONYMISER = Pseudonymiser(b"k" * 32, uuid.UUID(int=1))
PLAIN = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
)
SETTINGS = settings(
    max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
marks = st.binary(min_size=8, max_size=60).filter(lambda mark: len(set(mark)) > 4)


def image(syntax: UID = ExplicitVRLittleEndian, **elements: object) -> pydicom.FileDataset:
    dataset = mr_slice(head(0, 1, 64))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    if syntax.is_encapsulated:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset.compress(syntax, generate_instance_uid=False)
    return dataset


def jpeg(name: str) -> pydicom.FileDataset:
    """A bundled file with its pixels, and the header of an MR image around them."""
    source = pydicom.dcmread(BUNDLED / name)
    dataset = mr_slice(head(0, 1, 64))
    for element in source.group_dataset(0x0028):
        dataset[element.tag] = element
    dataset.PixelData = source.PixelData
    dataset["PixelData"].is_undefined_length = True
    dataset.file_meta.TransferSyntaxUID = source.file_meta.TransferSyntaxUID
    return dataset


def kept(dataset: pydicom.Dataset) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(content(dataset)))


def content(dataset: pydicom.Dataset) -> bytes:
    return deidentify(parse_dicom(as_bytes(dataset), Limits()), PSEUDONYMISER).content


def frames(dataset: pydicom.Dataset) -> list[bytes]:
    count = int(dataset.get("NumberOfFrames") or 1)
    return list(generate_frames(dataset.PixelData, number_of_frames=count))


def with_frame(dataset: pydicom.FileDataset, frame: bytes) -> pydicom.FileDataset:
    dataset.PixelData = encapsulate([frame])
    return dataset


def bundled() -> list[str]:
    names = []
    for path in sorted(BUNDLED.glob("*.dcm")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            dataset = pydicom.dcmread(path, force=True)
        if "PixelData" in dataset and "TransferSyntaxUID" in dataset.file_meta:
            names.append(path.name)
    return [name for name in names if name not in UNDECODABLE]


class TestValuesStay:
    @pytest.mark.parametrize("name", bundled())
    def test_every_bundled_file_decodes_to_the_same_values(self, name: str) -> None:
        before = pydicom.dcmread(BUNDLED / name)
        after = pydicom.dcmread(BUNDLED / name)
        keep_only_pixels(after)
        again = pydicom.dcmread(io.BytesIO(as_bytes(after)))
        assert np.array_equal(before.pixel_array, again.pixel_array)
        assert again.file_meta.TransferSyntaxUID == before.file_meta.TransferSyntaxUID
        assert again.get("NumberOfFrames") == before.get("NumberOfFrames")

    @pytest.mark.parametrize(
        "syntax", [*PLAIN, RLELossless, JPEGLSLossless, JPEGLSNearLossless, JPEG2000Lossless]
    )
    @pytest.mark.parametrize("sign", [0, 1])
    def test_values_of_every_syntax_that_can_be_written_stay(self, syntax: UID, sign: int) -> None:
        dataset = mr_slice(head(0, 1, 64))
        dataset.PixelRepresentation = sign
        values = head(0, 1, 64).astype(np.int16) - 1000 * sign
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.PixelData = np.clip(values, -2048, 2047).astype("<i2").tobytes()
        if syntax.is_encapsulated:
            dataset.compress(syntax, generate_instance_uid=False)
        else:
            dataset.file_meta.TransferSyntaxUID = syntax
            if syntax == ExplicitVRBigEndian:
                dataset.PixelData = np.frombuffer(dataset.PixelData, "<i2").astype(">i2").tobytes()
        result = kept(dataset)
        assert result.file_meta.TransferSyntaxUID == syntax
        assert np.array_equal(
            result.pixel_array, pydicom.dcmread(io.BytesIO(as_bytes(dataset))).pixel_array
        )


def jpeg_comment(frame: bytes, mark: bytes) -> bytes:
    return frame[:2] + b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark + frame[2:]


def jpeg_application(frame: bytes, mark: bytes) -> bytes:
    segments = b"".join(
        bytes((0xFF, number)) + (len(name + mark) + 2).to_bytes(2, "big") + name + mark
        for number, name in (
            (0xE0, b"JFXX\0"),
            (0xE1, b"Exif\0\0"),
            (0xED, b"Photoshop 3.0\0"),
            (0xEF, b""),
        )
    )
    return frame[:2] + segments + frame[2:]


def behind(frame: bytes, mark: bytes) -> bytes:
    return frame + mark


def before_scan(frame: bytes, mark: bytes) -> bytes:
    at = frame.index(b"\xff\xda")
    return frame[:at] + b"\xff\xfe" + (len(mark) + 2).to_bytes(2, "big") + mark + frame[at:]


def unused_tables(frame: bytes, mark: bytes) -> bytes:
    """A table of quantisation and one of Huffman codes that no component refers to."""
    text = mark.ljust(64, b"x")[:64]
    counts = bytes([0] * 10 + [0, 0, 0, 0, 0, len(mark)])
    quantisation = b"\xff\xdb\x00\x43\x03" + text
    huffman = b"\xff\xc4" + (19 + len(mark)).to_bytes(2, "big") + b"\x03" + counts + mark
    return frame[:2] + quantisation + huffman + frame[2:]


def codestream_comment(frame: bytes, mark: bytes) -> bytes:
    """A COM segment behind SIZ, and one in the first tile part."""
    comment = b"\xff\x64" + (len(mark) + 4).to_bytes(2, "big") + b"\0\1" + mark
    siz = 4 + int.from_bytes(frame[4:6], "big")
    at = frame.index(b"\xff\x90")
    length = int.from_bytes(frame[at + 6 : at + 10], "big")
    longer = (length + len(comment)).to_bytes(4, "big") if length else bytes(4)
    start = frame[at : at + 6] + longer + frame[at + 10 : at + 12] + comment
    return frame[:siz] + comment + frame[siz:at] + start + frame[at + 12 :]


def boxed(frame: bytes, mark: bytes) -> bytes:
    def box(kind: bytes, payload: bytes) -> bytes:
        return (len(payload) + 8).to_bytes(4, "big") + kind + payload

    return (
        b"\0\0\0\x0cjP  \r\n\x87\n"
        + box(b"ftyp", b"jp2 \0\0\0\0jp2 ")
        + box(b"xml ", mark)
        + box(b"jp2c", frame)
        + box(b"uuid", mark)
    )


JPEGS = ("SC_rgb_jpeg_lossy_gdcm.dcm", "JPGExtended.dcm", "SC_rgb_jpeg_gdcm.dcm")
LS_FILES = ("MR_small_jpeg_ls_lossless.dcm", "JPEGLSNearLossless_16.dcm")
JPEG2000_FILES = ("MR_small_jp2klossless.dcm", "693_J2KI.dcm", "SC_rgb_gdcm_KY.dcm")
Plant = Callable[[bytes, bytes], bytes]


class TestCompressed:
    @pytest.mark.parametrize(
        ("name", "plant"),
        [
            *((n, p) for n in JPEGS for p in (jpeg_comment, jpeg_application, behind, before_scan)),
            *((n, unused_tables) for n in JPEGS),
            *((n, p) for n in LS_FILES for p in (jpeg_comment, jpeg_application, behind)),
            *((n, p) for n in JPEG2000_FILES for p in (codestream_comment, boxed, behind)),
        ],
    )
    @SETTINGS
    @given(mark=marks)
    def test_nothing_beside_the_picture_is_kept(self, name: str, plant: Plant, mark: bytes) -> None:
        dataset = pydicom.dcmread(BUNDLED / name)
        frame = frames(dataset)[0]
        if mark in frame:
            return
        before = dataset.pixel_array.copy()
        with_frame(dataset, plant(frame, mark))
        keep_only_pixels(dataset)
        assert mark not in dataset.PixelData
        assert np.array_equal(dataset.pixel_array, before)

    def test_of_the_segment_that_names_the_colours_nothing_else_is_kept(self) -> None:
        dataset = pydicom.dcmread(BUNDLED / "SC_rgb_jpeg_app14_dcmd.dcm")
        before = dataset.pixel_array.copy()
        frame = frames(dataset)[0]
        at = frame.index(b"Adobe")
        assert frame[at - 2 : at] == b"\0\x0e"
        longer = (14 + len(MARK)).to_bytes(2, "big")
        hidden = frame[: at - 2] + longer + b"AdobeIlseKo" + frame[at + 11 : at + 12] + MARK
        with_frame(dataset, hidden + frame[at + 12 :])
        keep_only_pixels(dataset)
        assert b"IlseKo" not in dataset.PixelData
        assert MARK not in dataset.PixelData
        assert np.array_equal(dataset.pixel_array, before)

    @SETTINGS
    @given(mark=marks)
    def test_nothing_between_and_behind_the_runs_of_rle_is_kept(self, mark: bytes) -> None:
        dataset = image(RLELossless)
        before = dataset.pixel_array.copy()
        frame = frames(dataset)[0]
        second = int.from_bytes(frame[8:12], "little")
        moved = frame[:8] + (second + len(mark)).to_bytes(4, "little") + frame[12:24]
        unused = mark[:40].ljust(40, b"\0")
        hidden = moved + unused + frame[64:second] + mark + frame[second:] + mark
        with_frame(dataset, hidden)
        keep_only_pixels(dataset)
        assert mark[:40] not in dataset.PixelData
        assert np.array_equal(dataset.pixel_array, before)

    def test_text_in_a_fragment_of_its_own_goes_or_the_file_is_refused(self) -> None:
        for syntax in (RLELossless, JPEGLSLossless, JPEG2000Lossless):
            dataset = image(syntax)
            item = b"\xfe\xff\x00\xe0" + (22).to_bytes(4, "little") + MARK + b" "
            dataset.PixelData = dataset.PixelData + item
            try:
                left = content(dataset)
            except UnreadableImage as refused:
                left = refused.code.encode()
            assert MARK not in left

    def test_text_in_the_offset_tables_goes(self) -> None:
        dataset = image(RLELossless)
        frame = frames(dataset)[0]
        dataset.PixelData = encapsulate([frame], has_bot=False)
        dataset.ExtendedOffsetTable = bytes(8)
        dataset.ExtendedOffsetTableLengths = len(frame).to_bytes(8, "little")
        result = kept(dataset)
        assert "ExtendedOffsetTable" not in result
        assert np.array_equal(result.pixel_array, dataset.pixel_array)

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_several_frames_stay_in_their_order(self, syntax: UID) -> None:
        pixels = np.stack([head(number, 3, 64) for number in range(3)])
        dataset = mr_slice(head(0, 1, 64))
        dataset.NumberOfFrames = 3
        dataset.PixelData = pixels.astype("<u2").tobytes()
        dataset.compress(syntax, generate_instance_uid=False)
        assert np.array_equal(kept(dataset).pixel_array, pixels)

    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_frames_that_are_not_announced_are_refused(self, syntax: UID) -> None:
        dataset = image(syntax)
        dataset.PixelData = encapsulate(frames(dataset) * 3)
        with pytest.raises(UnreadableImage) as refused:
            content(dataset)
        assert refused.value.code == "more_frames"

    @pytest.mark.parametrize("name", [*JPEGS, *LS_FILES, *JPEG2000_FILES])
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.99])
    def test_a_frame_cut_short_is_refused(self, name: str, share: float) -> None:
        dataset = jpeg(name)
        frame = frames(dataset)[0].rstrip(b"\0")
        with_frame(dataset, frame[: int(len(frame) * share)])
        with pytest.raises(UnreadableImage) as refused:
            content(dataset)
        assert refused.value.code == "truncated"

    @pytest.mark.parametrize("name", [*JPEGS, *LS_FILES])
    @pytest.mark.parametrize("share", [0.3, 0.5, 0.8, 0.95])
    def test_a_frame_cut_short_and_closed_is_refused(self, name: str, share: float) -> None:
        dataset = jpeg(name)
        frame = frames(dataset)[0].rstrip(b"\0")
        start = frame.index(b"\xff\xda") + 14
        cut = frame[: start + int((len(frame) - start) * share)].rstrip(b"\xff")
        with_frame(dataset, cut + b"\xff\xd9")
        with pytest.raises(UnreadableImage) as refused:
            content(dataset)
        assert refused.value.code == "truncated"

    @pytest.mark.parametrize("name", [*JPEGS, *LS_FILES])
    @SETTINGS
    @given(mark=st.text("abcdefghijklmnopqrstuvwxyz^ ", min_size=8, max_size=60))
    def test_text_between_the_picture_and_its_end_is_cut_off(self, name: str, mark: str) -> None:
        dataset = pydicom.dcmread(BUNDLED / name)
        before = dataset.pixel_array.copy()
        frame = frames(dataset)[0].rstrip(b"\0")
        if mark.encode() in frame:
            return
        end = frame.rindex(b"\xff\xd9")
        with_frame(dataset, frame[:end] + mark.encode() + frame[end:])
        keep_only_pixels(dataset)
        assert mark[4:].encode() not in dataset.PixelData
        assert np.array_equal(dataset.pixel_array, before)

    @pytest.mark.parametrize("frame", [b"\xff\xd8", b"\xff\xd8\xff\xd9", b"no", bytes(100)])
    def test_what_is_no_frame_is_refused(self, frame: bytes) -> None:
        for name in ("SC_rgb_jpeg_gdcm.dcm", "MR_small_RLE.dcm", "693_J2KI.dcm"):
            with pytest.raises(UnreadableImage):
                content(with_frame(jpeg(name), frame))

    @pytest.mark.parametrize("name", [*JPEGS, *LS_FILES, *JPEG2000_FILES])
    def test_a_frame_of_another_size_than_the_header_is_refused(self, name: str) -> None:
        dataset = jpeg(name)
        dataset.Rows += 8
        with pytest.raises(UnreadableImage) as refused:
            content(dataset)
        assert refused.value.code == "header_lies"

    @pytest.mark.parametrize("sign", [0, 1])
    @pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless])
    def test_a_drawing_in_bits_that_no_value_uses_is_gone(self, syntax: UID, sign: int) -> None:
        drawn = head(0, 1, 64).astype("<u2") & 0x0FFF
        drawn[10:20, 10:50] |= 0x4000
        dataset = mr_slice(head(0, 1, 64))
        dataset.PixelRepresentation = sign
        dataset.BitsStored, dataset.HighBit = 16, 15
        dataset.PixelData = drawn.tobytes()
        dataset.compress(syntax, generate_instance_uid=False)
        dataset.BitsStored, dataset.HighBit = 12, 11
        result = kept(dataset)
        stored = result.pixel_array & 0x0FFF
        assert np.array_equal(stored, drawn & 0x0FFF)
        values = pydicom.pixels.pixel_array(result, raw=True, correct_unused_bits=False)
        assert not (values & 0x4000).astype(bool)[values >= 0].any()


class TestUncompressed:
    @pytest.mark.parametrize("syntax", PLAIN)
    @SETTINGS
    @given(mark=marks)
    def test_nothing_behind_the_pixels_is_kept(self, syntax: UID, mark: bytes) -> None:
        dataset = image(syntax)
        if mark in dataset.PixelData:
            return
        before = dataset.PixelData
        dataset.PixelData = before + mark + bytes(len(mark) % 2)
        assert kept(dataset).PixelData == before

    @pytest.mark.parametrize("order", ["<", ">"])
    @pytest.mark.parametrize("sign", [0, 1])
    @pytest.mark.parametrize("high", [11, 13, 15])
    @SETTINGS
    @given(mark=st.binary(min_size=512, max_size=512))
    def test_bits_that_no_value_uses_are_cleared(
        self, order: str, sign: int, high: int, mark: bytes
    ) -> None:
        noise = np.frombuffer(mark * 16, f"{order}u2").reshape(64, 64)
        lowest = high - 11
        field = np.uint16(0x0FFF << lowest)
        values = (head(0, 1, 64) & 0x0FFF) << lowest
        dataset = mr_slice(head(0, 1, 64))
        if order == ">":
            dataset.file_meta.TransferSyntaxUID = ExplicitVRBigEndian
        dataset.HighBit, dataset.PixelRepresentation = high, sign
        dataset.PixelData = (values | (noise & ~field)).astype(f"{order}u2").tobytes()
        result = np.frombuffer(kept(dataset).PixelData, f"{order}u2").reshape(64, 64)
        assert np.array_equal(result & field, values)
        assert not (result & np.uint16((1 << lowest) - 1)).any()
        above = result >> (high + 1)
        if sign == 0:
            assert not above.any()
        else:
            negative = (values >> high).astype(bool)
            assert np.array_equal(above, np.where(negative, (1 << (15 - high)) - 1, 0))

    @pytest.mark.parametrize(("vr", "syntax"), [("OB", 0), ("OW", 0), ("OB", 3), ("OW", 3)])
    def test_the_byte_that_makes_an_even_number_is_zero(self, vr: str, syntax: int) -> None:
        pixels = np.arange(33 * 33, dtype=np.uint8)
        dataset = image(Rows=33, Columns=33, BitsAllocated=8, BitsStored=8, HighBit=7)
        dataset.file_meta.TransferSyntaxUID = PLAIN[syntax]
        raw = pixels.tobytes() + b"Li"[:1] + b"Xu"
        raw = raw if len(raw) % 2 == 0 else raw + b"A"
        if vr == "OW" and syntax == 3:
            raw = np.frombuffer(raw, ">u2").astype("<u2").tobytes()
        dataset.PixelData = raw
        dataset["PixelData"].VR = vr
        result = kept(dataset)
        assert np.array_equal(result.pixel_array.ravel(), pixels)
        assert len(result.PixelData) == 33 * 33 + 1
        assert not set(b"LXu") & set(result.PixelData[-2:])

    def test_pixels_of_one_bit_leave_no_bits_over(self) -> None:
        dataset = image(Rows=33, Columns=33, BitsAllocated=1, BitsStored=1, HighBit=0)
        dataset.PixelData = b"\xff" * 138
        assert kept(dataset).PixelData == b"\xff" * 136 + b"\x01\x00"

    def test_a_number_that_is_none_is_always_the_same(self) -> None:
        dataset = image()
        values = np.ones((64, 64), "<f4")
        values.view("<u4")[0, :4] = np.frombuffer(b"IlseKova", "<u2").astype("<u4") | 0x7FC00000
        del dataset.PixelData
        dataset.BitsAllocated = 32
        dataset.FloatPixelData = values.tobytes() + MARK + b" "
        result = kept(dataset).FloatPixelData
        assert len(result) == 64 * 64 * 4
        assert len(set(np.frombuffer(result, "<u4")[:4])) == 1

    def test_pixels_of_two_kinds_are_refused(self) -> None:
        dataset = image()
        dataset.FloatPixelData = MARK + b" "
        with pytest.raises(UnreadableImage) as refused:
            content(dataset)
        assert refused.value.code == "header_lies"

    @pytest.mark.parametrize(
        "wrong",
        [
            {"BitsStored": 17},
            {"BitsStored": 0},
            {"BitsAllocated": 12},
            {"Columns": 80},
            {"Rows": 80},
            {"NumberOfFrames": 2},
        ],
    )
    def test_a_header_that_contradicts_the_bytes_is_refused(self, wrong: dict[str, int]) -> None:
        with pytest.raises(UnreadableImage) as refused:
            content(image(**wrong))
        assert refused.value.code == "header_lies"

    @pytest.mark.parametrize("keyword", ["IconImageSequence", "ReferencedImageSequence"])
    def test_pixels_inside_of_sequences_go(self, keyword: str) -> None:
        item = pydicom.Dataset()
        item.Rows = item.Columns = 4
        item.PixelData = MARK + b" "
        item["PixelData"].VR = "OB"
        item.RedPaletteColorLookupTableData = MARK + b" "
        dataset = image()
        setattr(dataset, keyword, pydicom.Sequence([item]))
        assert MARK not in content(dataset)

    def test_an_overlay_in_the_high_bits_goes_with_its_group(self) -> None:
        values = head(0, 1, 64).astype("<u2") & 0x0FFF
        drawn = values.copy()
        drawn[5:9] |= 0x8000
        dataset = image(PixelData=drawn.tobytes())
        dataset.add_new(0x60000010, "US", 64)
        dataset.add_new(0x60000102, "US", 15)
        result = kept(dataset)
        assert 0x60000102 not in result
        assert result.PixelData == values.tobytes()


class TestTables:
    def test_tables_end_where_they_say_and_have_no_words_beside_them(self) -> None:
        for keyword in ("ModalityLUTSequence", "VOILUTSequence"):
            item = pydicom.Dataset()
            item.LUTDescriptor = [256, 0, 12]
            item.LUTExplanation = MARK.decode()
            item.ModalityLUTType = "US"
            entries = np.arange(256, dtype="<u2") | 0x4000
            item.LUTData = entries.tobytes() + MARK + b" "
            item["LUTData"].VR = "OW"
            dataset = image()
            setattr(dataset, keyword, pydicom.Sequence([item]))
            result = kept(dataset)
            table = result[keyword].value[0]
            assert MARK not in content(dataset)
            assert "LUTExplanation" not in table
            assert table.LUTData == np.arange(256, dtype="<u2").tobytes()

    @pytest.mark.parametrize(("bits", "size"), [(8, 1), (8, 2), (16, 2)])
    def test_palettes_end_where_they_say(self, bits: int, size: int) -> None:
        pixels = np.tile(np.arange(64, dtype=np.uint8), 64)
        dataset = image(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels.tobytes())
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        ramp = np.arange(256, dtype=f"<u{size}").tobytes()
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
            surplus = (MARK * 20)[: 256 if size == 1 else 40]
            setattr(dataset, f"{colour}PaletteColorLookupTableData", ramp + surplus)
        result = kept(dataset)
        assert MARK not in content(dataset)
        assert result.RedPaletteColorLookupTableData == ramp

    def test_palettes_in_segments_are_written_out(self) -> None:
        pixels = np.tile(np.arange(64, dtype=np.uint8), 64)
        dataset = image(BitsAllocated=8, BitsStored=8, HighBit=7, PixelData=pixels.tobytes())
        dataset.PhotometricInterpretation = "PALETTE COLOR"
        # Two values, a line of 126, the line again, and text that nothing reaches.
        segments = np.array([0, 2, 0, 500, 1, 126, 40000, 2, 1, 8, 0, 0, 2, 7, 9], "<u2").tobytes()
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, 16])
            setattr(
                dataset,
                f"Segmented{colour}PaletteColorLookupTableData",
                segments + b"\0\0\x0b\0" + MARK + b" ",
            )
        expected = pydicom.pixels.apply_color_lut(pixels, dataset)
        result = kept(dataset)
        assert MARK not in content(dataset)
        assert "SegmentedRedPaletteColorLookupTableData" not in result
        assert np.array_equal(pydicom.pixels.apply_color_lut(pixels, result), expected)

    def test_a_table_that_is_too_short_is_refused(self) -> None:
        item = pydicom.Dataset()
        item.LUTDescriptor = [256, 0, 12]
        item.LUTData = bytes(100)
        item["LUTData"].VR = "OW"
        with pytest.raises(UnreadableImage) as refused:
            content(image(VOILUTSequence=pydicom.Sequence([item])))
        assert refused.value.code == "header_lies"
