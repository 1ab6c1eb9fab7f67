"""Files are split into series and ordered by their place in the head, not by their names."""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ml.imaging import FileFacts, FrameFacts, Geometry, inspect
from ml.imaging.series import SeriesPlan, assemble
from tests.dicoms import axial_series

AXIAL = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0))
CORONAL = ((1.0, 0.0, 0.0), (0.0, 0.0, -1.0))
SAGITTAL = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0))


def a_slice(
    position: tuple[float, float, float] | None,
    *,
    directions: tuple[tuple[float, float, float], tuple[float, float, float]] = AXIAL,
    number: int | None = None,
    contrast: str = "",
    uid: str | None = None,
    series: str = "S",
    size: int = 64,
    spacing: tuple[float, float] = (1.0, 1.0),
) -> FileFacts:
    geometry = Geometry(position, *directions) if position else None
    frame = FrameFacts(0, size, size, spacing, geometry, (contrast,))
    return FileFacts(
        "DICOM", (frame,), "MR", series_uid=series, sop_uid=uid, instance_number=number
    )


def stack(count: int, step: float = 3.0, **values: object) -> list[FileFacts]:
    return [a_slice((0.0, 0.0, n * step), number=n + 1, **values) for n in range(count)]


def axial_facts(count: int) -> list[FileFacts]:
    return [inspect(content) for content in axial_series(count)]


def order(plan: SeriesPlan) -> list[int]:
    return [placed.file for placed in plan.slices]


class TestOrder:
    def test_axial_slices_go_from_below_to_above_whatever_their_numbers_say(self) -> None:
        files = [replace(one, instance_number=9 - number) for number, one in enumerate(stack(9))]
        shuffled = list(range(9))
        random.Random(3).shuffle(shuffled)
        (plan,) = assemble([files[at] for at in shuffled])
        assert [shuffled[at] for at in order(plan)] == list(range(9))
        assert (plan.plane, plan.is_volume, plan.slice_spacing, plan.missing) == (
            "axial", True, 3.0, 0,
        )  # fmt: skip
        assert [placed.position for placed in plan.slices] == [n * 3.0 for n in range(9)]

    @pytest.mark.parametrize(
        ("directions", "axis", "plane"), [(CORONAL, 1, "coronal"), (SAGITTAL, 0, "sagittal")]
    )
    def test_other_planes_go_towards_back_and_left(
        self, directions: object, axis: int, plane: str
    ) -> None:
        files = []
        for place in (4.0, 0.0, 2.0):
            position = [0.0, 0.0, 0.0]
            position[axis] = place
            files.append(a_slice(tuple(position), directions=directions))
        (plan,) = assemble(files)
        assert (plan.plane, order(plan)) == (plane, [1, 2, 0])

    def test_tilted_slices_are_still_axial_and_far_tilted_ones_oblique(self) -> None:
        for degrees, plane in ((25, "axial"), (46, None)):
            angle = np.radians(degrees)
            tilted = ((1.0, 0.0, 0.0), (0.0, float(np.cos(angle)), float(np.sin(angle))))
            (plan,) = assemble([a_slice((0, 0, z), directions=tilted) for z in (0.0, 5.0, 10.0)])
            if plane:
                assert plan.plane == plane
            assert plan.slice_spacing == pytest.approx(5 * np.cos(angle))
        diagonal = ((0.7071068, -0.7071068, 0.0), (0.4082483, 0.4082483, -0.8164966))
        (plan,) = assemble([a_slice((0, 0, 0), directions=diagonal)])
        assert plan.plane == "oblique"

    def test_without_geometry_the_number_orders_and_nothing_is_called_a_volume(self) -> None:
        (plan,) = assemble([a_slice(None, number=n) for n in (3, 1, 2)])
        assert order(plan) == [1, 2, 0]
        assert (plan.plane, plan.is_volume, plan.slice_spacing) == (None, False, None)

    def test_pictures_keep_the_order_in_which_they_came(self) -> None:
        pictures = [FileFacts(kind, (FrameFacts(0, 64, 64),)) for kind in ("PNG", "JPEG", "PNG")]
        (plan,) = assemble(pictures)
        assert order(plan) == [0, 1, 2]
        assert plan.modality is None


