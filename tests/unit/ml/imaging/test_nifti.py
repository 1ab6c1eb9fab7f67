"""NIfTI volumes are cut as a radiologist looks at them, and nothing in a header is trusted."""

import contextlib
import gzip
import io
import itertools
import math
import struct
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nibabel.orientations import axcodes2ornt, inv_ornt_aff, ornt_transform

from ml.errors import UnreadableImage
from ml.imaging import Limits, inspect, read_bytes, strip_nifti
from ml.imaging.series import assemble

LIMITS = Limits()
SHAPE = (36, 48, 34)  # towards right, front, head; few enough voxels to number them in 16 bits


def a_volume(sizes: tuple[float, float, float] = (1.0, 1.0, 2.0)) -> nib.Nifti1Image:
    """Voxels towards right, front and head; the value of each is its number."""
    voxels = np.arange(math.prod(SHAPE)).reshape(SHAPE)
    affine = np.diag([*sizes, 1.0])
    affine[:3, 3] = (-20, -30, -10)
    return nib.Nifti1Image(voxels.astype(np.int32), affine)


def stored_as(image: nib.Nifti1Image, codes: str) -> nib.Nifti1Image:
    """The same volume with its axes stored in another order and direction."""
    target = axcodes2ornt(tuple(codes))
    return image.as_reoriented(ornt_transform(axcodes2ornt(("R", "A", "S")), target))


def as_bytes(image: nib.Nifti1Image) -> bytes:
    return bytes(image.to_bytes())


def values(content: bytes, plane: str = "auto") -> npt.NDArray[np.float64]:
    """(slices, height, width) of the scanner's values."""
    return np.stack([s.pixels * s.scale + s.offset for s in read_bytes(content, plane=plane)])


def code_of(content: bytes, limits: Limits = LIMITS) -> str:
    codes = set()
    for ask in (read_bytes, inspect, strip_nifti):
        with contextlib.suppress(UnreadableImage):
            ask(content, limits)
            continue
        with pytest.raises(UnreadableImage) as caught:
            ask(content, limits)
        codes.add(caught.value.code)
    assert codes
    return codes.pop()


def where(shown: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.int64], ...]:
    """Towards right, front and head: where the voxel of each pixel lies."""
    return np.unravel_index(shown.astype(np.int64), SHAPE)


@pytest.mark.parametrize(
    "codes",
    ["".join(axes) for axes in itertools.product("RL", "AP", "SI")] + ["SPR", "AIL", "PSR"],
)
class TestPlanes:
    """However the axes are stored, the picture is the same."""

    def test_axial_slices_show_front_above_and_right_on_the_left(self, codes: str) -> None:
        right, front, head = where(values(as_bytes(stored_as(a_volume(), codes)), "axial"))
        assert right.shape == (34, 48, 36)
        assert np.all(head == np.arange(34)[:, None, None])  # from below to above
        assert np.all(np.diff(front, axis=1) == -1)
        assert np.all(np.diff(right, axis=2) == -1)

    def test_coronal_slices_show_head_above_and_right_on_the_left(self, codes: str) -> None:
        right, front, head = where(values(as_bytes(stored_as(a_volume(), codes)), "coronal"))
        assert right.shape == (48, 34, 36)
        assert np.all(front == np.arange(48)[:, None, None])  # from back to front
        assert np.all(np.diff(head, axis=1) == -1)
        assert np.all(np.diff(right, axis=2) == -1)

    def test_sagittal_slices_show_head_above_and_front_on_the_left(self, codes: str) -> None:
        right, front, head = where(values(as_bytes(stored_as(a_volume(), codes)), "sagittal"))
        assert right.shape == (36, 34, 48)
        assert np.all(right == np.arange(36)[:, None, None])
        assert np.all(np.diff(head, axis=1) == -1)
        assert np.all(np.diff(front, axis=2) == -1)

    @pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
    def test_geometry_points_at_the_voxels_that_are_shown(self, codes: str, plane: str) -> None:
        image = stored_as(a_volume(), codes)
        content = as_bytes(image)
        to_index = np.linalg.inv(a_volume().affine)
        shown = values(content, plane)
        for frame in inspect(content, plane=plane).frames:
            geometry, spacing = frame.geometry, frame.spacing
            assert geometry is not None
            assert spacing is not None
            for row, column in ((0, 0), (frame.rows - 1, 3), (5, frame.columns - 1)):
                lps = (
                    np.array(geometry.position)
                    + np.array(geometry.row_direction) * column * spacing[1]
                    + np.array(geometry.column_direction) * row * spacing[0]
                )
                index = np.rint(to_index @ [-lps[0], -lps[1], lps[2], 1.0]).astype(int)
                there = np.ravel_multi_index(index[:3], SHAPE)
                assert there == shown[frame.index, row, column]


