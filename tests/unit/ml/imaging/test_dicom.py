"""DICOM images become slices with true values."""

import io
import uuid

import numpy as np
import pydicom
import pydicom.data
import pytest
from pydicom.dataset import Dataset, FileDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
    SecondaryCaptureImageStorage,
)

from ml.imaging import Limits, inspect, parse_dicom, read_bytes, square_pixels
from ml.imaging.pictures import encode_png
from ml.imaging.series import assemble
from tests.dicom_images import an_image, code_of, enhanced, ramp
from tests.dicoms import as_bytes
from webapp.deidentification import Pseudonymiser, deidentify

LIMITS = Limits()


def signed(pixels: np.ndarray, **values: object) -> FileDataset:
    dataset = an_image(pixels.astype(np.uint16), BitsStored=16, HighBit=15, PixelRepresentation=1)
    dataset.PixelData = pixels.astype("<i2").tobytes()
    for name, value in values.items():
        setattr(dataset, name, value)
    return dataset


def values_of(dataset: Dataset) -> np.ndarray:
    (one,) = read_bytes(as_bytes(dataset))
    assert one.pixels.dtype == np.uint16
    assert one.scale > 0
    return one.pixels * one.scale + one.offset


class TestValues:
    def test_unsigned_pixels_are_kept_as_they_are(self) -> None:
        (one,) = read_bytes(as_bytes(an_image()))
        np.testing.assert_array_equal(one.pixels, ramp())
        assert (one.scale, one.offset, one.window) == (1.0, 0.0, (1000.0, 2000.0))

    def test_slope_and_intercept_give_the_scanner_s_values(self) -> None:
        values = values_of(an_image(RescaleSlope="0.5", RescaleIntercept="-100"))
        np.testing.assert_allclose(values, ramp() * 0.5 - 100)

    def test_negative_slope_still_shows_high_values_bright(self) -> None:
        dataset = an_image(RescaleSlope="-2", RescaleIntercept="7")
        np.testing.assert_allclose(values_of(dataset), ramp() * -2.0 + 7)

    @pytest.mark.parametrize("top", [100, 30000])
    def test_signed_pixels_keep_their_sign(self, top: int) -> None:
        pixels = np.linspace(-top, top, 64 * 64).reshape(64, 64).astype(np.int16)
        np.testing.assert_array_equal(values_of(signed(pixels)), pixels)

    def test_bits_that_do_not_belong_to_the_value_are_masked(self) -> None:
        overlay = ramp() | np.uint16(0xA000)
        dataset = an_image()
        dataset.PixelData = overlay.astype("<u2").tobytes()
        np.testing.assert_array_equal(values_of(dataset), ramp())

    def test_values_that_lie_high_in_their_word_are_brought_down(self) -> None:
        dataset = an_image(HighBit=15)
        dataset.PixelData = (ramp() << 4 | 0x5).astype("<u2").tobytes()
        np.testing.assert_array_equal(values_of(dataset), ramp())

    def test_monochrome1_is_mirrored_together_with_its_window(self) -> None:
        dataset = an_image(
            PhotometricInterpretation="MONOCHROME1", WindowCenter="1000", WindowWidth="500"
        )
        (one,) = read_bytes(as_bytes(dataset))
        np.testing.assert_array_equal(one.pixels * one.scale + one.offset, 4095.0 - ramp())
        assert one.window == (3095.0, 500.0)

    def test_padding_is_as_dark_as_the_darkest_tissue(self) -> None:
        pixels = ramp(top=3000) + np.uint16(50)
        pixels[:8] = 4000
        dataset = an_image(pixels)
        dataset.add_new("PixelPaddingValue", "US", 4000)
        values = values_of(dataset)
        assert np.all(values[:8] == pixels[8:].min())
        np.testing.assert_array_equal(values[8:], pixels[8:])

    def test_modality_table_is_applied(self) -> None:
        table = Dataset()
        table.LUTDescriptor = [4096, 0, 16]
        table.ModalityLUTType = "US"
        table.LUTData = (np.arange(4096, dtype="<u2") * 3).tobytes()
        table["LUTData"].VR = "OW"
        values = values_of(an_image(ModalityLUTSequence=Sequence([table])))
        np.testing.assert_array_equal(values, ramp().astype(np.int64) * 3)

    def test_window_comes_from_the_voi_table_where_there_is_no_other(self) -> None:
        table = Dataset()
        table.LUTDescriptor = [256, 100, 16]
        table.LUTData = np.arange(256, dtype="<u2").tobytes()
        table["LUTData"].VR = "OW"
        dataset = an_image(VOILUTSequence=Sequence([table]))
        del dataset.WindowCenter, dataset.WindowWidth
        assert read_bytes(as_bytes(dataset))[0].window == (228.0, 256.0)

    def test_floating_point_pixels_are_spread_over_sixteen_bits(self) -> None:
        pixels = np.linspace(-1, 1, 64 * 64, dtype="<f4").reshape(64, 64)
        dataset = an_image(BitsAllocated=32)
        del dataset.PixelData, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation
        dataset.FloatPixelData = pixels.tobytes()
        np.testing.assert_allclose(values_of(dataset), pixels, atol=2 / 65535)


