"""Which files seem to belong to which patient, by their names and folders."""

import pytest

from webapp.intake.grouping import patients_by_name


@pytest.mark.parametrize(
    ("paths", "groups"),
    [
        (
            ["pat01_slice03.png", "pat02_slice01.png", "pat01_slice04.png"],
            {"pat01": (0, 2), "pat02": (1,)},
        ),
        (["P001-1.jpg", "P001-2.jpg", "P002-1.jpg"], {"P001": (0, 1), "P002": (2,)}),
        (["sub-01_T1w.nii.gz", "sub-02_T1w.nii.gz"], {"sub-01": (0,), "sub-02": (1,)}),
        (["1007_3.png", "1008_1.png"], {"1007": (0,), "1008": (1,)}),
        (["A1-1.png", "A2-1.png", "more.png"], {"A1": (0,), "A2": (1,), "": (2,)}),
        (["all/PAT1/a.png", "all/PAT2/a.png"], {"PAT1": (0,), "PAT2": (1,)}),
        (["P1/SER1/1.png", "P1/SER2/1.png", "P2/SER1/1.png"], {"P1": (0, 1), "P2": (2,)}),
        (["Doe_Jane/1.png", "Roe_Ann/1.png"], {"Doe_Jane": (0,), "Roe_Ann": (1,)}),
        (["P1.zip/1.png", "P2.zip/1.png"], {"P1.zip": (0,), "P2.zip": (1,)}),
    ],
)
def test_several_patients_are_told_apart(
    paths: list[str], groups: dict[str, tuple[int, ...]]
) -> None:
    assert {group.label: group.members for group in patients_by_name(paths)} == groups


@pytest.mark.parametrize(
    "paths",
    [
        ["Tr-gl_0010.jpg", "Tr-gl_0011.jpg", "Tr-gl_0012.jpg"],
        ["glioma-1.jpg", "glioma-2.jpg", "meningioma-1.jpg"],
        ["slice1.png", "slice2.png"],
        ["IM-0001-0001.dcm", "IM-0002-0001.dcm"],
        ["1918.jpg", "2030.jpg"],
        ["scan (1).png", "scan (2).png"],
        ["20240105_101112.jpg", "20240106_101112.jpg"],
        ["SER1/IM0001", "SER2/IM0001"],
        ["brain/axial/1.png", "brain/sagittal/1.png"],
        ["P1/SER1/1.png", "P1/SER2/1.png"],
        ["pat01_slice03.png", "pat01_slice04.png"],
        ["S_20240105/1.png", "S_20240106/1.png"],
        ["P001.tif", "P002.tif"],
        ["P001.webp", "P002.heic", "P003.mgz", "P004.nrrd"],
        ["a.png"],
    ],
)
def test_running_numbers_and_series_are_one_patient(paths: list[str]) -> None:
    assert len(patients_by_name(paths)) == 1