class TestOrderWithoutGeometry:
    """Where directions are missing, whatever else says where a slice lies orders them."""

    def located(self, location: object, number: int | None = None, contrast: str = "") -> FileFacts:
        one = a_slice(None, number=number, contrast=contrast)
        return replace(one, frames=(replace(one.frames[0], location=location),))

    def test_the_scanner_s_location_comes_before_the_number(self) -> None:
        files = [self.located(z, number=n) for n, z in enumerate((5.0, -10.0, 0.0, -5.0))]
        (plan,) = assemble(files)
        assert (order(plan), plan.order, plan.is_volume) == ([1, 3, 2, 0], "location", False)
        assert [placed.position for placed in plan.slices] == [-10.0, -5.0, 0.0, 5.0]

    @pytest.mark.parametrize("line", [(0.0, 0.0, 1.0), (0.0, -0.3, 0.95), (1.0, 0.0, 0.1)])
    def test_positions_without_directions_order_towards_left_back_and_head(
        self, line: tuple[float, float, float]
    ) -> None:
        files = [
            self.located(tuple(place * one - 7.0 for one in line)) for place in (6.0, 0.0, 9.0, 3.0)
        ]
        (plan,) = assemble(files)
        assert (order(plan), plan.order, plan.duplicates) == ([1, 3, 0, 2], "location", ())

    def test_nothing_is_taken_for_a_copy_and_marks_tell_stacks_apart(self) -> None:
        files = [self.located(float(z), contrast=echo) for echo in "ab" for z in (2, 0, 1)]
        assert [order(plan) for plan in assemble(files)] == [[1, 2, 0], [4, 5, 3]]
        unmarked = [self.located(float(z)) for z in (2, 0, 1, 0)]
        (plan,) = assemble(unmarked)
        assert order(plan) == [1, 3, 2, 0]

    def test_without_a_location_of_each_it_is_the_number_or_what_was_given(self) -> None:
        files = [self.located(1.0, number=2), self.located(None, number=1)]
        (plan,) = assemble(files)
        assert (order(plan), plan.order) == ([1, 0], "number")
        (plan,) = assemble([self.located(None), self.located(None)])
        assert (order(plan), plan.order) == ([0, 1], "given")
        (plan,) = assemble([self.located(4.0, number=2), self.located(4.0, number=1)])
        assert (order(plan), plan.order) == ([1, 0], "number")


class TestSplitting:
    @pytest.mark.parametrize("mark", ["b 1000", ""])
    def test_a_second_run_that_was_given_up_stands_by_itself(self, mark: str) -> None:
        files = stack(6)
        files += [a_slice((0.0, 0.0, n * 3.0), number=7 + n, contrast=mark) for n in range(2)]
        first, second = assemble(files)
        assert (order(first), first.is_volume, first.duplicates) == (list(range(6)), True, ())
        assert (order(second), second.is_volume, second.duplicates) == ([6, 7], False, ())

    def test_a_marked_slice_again_is_no_copy_and_marks_of_each_slice_split_nothing(self) -> None:
        again = a_slice((0.0, 0.0, 6.0), number=9, contrast="b 1000")
        assert [len(plan.slices) for plan in assemble([*stack(6), again])] == [6, 1]
        each = [a_slice((0, 0, n * 3.0), contrast=f"echo {n}") for n in range(5)]
        (plan,) = assemble([*each, a_slice((0, 0, 6.0), contrast="echo 9")])
        assert (len(plan.slices), len(plan.duplicates)) == (5, 1)

    def test_frames_of_one_place_are_one_series_in_the_order_of_the_file(self) -> None:
        place = Geometry((0.0, 0.0, 5.0), *AXIAL)
        frames = tuple(FrameFacts(index, 64, 64, (1.0, 1.0), place) for index in range(12))
        file = FileFacts("DICOM", frames, "MR", series_uid="S")
        for plan in (*assemble([file]), *assemble([file, file])):
            assert [placed.frame for placed in plan.slices] == list(range(12))
            assert (plan.plane, plan.is_stack, plan.order) == ("axial", False, "given")
        assert len(assemble([file, file])) == 2

    def test_series_sizes_and_spacings_fall_apart(self) -> None:
        files = stack(3) + stack(4, series="T") + stack(3, size=128) + stack(5, spacing=(2.0, 2.0))
        assert [len(plan.slices) for plan in assemble(files)] == [3, 3, 5, 4]

    def test_localizers_fall_apart_by_direction(self) -> None:
        files = [
            a_slice((place, place, place), directions=directions)
            for place in (0.0, 10.0)
            for directions in (AXIAL, CORONAL, SAGITTAL)
        ]
        plans = assemble(files)
        assert [plan.plane for plan in plans] == ["axial", "coronal", "sagittal"]
        assert not any(plan.is_volume for plan in plans)

    def test_directions_that_differ_by_rounding_belong_together(self) -> None:
        files = []
        for number in range(6):
            noise = 0.005 + (number % 2) * 2e-6
            files.append(
                a_slice((0, 0, number * 3.0), directions=((1.0, noise, 0.0), (-noise, 1.0, 0.0)))
            )
        (plan,) = assemble(files)
        assert plan.is_volume

    def test_echoes_become_a_volume_each(self) -> None:
        plans = assemble(stack(5, contrast="echo 1") + stack(5, contrast="echo 2"))
        assert [order(plan) for plan in plans] == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]
        assert all(plan.is_volume for plan in plans)

    def test_marks_that_differ_from_slice_to_slice_split_nothing(self) -> None:
        files = [a_slice((0, 0, n * 3.0), contrast=f"echo {n}") for n in range(5)]
        (plan,) = assemble(files)
        assert plan.is_volume

    def test_points_in_time_without_marks_become_a_volume_each(self) -> None:
        times = [
            a_slice((0, 0, place * 3.0), number=turn * 4 + place + 1)
            for place in range(4)
            for turn in range(3)
        ]
        plans = assemble(times)
        assert [len(plan.slices) for plan in plans] == [4, 4, 4]
        numbers = [[times[at].instance_number for at in order(plan)] for plan in plans]
        assert numbers == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]

    def test_frames_of_one_file_are_ordered_like_files(self) -> None:
        frames = tuple(
            FrameFacts(index, 64, 64, (1.0, 1.0), Geometry((0.0, 0.0, z), *AXIAL))
            for index, z in enumerate((6.0, 0.0, 3.0))
        )
        (plan,) = assemble([FileFacts("DICOM", frames, "MR", series_uid="S")])
        assert [placed.frame for placed in plan.slices] == [1, 2, 0]
        assert plan.is_volume