class TestVolumes:
    @pytest.mark.parametrize(
        ("sizes", "plane"),
        [
            ((1, 1, 3), "axial"), ((1, 3, 1), "coronal"), ((3, 1, 1), "sagittal"),
            ((1, 1, 1), "axial"), ((0.5, 1, 1), "axial"), ((1, 0.5, 1), "axial"),
        ],
    )  # fmt: skip
    def test_the_acquired_plane_is_that_across_the_coarsest_spacing(
        self, sizes: tuple[float, float, float], plane: str
    ) -> None:
        facts = inspect(as_bytes(a_volume(sizes)))
        assert facts.plane == plane
        (plan,) = assemble([facts])
        assert (plan.plane, plan.is_volume, plan.slice_spacing) == (plane, True, max(sizes))

    def test_an_oblique_volume_keeps_its_tilt(self) -> None:
        tilt = np.eye(4)
        angle = math.radians(20)
        tilt[1:3, 1:3] = [
            [math.cos(angle), -math.sin(angle)],
            [math.sin(angle), math.cos(angle)],
        ]
        image = nib.Nifti1Image(np.zeros(SHAPE, np.int16), tilt @ a_volume().affine)
        geometry = inspect(as_bytes(image)).frames[0].geometry
        assert geometry is not None
        np.testing.assert_allclose(
            geometry.normal, (0, math.sin(angle), math.cos(angle)), atol=1e-6
        )

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("endianness", ["<", ">"])
    @pytest.mark.parametrize("packed", [False, True])
    def test_both_versions_and_byte_orders_are_read(
        self, kind: type[nib.Nifti1Image], endianness: str, packed: bool
    ) -> None:
        header = kind.header_class(endianness=endianness)
        header.set_data_dtype(np.int16)
        voxels = np.arange(math.prod(SHAPE)).reshape(SHAPE) % 3000 - 1000
        content = as_bytes(kind(voxels.astype(np.int16), np.eye(4), header))
        shown = values(gzip.compress(content) if packed else content)
        np.testing.assert_array_equal(shown[7], voxels[::-1, ::-1, 7].T)

    def test_a_file_packed_in_several_pieces_is_read(self) -> None:
        content = as_bytes(a_volume())
        pieces = gzip.compress(content[:5000]) + gzip.compress(content[5000:])
        np.testing.assert_array_equal(values(pieces), values(content))

    def test_scaling_is_applied(self) -> None:
        image = nib.Nifti1Image(np.full(SHAPE, 7, np.int16), np.eye(4))
        image.header.set_slope_inter(0.5, 3)
        content = bytearray(as_bytes(image))
        assert np.all(values(bytes(content)) == 6.5)

    def test_values_that_are_no_numbers_become_the_lowest(self) -> None:
        voxels = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
        voxels[0], voxels[1], voxels[2] = np.nan, np.inf, -np.inf
        shown = values(as_bytes(nib.Nifti1Image(voxels, np.eye(4))))
        lowest = voxels[3:].min()
        np.testing.assert_allclose(shown[..., -3:], lowest, atol=1e-3)
        np.testing.assert_allclose(
            shown[..., :-3], voxels[3:][::-1, ::-1].transpose(2, 1, 0), atol=1e-3
        )

    def test_micrometres_are_not_taken_for_millimetres(self) -> None:
        image = a_volume((1000.0, 1000.0, 2000.0))
        image.header.set_xyzt_units("micron")
        assert inspect(as_bytes(image)).frames[0].spacing == pytest.approx((1.0, 1.0))

    def test_a_fourth_dimension_of_one_is_none(self) -> None:
        image = nib.Nifti1Image(np.zeros((*SHAPE, 1), np.int16), np.eye(4))
        assert len(read_bytes(as_bytes(image))) == SHAPE[2]

    def test_a_single_slice_is_read(self) -> None:
        image = nib.Nifti1Image(np.ones((64, 48), np.int16), np.eye(4))
        (one,) = read_bytes(as_bytes(image))
        assert one.pixels.shape == (48, 64)