class TestColour:
    def test_colour_mr_images_become_rgb(self) -> None:
        colours = np.random.default_rng(1).integers(0, 255, (64, 64, 3)).astype(np.uint8)
        (one,) = read_bytes(as_bytes(self.colour(colours)))
        np.testing.assert_array_equal(one.pixels, colours)

    def test_colour_that_says_it_names_the_patient_is_refused(self) -> None:
        dataset = self.colour(np.zeros((64, 64, 3), np.uint8))
        dataset.BurnedInAnnotation = "YES"
        assert code_of(dataset) == "burned_in"

    def test_colour_captures_are_refused_and_grey_ones_are_not(self) -> None:
        dataset = self.colour(np.zeros((64, 64, 3), np.uint8))
        dataset.SOPClassUID, dataset.Modality = SecondaryCaptureImageStorage, "OT"
        assert code_of(dataset) == "colour_capture"
        grey = an_image(SOPClassUID=SecondaryCaptureImageStorage, Modality="OT")
        assert len(read_bytes(as_bytes(grey))) == 1

    def colour(self, pixels: np.ndarray) -> FileDataset:
        dataset = an_image(
            SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0,
            BitsAllocated=8, BitsStored=8, HighBit=7,
        )  # fmt: skip
        dataset.PixelData = pixels.tobytes()
        return dataset

    @pytest.mark.parametrize("bits", [8, 16])
    def test_palettes_survive_de_identification_and_are_applied(self, bits: int) -> None:
        dataset = an_image(
            PhotometricInterpretation="PALETTE COLOR", BitsAllocated=8, BitsStored=8, HighBit=7
        )
        levels = ramp(top=255).astype(np.uint8)
        dataset.PixelData = levels.tobytes()
        table = (np.arange(256) * (257 if bits == 16 else 1)).astype(f"<u{bits // 8}")
        for colour in ("Red", "Green", "Blue"):
            setattr(dataset, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
            setattr(dataset, f"{colour}PaletteColorLookupTableData", table.tobytes())
        (one,) = read_bytes(deidentified(dataset))
        np.testing.assert_array_equal(one.pixels, np.stack([table[levels]] * 3, axis=2))


def deidentified(dataset: FileDataset) -> bytes:
    pseudonymiser = Pseudonymiser(b"k" * 32, uuid.UUID(int=7))
    return deidentify(parse_dicom(as_bytes(dataset), LIMITS), pseudonymiser).content


class TestPlaces:
    def test_stacks_at_one_place_are_told_apart_after_de_identification(self) -> None:
        dataset = enhanced(6)
        for number, group in enumerate(dataset.PerFrameFunctionalGroupsSequence):
            content = Dataset()
            content.StackID = "122112"[number]
            group.FrameContentSequence = Sequence([content])
            height = (0, 0, 4, 4, 8, 8)[number]
            group.PlanePositionSequence[0].ImagePositionPatient = [0, 0, height]
        plans = assemble([inspect(deidentified(dataset))])
        assert [[one.frame for one in plan.slices] for plan in plans] == [[0, 3, 4], [1, 2, 5]]

    def test_a_location_serves_where_there_is_no_geometry(self) -> None:
        dataset = an_image(SliceLocation="-12.5")
        del dataset.ImagePositionPatient
        (frame,) = inspect(deidentified(dataset)).frames
        assert (frame.geometry, frame.location) == (None, -12.5)

    def test_a_position_serves_without_directions_also_per_frame(self) -> None:
        dataset = an_image(ImagePositionPatient=[1, 2, 3])
        del dataset.ImageOrientationPatient
        assert inspect(as_bytes(dataset)).frames[0].location == (1.0, 2.0, 3.0)
        many = enhanced(3)
        del many.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
        (plan,) = assemble([inspect(as_bytes(many))])
        assert (plan.order, [one.frame for one in plan.slices]) == ("location", [0, 1, 2])

    def test_groups_in_the_dataset_itself_are_found(self) -> None:
        dataset = enhanced(4)
        places = [
            group.PlanePositionSequence[0] for group in dataset.PerFrameFunctionalGroupsSequence
        ]
        shared = dataset.SharedFunctionalGroupsSequence[0]
        dataset.PlanePositionSequence = Sequence(places[::-1])
        dataset.PlaneOrientationSequence = shared.PlaneOrientationSequence
        del dataset.PerFrameFunctionalGroupsSequence, dataset.SharedFunctionalGroupsSequence
        (plan,) = assemble([inspect(as_bytes(dataset))])
        assert (plan.is_volume, [one.frame for one in plan.slices]) == (True, [3, 2, 1, 0])

    @pytest.mark.parametrize("far", ["1e20", "-1e308", "1e6"])
    def test_what_lies_nowhere_near_a_scanner_has_no_place(self, far: str) -> None:
        dataset = an_image(ImagePositionPatient=["0", "0", far], SliceLocation=far)
        (frame,) = inspect(as_bytes(dataset)).frames
        assert (frame.geometry, frame.location) == (None, None)

    def test_the_aspect_ratio_serves_where_no_spacing_is_given(self) -> None:
        dataset = an_image(PixelAspectRatio=[4, 2])
        assert inspect(as_bytes(dataset)).frames[0].spacing == (1.0, 1.0)
        del dataset.PixelSpacing
        (frame,) = inspect(as_bytes(dataset)).frames
        assert (frame.spacing, frame.measured) == ((2.0, 1.0), False)
        assert square_pixels(read_bytes(as_bytes(dataset))[0]).shape == (128, 64)
        for ratio in ([1, 1], [0, 1], [-2, 1], [1, 100]):
            dataset.PixelAspectRatio = ratio
            assert inspect(as_bytes(dataset)).frames[0].spacing is None


class TestFiles:
    @pytest.mark.parametrize("count", [8, 100, 2048])
    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian])
    def test_zeros_behind_the_data_set_are_passed_over(
        self, count: int, syntax: pydicom.uid.UID
    ) -> None:
        dataset = an_image()
        dataset.file_meta.TransferSyntaxUID = syntax
        padded = as_bytes(dataset) + bytes(count)
        np.testing.assert_array_equal(read_bytes(padded)[0].pixels, ramp())
        again = deidentify(parse_dicom(padded, LIMITS), Pseudonymiser(b"k", uuid.UUID(int=7)))
        np.testing.assert_array_equal(read_bytes(again.content)[0].pixels, ramp())

    @pytest.mark.parametrize(
        "syntax", [RLELossless, JPEG2000Lossless, JPEGLSLossless], ids=lambda uid: uid.name
    )
    def test_lossless_compression_gives_the_same_values(self, syntax: pydicom.uid.UID) -> None:
        dataset = an_image()
        dataset.compress(syntax)
        np.testing.assert_array_equal(values_of(dataset), ramp())

    @pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRBigEndian])
    def test_files_without_preamble_and_meta_information_are_read(
        self, syntax: pydicom.uid.UID
    ) -> None:
        dataset = an_image()
        little = syntax.is_little_endian
        if not little:
            dataset.PixelData = ramp().astype(">u2").tobytes()
        buffer = io.BytesIO()
        pydicom.filewriter.write_dataset(
            file := pydicom.filebase.DicomIO(buffer), bare(dataset, file, syntax)
        )
        content = buffer.getvalue()
        (one,) = read_bytes(content)
        np.testing.assert_array_equal(one.pixels, ramp())
        assert inspect(content).transfer_syntax == syntax
        assert parse_dicom(content, LIMITS).file_meta.TransferSyntaxUID == syntax

    def test_deflated_files_are_read(self) -> None:
        dataset = an_image()
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        np.testing.assert_array_equal(values_of(dataset), ramp())

    def test_header_says_what_the_portal_needs(self) -> None:
        dataset = an_image(BurnedInAnnotation="NO")
        dataset.PixelSpacing = [2.0, 1.5]
        dataset.InstanceNumber = 17
        facts = inspect(as_bytes(dataset))
        (frame,) = facts.frames
        assert (facts.format, facts.modality, facts.instance_number) == ("DICOM", "MR", 17)
        assert facts.study_uid == dataset.StudyInstanceUID
        assert facts.series_uid == dataset.SeriesInstanceUID
        assert facts.sop_uid == dataset.SOPInstanceUID
        assert facts.burned_in is False
        assert (frame.rows, frame.columns, frame.spacing) == (64, 64, (2.0, 1.5))
        assert frame.geometry is not None
        assert frame.geometry.normal == (0.0, 0.0, 1.0)

    def test_damaged_values_beside_the_image_do_no_harm(self) -> None:
        content = as_bytes(an_image(InstanceNumber=1234))
        damaged = content.replace(b"1234", b"1A.4")
        assert inspect(damaged).instance_number is None
        assert len(read_bytes(damaged)) == 1
        assert list(parse_dicom(damaged, LIMITS).iterall())

    def test_enhanced_image_has_a_place_and_values_of_its_own_for_each_frame(self) -> None:
        content = as_bytes(enhanced(5))
        facts = inspect(content)
        places = [frame.geometry.position[2] for frame in facts.frames if frame.geometry]
        assert places == [0.0, 4.0, 8.0, 12.0, 16.0]
        assert {frame.spacing for frame in facts.frames} == {(0.5, 0.75)}
        slices = read_bytes(content)
        assert [one.index for one in slices] == list(range(5))
        for number, one in enumerate(slices):
            np.testing.assert_allclose(
                one.pixels * one.scale + one.offset, (ramp() // 2 + number) * (number + 1.0)
            )
            assert one.window == (100.0 + number, 50.0)


class TestRules:
    @pytest.mark.parametrize("modality", ["CT", "US", "PT", "CR", "SEG"])
    def test_other_modalities_are_refused(self, modality: str) -> None:
        assert code_of(an_image(Modality=modality)) == "not_mr"

    def test_without_modality_the_class_of_the_object_decides(self) -> None:
        dataset = an_image()
        del dataset.Modality
        assert len(read_bytes(as_bytes(dataset))) == 1
        dataset.SOPClassUID = "1.2.840.10008.5.1.4.1.1.2"  # CT
        assert code_of(dataset) == "not_mr"

    def test_unknown_compression_is_refused(self) -> None:
        dataset = an_image()
        dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.95"  # a reference elsewhere
        dataset.PixelData = encapsulate([b"\0\0\1\xb3" * 8])
        assert code_of(dataset) == "unsupported_transfer_syntax"

    @pytest.mark.parametrize("ending", ["4.100", "4.101.1", "4.104", "4.108", "7.1"])
    def test_video_is_named(self, ending: str) -> None:
        dataset = an_image()
        dataset.file_meta.TransferSyntaxUID = f"1.2.840.10008.1.2.{ending}"
        dataset.PixelData = encapsulate([b"\0\0\1\xb3" * 8])
        assert code_of(dataset) == "dicom_video"

    def test_objects_without_pixels_are_refused(self) -> None:
        dataset = an_image(SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11", Modality="SR")
        del dataset.PixelData, dataset.Rows, dataset.Columns
        assert code_of(dataset) == "no_pixels"

    def test_small_and_numerous_images_are_refused(self) -> None:
        assert code_of(an_image(ramp(16))) == "too_small"
        assert code_of(enhanced(5), Limits(max_slices=4)) == "too_many_slices"
        assert code_of(an_image(), Limits(max_pixels=1000)) == "too_many_pixels"


def bare(dataset: FileDataset, file: object, syntax: pydicom.uid.UID) -> Dataset:
    file.is_little_endian = syntax.is_little_endian
    file.is_implicit_VR = syntax.is_implicit_VR
    plain = Dataset()
    plain.update(dataset)
    return plain


def test_png_of_a_slice_holds_every_bit() -> None:
    (one,) = read_bytes(as_bytes(an_image()))
    np.testing.assert_array_equal(read_bytes(encode_png(one.pixels))[0].pixels, one.pixels)
