"""Which patient codes are questioned, and which pass."""

import pytest

from webapp.intake.codes import CodeDoubt, doubt_about


@pytest.mark.parametrize(
    "code",
    [
        "",
        "P-7KQ2",
        "S-1",
        "STUDY 12",
        "MRN 0012345",
        "C4711",
        "K-77",
        "DEMO-01",
        "P-1001",
        "P001",
        "ABC",
        "AB-CD",
        "X",
        "12345678",
        "0012345",
        "470611",
        "anonymous",
        "Patient 3",
        "subject 12 visit 2",
        "sub-01",
        "2031-99-99",
        "A/B:12.7+3",
        "HOSP-4711-X",
        "99999999",
        "P-23456789AB",
    ],
)
def test_pseudonym_passes_without_question(code: str) -> None:
    assert doubt_about(code) is None


@pytest.mark.parametrize(
    "code",
    [
        "Jane Doe",
        "jane doe",
        "DOE JANE",
        "Doe, Jane",
        "Doe,Jane",
        "DOE^JANE",
        "DOE^JANE^^DR",
        "Doe_Jane",
        "Doe.Jane",
        "Anna-Maria",
        "Smith",
        "SMITH",
        "smith",
        "Müller",
        "Li Wu",
        "Jane Doe 2",
        "Patient Smith",
        "O'Neill",
        "王伟",
        "Иванова Анна",
    ],
)
def test_name_is_questioned(code: str) -> None:
    assert doubt_about(code) is CodeDoubt.NAME


@pytest.mark.parametrize(
    "code",
    [
        "19470611",
        "P-19470611",
        "P19470611X",
        "11061947",
        "11.06.1947",
        "1.6.1947",
        "11/06/1947",
        "06/23/1947",
        "11-06-1947",
        "1947-06-11",
        "1947/06/11",
        "11.06.47",
        "11/06/47",
        "47-06-11",
        "11 06 1947",
        "11 June 1947",
        "11JUN1947",
        "11-jun-47",
        "110647-1234",
        "Jane Doe 11.06.1947",
        "K-1 1947-06-11",
    ],
)
def test_date_of_birth_is_questioned_wherever_it_stands(code: str) -> None:
    assert doubt_about(code) is CodeDoubt.DATE