class TestRounding:
    """Writers that keep whole millimetres alone."""

    @pytest.mark.parametrize("step", [1.25, 1.3, 1.5, 2.4, 3.3, 4.5, 5.333, 6.7])
    @pytest.mark.parametrize("start", [-40.0, -17.6])
    def test_rounded_steps_are_even_and_leave_nothing_missing(
        self, step: float, start: float
    ) -> None:
        files = [a_slice((0.0, 0.0, float(round(start + n * step)))) for n in range(24)]
        (plan,) = assemble(files)
        assert (len(plan.slices), plan.missing, plan.is_volume) == (24, 0, True)
        assert plan.slice_spacing == pytest.approx(step, abs=0.05)

    @pytest.mark.parametrize("direction", [1, -1])
    @pytest.mark.parametrize("step", [0.6, 0.8, 0.9])
    def test_slices_that_rounding_brought_to_one_place_are_no_copies(
        self, step: float, direction: int
    ) -> None:
        files = [
            a_slice((0.0, 0.0, float(round(n * step))), number=50 + direction * n)
            for n in range(24)
        ]
        (plan,) = assemble(files[::-1])
        assert (order(plan), plan.duplicates, plan.is_volume) == (list(range(24))[::-1], (), True)
        assert plan.slice_spacing == pytest.approx(step, abs=0.05)

    @pytest.mark.parametrize("gone", [{9}, {3, 4}, {5, 6, 7}, {2, 15}])
    @pytest.mark.parametrize("step", [1.0, 2.0, 3.0])
    def test_whole_millimetres_with_gaps_still_have_gaps(self, step: float, gone: set[int]) -> None:
        (plan,) = assemble([one for n, one in enumerate(stack(24, step=step)) if n not in gone])
        assert (plan.missing, plan.is_volume, plan.slice_spacing) == (len(gone), False, step)


class TestShear:
    """A stack whose direction is not that of its slices would be drawn askew as a volume."""

    def tilted(self, degrees: float, along: tuple[float, float, float]) -> SeriesPlan:
        angle = np.radians(degrees)
        directions = ((1.0, 0.0, 0.0), (0.0, float(np.cos(angle)), float(np.sin(angle))))
        places = [tuple(n * 5.0 * one for one in along) for n in range(24)]
        (plan,) = assemble([a_slice(place, directions=directions) for place in places[::-1]])
        assert order(plan) == list(range(24))[::-1]
        return plan

    def test_a_gantry_s_tilt_makes_a_stack_in_order_and_no_volume(self) -> None:
        plan = self.tilted(15, (0.0, 0.0, 1.0))
        assert (plan.is_stack, plan.is_volume, plan.missing) == (True, False, 0)

    def test_an_oblique_stack_along_its_normal_is_a_volume(self) -> None:
        normal = (0.0, -float(np.sin(np.radians(15))), float(np.cos(np.radians(15))))
        assert self.tilted(15, normal).is_volume


