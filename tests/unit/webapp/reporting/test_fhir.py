"""The FHIR bundle: valid R4, and all that it refers to is inside."""

import json
from collections.abc import Iterator
from typing import Any

import pytest
from fhir.resources.R4B.bundle import Bundle

from tests.unit.webapp.reporting.results import Results
from webapp.reporting.content import NOTICE, ReportContent
from webapp.reporting.fhir import diagnostic_report


def resources(content: ReportContent, kind: str) -> list[dict[str, Any]]:
    entries = diagnostic_report(content)["entry"]
    return [each["resource"] for each in entries if each["resource"]["resourceType"] == kind]


def references(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        if isinstance(value.get("reference"), str):
            yield value["reference"]
        for inner in value.values():
            yield from references(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from references(inner)


@pytest.mark.parametrize("kind", ["picture", "dicom"])
def test_bundle_is_valid_fhir(results: Results, kind: str) -> None:
    key = results.dicom_slice() if kind == "dicom" else results.picture_slice()
    bundle = diagnostic_report(results.content(key))
    Bundle.model_validate_json(json.dumps(bundle))
    inside = {entry["fullUrl"] for entry in bundle["entry"]}
    assert set(references(bundle)) <= inside


def test_report_is_preliminary_coded_and_carries_the_notice(results: Results) -> None:
    (report,) = resources(results.content(), "DiagnosticReport")
    assert report["status"] == "preliminary"
    assert report["code"]["coding"][0]["code"] == "24590-2"
    assert report["conclusionCode"][0]["coding"][0] == {
        "system": "http://snomed.info/sct",
        "code": "393564001",
        "display": "Glioma",
    }
    assert NOTICE in report["conclusion"]
    assert NOTICE in report["text"]["div"]


def test_patient_is_a_pseudonym_alone(results: Results) -> None:
    (patient,) = resources(results.content(dicom_patient_id="FILE-1"), "Patient")
    assert [each["value"] for each in patient["identifier"]] == ["P-ABC123", "FILE-1"]
    assert set(patient) == {"resourceType", "id", "identifier"}


def test_imaging_study_names_study_series_and_key_instance(results: Results) -> None:
    key = results.dicom_slice()
    content = results.content(key)
    (study,) = resources(content, "ImagingStudy")
    assert key.source is not None
    assert study["identifier"][0]["value"] == f"urn:oid:{content.uid}"
    assert study["series"][0]["uid"] == key.source.series_uid
    assert study["series"][0]["instance"][0]["uid"] == key.source.uid


def test_probabilities_are_observations_in_percent(results: Results) -> None:
    found = {
        each["code"]["coding"][0]["code"]: each["valueQuantity"]
        for each in resources(results.content(), "Observation")
        if "valueQuantity" in each
    }
    assert found["p-glioma"]["value"] == 62.0
    assert {quantity["code"] for quantity in found.values()} == {"%"}
    assert found["familiar-share"]["value"] == 97.5


def test_classes_that_cannot_be_ruled_out_are_components(results: Results) -> None:
    finding = next(
        each for each in resources(results.content(), "Observation") if "component" in each
    )
    codes = [part["valueCodeableConcept"]["coding"][0]["code"] for part in finding["component"]]
    assert codes == ["393564001", "no-tumor"]