class TestExtensions:
    """What stands between the header and the voxels is passed over, whatever it is."""

    @pytest.mark.parametrize("kind", [nib.Nifti1Image, nib.Nifti2Image])
    @pytest.mark.parametrize("endianness", ["<", ">"])
    @pytest.mark.parametrize("lengths", [(8,), (300,), (24, 1000, 5), (70_000,), (2_000_000,)])
    def test_any_number_and_length(
        self, kind: type[nib.Nifti1Image], endianness: str, lengths: tuple[int, ...]
    ) -> None:
        header = kind.header_class(endianness=endianness)
        header.set_data_dtype(np.int32)
        image = kind(np.asarray(a_volume().dataobj), a_volume().affine, header)
        for length in lengths:
            one = nib.nifti1.Nifti1Extension("afni", b"x" * length)
            image.header.extensions.append(one)
        content = as_bytes(image)
        for sent in (content, gzip.compress(content, 1)):
            np.testing.assert_array_equal(values(sent), values(as_bytes(a_volume())))

    def test_extensions_that_make_no_sense_do_no_harm(self) -> None:
        content = as_bytes(a_volume())
        header = bytearray(content[:352])
        header[108:112] = np.float32(352 + 48).tobytes()
        header[348] = 1
        nonsense = struct.pack("<ii", -5, 4) + b"x" * 40
        damaged = bytes(header) + nonsense + content[352:]
        np.testing.assert_array_equal(values(damaged), values(content))


class TestGzipHeaders:
    @pytest.mark.parametrize("length", [100, 5000, 60_000, 3_000_000])
    def test_names_and_comments_can_be_long(self, length: int) -> None:
        packed = gzip.compress(as_bytes(a_volume()), mtime=0)
        named = packed[:3] + b"\x18" + packed[4:10] + b"n" * length + b"\0c\0" + packed[10:]
        np.testing.assert_array_equal(values(named), values(packed))
        assert len(strip_nifti(named, LIMITS)) < len(packed) + 100

    def test_extra_fields_can_be_long(self) -> None:
        packed = gzip.compress(as_bytes(a_volume()), mtime=0)
        extra = packed[:3] + b"\x04" + packed[4:10] + b"\xff\xff" + bytes(65535) + packed[10:]
        np.testing.assert_array_equal(values(extra), values(packed))

    def test_an_empty_member_and_zeros_in_front_and_behind(self) -> None:
        packed = gzip.compress(as_bytes(a_volume()))
        padded = gzip.compress(b"") + bytes(100_000) + packed + bytes(100)
        np.testing.assert_array_equal(values(padded), values(packed))

    def test_a_header_without_end_is_soon_refused(self) -> None:
        endless = b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * 50_000_000
        assert code_of(endless) in {"unsupported", "truncated"}