class TestGapsAndCopies:
    def test_missing_slices_are_counted(self) -> None:
        files = stack(10)
        del files[3:5], files[5]
        (plan,) = assemble(files)
        assert (len(plan.slices), plan.missing, plan.is_volume) == (7, 3, False)
        assert plan.slice_spacing == 3.0

    def test_uneven_distances_make_no_volume_and_name_nothing_missing(self) -> None:
        (plan,) = assemble([a_slice((0, 0, z)) for z in (0.0, 3.0, 7.3, 9.0, 13.1)])
        assert (plan.missing, plan.is_volume) == (0, False)

    def test_parallel_slices_stay_a_stack_with_gaps_and_at_uneven_steps(self) -> None:
        gaps = stack(10)
        del gaps[3:5], gaps[5]
        steps = [a_slice((0, 0, z)) for z in (0.0, 3.0, 7.3, 9.0, 13.1)]
        tilted = [a_slice((0, 0.4 * z, z)) for z in (0.0, 3.0, 7.3, 9.0, 31.0)]
        for files in (gaps, steps, tilted):
            (plan,) = assemble(files[::-1])
            assert (plan.is_stack, plan.is_volume) == (True, False)
            places = [placed.position for placed in plan.slices if placed.position is not None]
            assert places == sorted(places)
            assert len(places) == len(files)

    def test_every_volume_is_a_stack(self) -> None:
        for files in (stack(3), stack(9, step=1.0), axial_facts(7)):
            (plan,) = assemble(files)
            assert (plan.is_stack, plan.is_volume) == (True, True)

    def test_slices_that_do_not_stand_behind_one_another_are_no_stack(self) -> None:
        aside = [*stack(6), a_slice((90.0, 0.0, 6.0))]
        shifted = [a_slice((40.0 * (n % 2), 0, n * n * 3.0)) for n in range(6)]
        unplaced = [a_slice(None, number=n) for n in range(6)]
        pictures = [FileFacts("PNG", (FrameFacts(0, 64, 64),)) for _ in range(6)]
        for files in (aside, shifted, unplaced, pictures, stack(2)):
            (plan,) = assemble(files)
            assert (plan.is_stack, plan.is_volume) == (False, False)

    def test_the_same_object_twice_is_taken_once(self) -> None:
        files = [
            a_slice((0, 0, n * 3.0), uid=f"1.{n}", contrast=mark)
            for n, mark in ((0, "a"), (1, "b"), (0, "a"), (2, "c"))
        ]
        (plan,) = assemble(files)
        assert (order(plan), plan.duplicates) == ([0, 1, 3], (2,))

    def test_a_place_shown_twice_is_taken_once(self) -> None:
        (plan,) = assemble([*stack(6), a_slice((0.0, 0.0, 6.001), uid="another")])
        assert (len(plan.slices), plan.duplicates, plan.is_volume) == (6, (6,), True)

    def test_two_parts_of_one_level_are_both_kept(self) -> None:
        (plan,) = assemble([*stack(6), a_slice((90.0, 0.0, 6.0))])
        assert (len(plan.slices), plan.duplicates, plan.is_volume) == (7, (), False)

    def test_slices_that_are_shifted_sideways_make_no_volume(self) -> None:
        files = [a_slice((40.0 * (n % 2), 0, n * 3.0)) for n in range(6)]
        (plan,) = assemble(files)
        assert not plan.is_volume

    def test_two_slices_are_no_volume(self) -> None:
        (plan,) = assemble(stack(2))
        assert not plan.is_volume

    def test_nothing_makes_nothing(self) -> None:
        assert assemble([]) == []


def test_a_made_up_series_read_from_its_files_stands_in_order() -> None:
    contents = axial_series(7, spacing=2.5)
    (plan,) = assemble([inspect(contents[at]) for at in (6, 2, 0, 5, 1, 3, 4)])
    assert order(plan) == [2, 4, 1, 5, 6, 3, 0]
    assert plan.slice_spacing == pytest.approx(2.5)


@pytest.mark.data
def test_healthy_series_is_one_volume_of_thirty_slices(data_root: Path) -> None:
    paths = sorted((data_root / "dicom-t1-healthy").iterdir())
    facts = [inspect(path.read_bytes()) for path in paths]
    (plan,) = assemble(facts[::-1])
    assert (plan.plane, plan.is_volume, plan.missing, plan.duplicates) == ("axial", True, 0, ())
    assert plan.slice_spacing == pytest.approx(5.333, abs=0.01)
    assert plan.modality == "MR"
    heights = [
        geometry.position[2]
        for placed in plan.slices
        if (geometry := facts[::-1][placed.file].frames[0].geometry)
    ]
    assert len(heights) == 30
    assert heights == sorted(heights)


@pytest.mark.data
def test_glioma_volumes_are_axial_from_below_to_above(data_root: Path) -> None:
    for path in (data_root / "nifti-glioma").rglob("*.nii.gz"):
        (plan,) = assemble([inspect(path.read_bytes())])
        assert (plan.plane, plan.is_volume, len(plan.slices)) == ("axial", True, 24)
        assert [placed.frame for placed in plan.slices] == list(range(24))
