"""Which way the patient lies in a slice."""

import pytest

from webapp.studies.models import Series
from webapp.viewer.orientation import Edges, edges_of, patient_orientation

# Along the rows and down the columns, in DICOM's patient system: left, back, head.
PLANES = {
    "axial": ([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], Edges("R", "L", "A", "P")),
    "coronal": ([1.0, 0.0, 0.0], [0.0, 0.0, -1.0], Edges("R", "L", "H", "F")),
    "sagittal": ([0.0, 1.0, 0.0], [0.0, 0.0, -1.0], Edges("A", "P", "H", "F")),
    "axial from above": ([-1.0, 0.0, 0.0], [0.0, 1.0, 0.0], Edges("L", "R", "A", "P")),
    "tilted": ([1.0, 0.0, 0.0], [0.0, 0.94, -0.342], Edges("R", "L", "AH", "PF")),
    "hardly tilted": ([0.9962, 0.0872, 0.0], [0.0, 1.0, 0.0], Edges("R", "L", "A", "P")),
    "oblique": ([0.6, 0.8, 0.0], [0.0, 0.0, -1.0], Edges("AR", "PL", "H", "F")),
}


@pytest.mark.parametrize("plane", PLANES)
def test_edges_are_where_the_directions_of_rows_and_columns_lead(plane: str) -> None:
    row, column, expected = PLANES[plane]
    series = Series(row_direction=row, column_direction=column)
    assert edges_of(series) == expected
    assert patient_orientation(series) == (expected.right, expected.bottom)


@pytest.mark.parametrize(
    ("row", "column"), [(None, None), ([1.0, 0.0, 0.0], None), (None, [0.0, 1.0, 0.0])]
)
def test_nothing_is_said_where_the_file_does_not_tell(
    row: list[float] | None, column: list[float] | None
) -> None:
    series = Series(row_direction=row, column_direction=column)
    assert edges_of(series) is None
    assert patient_orientation(series) is None