class TestRepairs:
    """Headers that nibabel, ITK and FSL repair are read as they read them."""

    def turned(self) -> nib.Nifti1Image:
        """A volume that only its quaternion places, half turned about the axis of the body."""
        image = a_volume((1.0, 1.0, 3.0))
        affine = np.diag([-1.0, -1.0, 3.0, 1.0])
        turned = nib.Nifti1Image(np.asarray(image.dataobj), affine)
        turned.header.set_qform(affine, code=1)
        turned.header.set_sform(None, code=0)
        return turned

    def same(self, content: bytes, image: nib.Nifti1Image) -> None:
        whole = as_bytes(image)
        np.testing.assert_array_equal(values(content), values(whole))
        np.testing.assert_array_equal(values(strip_nifti(content, LIMITS)), values(whole))
        assert inspect(content).frames[0].spacing == inspect(whole).frames[0].spacing

    def edited(self, image: nib.Nifti1Image, at: int, form: str, *numbers: float) -> bytes:
        content = bytearray(as_bytes(image))
        struct.pack_into(form, content, at, *numbers)
        return bytes(content)

    @pytest.mark.parametrize("factor", [0.0, 7.0, math.nan])
    def test_a_factor_of_the_quaternion_that_is_neither_1_nor_minus_1(self, factor: float) -> None:
        self.same(self.edited(self.turned(), 76, "<f", factor), self.turned())

    def test_a_negative_factor_still_mirrors(self) -> None:
        image = nib.Nifti1Image(np.asarray(a_volume().dataobj), np.diag([1, 1, -2.0, 1]))
        image.header.set_qform(image.affine, code=1)
        image.header.set_sform(None, code=0)
        _right, _front, head = where(values(as_bytes(image)))
        assert np.all(head == np.arange(34)[::-1, None, None])

    @pytest.mark.parametrize("length", [1.001, 1.02])
    def test_a_quaternion_that_rounding_has_made_too_long(self, length: float) -> None:
        self.same(self.edited(self.turned(), 264, "<f", length), self.turned())

    @pytest.mark.parametrize("number", [0.0, math.nan, math.inf])
    def test_a_matrix_of_nothing_beside_a_good_quaternion(self, number: float) -> None:
        image = self.turned()
        image.header.set_sform(image.header.get_qform(), code=1)
        self.same(self.edited(image, 280, "<12f", *[number] * 12), image)

    def test_voxels_without_a_size_measure_one_millimetre(self) -> None:
        image = self.turned()
        facts = inspect(self.edited(image, 80, "<3f", 0.0, 0.0, math.nan), plane="coronal")
        assert facts.frames[0].spacing == (1.0, 1.0)
        image.header.set_sform(np.diag([-1, -1, 3.0, 1]), code=1)
        self.same(self.edited(image, 80, "<3f", 0.0, 0.0, 0.0), image)

    def test_a_single_slice_whose_matrix_has_no_third_direction(self) -> None:
        image = nib.Nifti1Image(np.ones((64, 48, 1), np.int16), np.diag([2.0, 2.0, 1.0, 1.0]))
        content = self.edited(image, 280, "<12f", 2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0)
        facts = inspect(content)
        assert (facts.plane, facts.frames[0].spacing) == ("axial", (2.0, 2.0))

    def test_no_place_at_all_is_named(self) -> None:
        image = a_volume()
        image.header.set_qform(None, code=0)
        assert code_of(self.edited(image, 280, "<12f", *[0.0] * 12)) == "no_orientation"
        long = self.edited(self.turned(), 256, "<3f", 3.0, 4.0, 5.0)
        assert code_of(long) == "no_orientation"


class TestPlaneByThickness:
    @pytest.mark.parametrize(
        ("shape", "sizes", "plane"),
        [
            ((64, 64, 12), (3, 3, 2.5), "axial"), ((64, 64, 40), (3.5, 3, 3), "axial"),
            ((12, 64, 64), (1, 1, 1), "sagittal"), ((64, 1, 64), (1, 1, 1), "coronal"),
            ((64, 64, 60), (1, 1.3, 1), "axial"), ((64, 64, 60), (1, 1.5, 1), "coronal"),
            ((64, 64, 31), (5, 1, 1), "axial"),
        ],
    )  # fmt: skip
    def test_short_axes_and_clearly_larger_spacings_tell_it_and_nothing_else(
        self, shape: tuple[int, int, int], sizes: tuple[float, float, float], plane: str
    ) -> None:
        image = nib.Nifti1Image(np.ones(shape, np.int16), np.diag([*sizes, 1.0]))
        facts = inspect(as_bytes(image))
        axis = ("sagittal", "coronal", "axial").index(plane)
        assert (facts.plane, len(facts.frames)) == (plane, shape[axis])


class TestRefusals:
    def test_files_that_hold_no_image_are_named(self) -> None:
        image = nib.Nifti2Image(np.zeros((1, 1, 1, 1, 40, 50), np.float32), np.eye(4))
        image.header["intent_code"] = 3002
        assert code_of(as_bytes(image)) == "cifti"
        analyze = nib.AnalyzeHeader()
        analyze.set_data_shape(SHAPE)
        assert code_of(bytes(analyze.binaryblock)) == "header_only"

    @pytest.mark.parametrize("axis", [3, 4])
    def test_an_axis_of_length_0_is_named(self, axis: int) -> None:
        content = bytearray(as_bytes(nib.Nifti1Image(np.ones((40, 40, 40, 1)), np.eye(4))))
        struct.pack_into("<2h", content, 40, 4, 40)
        struct.pack_into("<h", content, 40 + 2 * axis, 0)
        assert code_of(bytes(content)) == "no_voxels"

    def test_metres_that_must_be_millimetres_are_named(self) -> None:
        image = a_volume()
        image.header.set_xyzt_units("meter")
        assert code_of(as_bytes(image)) == "voxel_size"
        image = a_volume((0.001, 0.001, 0.002))
        image.header.set_xyzt_units("meter")
        assert inspect(as_bytes(image)).frames[0].spacing == pytest.approx((1.0, 1.0))

    def test_volumes_over_time(self) -> None:
        image = nib.Nifti1Image(np.zeros((*SHAPE, 2), np.int16), np.eye(4))
        assert code_of(as_bytes(image)) == "four_dimensional"

    def test_colour_and_complex_volumes(self) -> None:
        colour = np.zeros(SHAPE, [("R", "u1"), ("G", "u1"), ("B", "u1")])
        assert code_of(as_bytes(nib.Nifti1Image(colour, np.eye(4)))) == "colour_volume"
        image = nib.Nifti1Image(np.zeros(SHAPE, np.complex64), np.eye(4))
        assert code_of(as_bytes(image)) == "unsupported"

    def test_a_header_without_its_voxels(self) -> None:
        content = bytearray(as_bytes(a_volume())[:352])
        content[344:348] = b"ni1\0"
        assert code_of(bytes(content)) == "header_only"

    def test_sizes_beyond_the_limits(self) -> None:
        content = as_bytes(a_volume())
        assert code_of(content, Limits(max_slices=33)) == "too_many_slices"
        assert code_of(content, Limits(max_total_bytes=1000)) == "too_many_pixels"
        assert code_of(content, Limits(max_pixels=1000)) == "too_many_pixels"
        assert code_of(content, Limits(min_side=37)) == "too_small"

    @pytest.mark.parametrize("end", [5, 348, 352, 5000, -1])
    @pytest.mark.parametrize("packed", [False, True])
    def test_incomplete_files(self, end: int, packed: bool) -> None:
        content = as_bytes(a_volume())
        cut = gzip.compress(content[:end]) if packed else content[:end]
        assert code_of(cut) in {"truncated", "unsupported"}

    def test_a_damaged_archive(self) -> None:
        content = gzip.compress(as_bytes(a_volume()))
        assert code_of(content[: len(content) // 2]) == "truncated"

    @pytest.mark.parametrize("offset", [math.nan, math.inf, -1e30, 1e12])
    def test_voxels_that_start_nowhere(self, offset: float) -> None:
        content = bytearray(as_bytes(a_volume()))
        content[108:112] = np.float32(offset).tobytes()
        if offset == -1e30:  # taken for the earliest place that it could be
            assert len(read_bytes(bytes(content))) == 34
        else:
            assert code_of(bytes(content)) == "truncated"

    def test_more_voxels_than_there_are_cost_nothing(self) -> None:
        content = bytearray(as_bytes(a_volume()))
        content[42:48] = np.array([800, 800, 400], "<i2").tobytes()
        for liar in (bytes(content), gzip.compress(content)):
            tracemalloc.start()
            assert code_of(liar) == "truncated"
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert peak < 40 * 2**20

    def test_an_archive_that_never_ends_is_read_no_further_than_announced(self) -> None:
        content = as_bytes(a_volume())
        buffer = io.BytesIO()
        with gzip.GzipFile(fileobj=buffer, mode="wb") as packer:
            packer.write(content)
            for _ in range(200):
                packer.write(bytes(2**20))
        tracemalloc.start()
        np.testing.assert_array_equal(values(buffer.getvalue()), values(content))
        assert len(strip_nifti(buffer.getvalue(), LIMITS)) < len(content)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 40 * 2**20

    @settings(max_examples=300, deadline=None)
    @given(st.data())
    def test_damaged_headers_never_raise_anything_else(self, data: st.DataObject) -> None:
        content = bytearray(as_bytes(a_volume()))
        for _ in range(data.draw(st.integers(1, 10))):
            content[data.draw(st.integers(0, 351))] = data.draw(st.integers(0, 255))
        for ask in (inspect, read_bytes, lambda one: strip_nifti(one, LIMITS)):
            with contextlib.suppress(UnreadableImage):
                ask(bytes(content))


class TestStripping:
    NAME = b"Roentgen Wilhelmina"

    def identifying(self) -> bytes:
        image = stored_as(a_volume(), "PSR")
        image.header.set_slope_inter(0.25, -3)
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            size = image.header[field].dtype.itemsize
            image.header[field] = self.NAME[:size]
        image.header.extensions.append(nib.nifti1.Nifti1Extension("comment", self.NAME))
        buffer = io.BytesIO()
        with gzip.GzipFile(self.NAME.decode(), "wb", fileobj=buffer, mtime=1_700_000_000) as file:
            file.write(as_bytes(image))
        return buffer.getvalue()

    def test_nothing_but_the_volume_is_left(self) -> None:
        content = self.identifying()
        assert self.NAME[:8] in gzip.decompress(content)
        stripped = strip_nifti(content, LIMITS)
        assert stripped[3:10] == bytes(5) + stripped[8:10]  # neither a name nor a time
        assert self.NAME[:8] not in stripped
        opened = gzip.decompress(stripped)
        assert self.NAME[:8] not in opened
        header = nib.Nifti1Image.from_bytes(opened).header
        assert not header.extensions
        for field in ("descrip", "aux_file", "db_name", "intent_name"):
            assert not header[field].item()

    def test_the_volume_stays_what_it_was(self) -> None:
        content = self.identifying()
        stripped = strip_nifti(content, LIMITS)
        np.testing.assert_array_equal(values(stripped), values(content))
        for plane in ("axial", "coronal", "sagittal"):
            before, after = inspect(content, plane=plane), inspect(stripped, plane=plane)
            for one, other in zip(before.frames, after.frames, strict=True):
                assert one.geometry is not None
                assert other.geometry is not None
                np.testing.assert_allclose(one.geometry.position, other.geometry.position, 1e-5)

    def test_stripping_twice_changes_nothing(self) -> None:
        once = strip_nifti(self.identifying(), LIMITS)
        assert strip_nifti(once, LIMITS) == once


@pytest.mark.data
def test_glioma_volumes_look_as_nibabel_orients_them(data_root: Path) -> None:
    paths = sorted((data_root / "nifti-glioma").rglob("*.nii.gz"))
    assert len(paths) == 8
    for path in paths:
        image = nib.as_closest_canonical(nib.load(path))
        voxels = np.asarray(image.dataobj, dtype=np.float64)
        slices = read_bytes(path.read_bytes())
        assert len(slices) == 24
        step = max(one.scale for one in slices)
        for number, one in enumerate(slices):
            np.testing.assert_allclose(
                one.pixels * one.scale + one.offset, voxels[::-1, ::-1, number].T, atol=step
            )


def test_reorienting_helper_moves_no_voxel() -> None:
    image = stored_as(a_volume(), "PSR")
    assert nib.aff2axcodes(image.affine) == ("P", "S", "R")
    ornt = ornt_transform(axcodes2ornt(("R", "A", "S")), axcodes2ornt(("P", "S", "R")))
    np.testing.assert_allclose(image.affine, a_volume().affine @ inv_ornt_aff(ornt, SHAPE))
