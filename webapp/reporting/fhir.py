"""The result as FHIR R4: a Bundle with a DiagnosticReport and the resources it refers to.

https://hl7.org/fhir/R4/diagnosticreport.html; the report and its observations are
``preliminary``, and the patient is identified only by the pseudonym.
"""

import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from webapp.reporting.codes import (
    FAMILIAR_SHARE,
    FHIR_SYSTEMS,
    FINDING,
    FINDINGS,
    MR_BRAIN,
    NOT_RULED_OUT,
    PROBABILITIES,
    SITES,
    Term,
)
from webapp.reporting.content import NOTICE, SCOPE, ReportContent

Json = dict[str, Any]

_NAMESPACE = uuid.UUID("8d5f0b0e-2a7c-5d53-9a61-4f4f1c0e7a25")
_CATEGORY = {
    "system": "http://terminology.hl7.org/CodeSystem/observation-category",
    "code": "imaging",
    "display": "Imaging",
}
_RADIOLOGY = {
    "system": "http://terminology.hl7.org/CodeSystem/v2-0074",
    "code": "RAD",
    "display": "Radiology",
}


def diagnostic_report(content: ReportContent) -> Json:
    """A Bundle of type ``collection``, the DiagnosticReport first."""
    addresses = _Addresses(content.answer_digest)
    observations = [_finding(content, addresses), *_probabilities(content, addresses)]
    if content.in_distribution_share is not None:
        observations.append(_familiar_share(content.in_distribution_share, content, addresses))
    resources = [
        _report(content, observations, addresses),
        _patient(content),
        _imaging_study(content, addresses),
        _device(content),
        *observations,
    ]
    return {
        "resourceType": "Bundle",
        "id": addresses.id_of("bundle"),
        "type": "collection",
        "timestamp": _moment(content.finished_at),
        "entry": [_entry(resource, addresses) for resource in resources],
    }


class _Addresses:
    """URNs inside the bundle; the same answer always gets the same ones."""

    def __init__(self, digest: str) -> None:
        self._digest = digest

    def id_of(self, what: str) -> str:
        return str(uuid.uuid5(_NAMESPACE, f"{self._digest}/fhir/{what}"))

    def url_of(self, what: str) -> str:
        return f"urn:uuid:{self.id_of(what)}"

    def reference(self, what: str) -> Json:
        return {"reference": self.url_of(what)}


def _entry(resource: Json, addresses: _Addresses) -> Json:
    name = resource.pop("_name")
    return {
        "fullUrl": addresses.url_of(name),
        "resource": {
            "resourceType": resource.pop("resourceType"),
            "id": addresses.id_of(name),
            **resource,
        },
    }


def _report(content: ReportContent, observations: Sequence[Json], addresses: _Addresses) -> Json:
    conclusion = _conclusion(content)
    return {
        "_name": "report",
        "resourceType": "DiagnosticReport",
        "text": {
            "status": "generated",
            "div": f'<div xmlns="http://www.w3.org/1999/xhtml"><p>{conclusion}</p></div>',
        },
        "identifier": [
            {"system": "urn:ietf:rfc:3986", "value": addresses.url_of("report")},
        ],
        "status": "preliminary",
        "category": [{"coding": [_RADIOLOGY]}],
        "code": _concept(MR_BRAIN),
        "subject": addresses.reference("patient"),
        "effectiveDateTime": _effective(content),
        "issued": _moment(content.finished_at),
        "performer": [{"display": f"{content.organisation}, Sulcus"}],
        "result": [addresses.reference(each["_name"]) for each in observations],
        "imagingStudy": [addresses.reference("study")],
        "conclusion": conclusion,
        "conclusionCode": [_concept(FINDINGS[content.answer.label])],
    }


def _conclusion(content: ReportContent) -> str:
    """In English, like the displays of codes; contains no text typed by a person."""
    answer = content.answer
    named = " or ".join(FINDINGS[label].meaning for label in content.result.named)
    possible = ", ".join(FINDINGS[label].meaning for label in answer.prediction_set)
    sentences = [
        f"{named}.",
        f"{FINDINGS[answer.label].meaning}, probability "
        f"{answer.probabilities[answer.label]:.3f} in slice {content.key_slices[0].number}.",
        f"Not ruled out: {possible}." if possible else "No class fits well.",
        SCOPE,
    ]
    sentences += [
        f"Slice {key.number} suggests another tumour: {FINDINGS[key.answer.label].meaning}, "
        f"probability {key.answer.probabilities[key.answer.label]:.3f}."
        for key in content.contradicting
    ]
    if not answer.in_distribution:
        sentences.append("The slice does not look like what the model was trained on.")
    return " ".join([*sentences, NOTICE])


def _patient(content: ReportContent) -> Json:
    return {
        "_name": "patient",
        "resourceType": "Patient",
        "identifier": [
            {
                "use": "secondary",
                "type": {"text": "Pseudonym"},
                "system": "urn:sulcus:patient-code",
                "value": code,
            }
            for code in dict.fromkeys((content.patient_code, content.dicom_patient_id))
        ],
    }


def _imaging_study(content: ReportContent, addresses: _Addresses) -> Json:
    study: Json = {
        "_name": "study",
        "resourceType": "ImagingStudy",
        "identifier": [{"system": "urn:dicom:uid", "value": f"urn:oid:{content.uid}"}],
        "status": "available",
        "subject": addresses.reference("patient"),
        "numberOfSeries": len(content.series),
        "numberOfInstances": sum(series.instances for series in content.series),
        "series": [
            {
                "uid": series.uid,
                "modality": {"system": FHIR_SYSTEMS["DCM"], "code": series.modality},
                "numberOfInstances": series.instances,
                **_instances(content, series.uid),
            }
            for series in content.series
        ],
    }
    if content.acquired_on:
        study["started"] = content.acquired_on.isoformat()
    return study


def _instances(content: ReportContent, series_uid: str) -> Json:
    """Only the key slices: a list of hundreds of instances would be of no use."""
    found = {
        key.source.uid: {
            "uid": key.source.uid,
            "sopClass": {"system": "urn:ietf:rfc:3986", "code": f"urn:oid:{key.source.class_uid}"},
            "title": "key slice",
        }
        for key in content.key_slices
        if key.source is not None and key.source.series_uid == series_uid
    }
    return {"instance": list(found.values())} if found else {}


def _device(content: ReportContent) -> Json:
    return {
        "_name": "device",
        "resourceType": "Device",
        "manufacturer": "Sulcus",
        "deviceName": [{"name": content.model_name, "type": "model-name"}],
        "version": [{"type": {"text": "SHA-256 of the weights"}, "value": content.model_sha256}],
        "note": [{"text": NOTICE}],
    }


def _finding(content: ReportContent, addresses: _Addresses) -> Json:
    answer = content.answer
    return _observation("finding", FINDING, content, addresses) | {
        "valueCodeableConcept": _concept(FINDINGS[answer.label]),
        "bodySite": _concept(SITES[answer.label]),
        "component": [
            {
                "code": _concept(NOT_RULED_OUT),
                "valueCodeableConcept": _concept(FINDINGS[label]),
            }
            for label in answer.prediction_set
        ],
    }


def _probabilities(content: ReportContent, addresses: _Addresses) -> list[Json]:
    return [
        _observation(f"p-{label}", PROBABILITIES[label], content, addresses)
        | {"valueQuantity": _quantity(value)}
        for label, value in content.answer.probabilities.items()
    ]


def _familiar_share(share: float, content: ReportContent, addresses: _Addresses) -> Json:
    return _observation("familiar-share", FAMILIAR_SHARE, content, addresses) | {
        "valueQuantity": _quantity(share)
    }


def _observation(name: str, code: Term, content: ReportContent, addresses: _Addresses) -> Json:
    return {
        "_name": name,
        "resourceType": "Observation",
        "status": "preliminary",
        "category": [{"coding": [_CATEGORY]}],
        "code": _concept(code),
        "subject": addresses.reference("patient"),
        "effectiveDateTime": _effective(content),
        "device": addresses.reference("device"),
        "derivedFrom": [addresses.reference("study")],
    }


def _quantity(fraction: float) -> Json:
    return {
        "value": round(fraction * 100, 2),
        "unit": "%",
        "system": "http://unitsofmeasure.org",
        "code": "%",
    }


def _concept(term: Term) -> Json:
    coding = {
        "system": FHIR_SYSTEMS[term.scheme],
        "code": term.value,
        "display": term.meaning,
    }
    return {"coding": [coding], "text": term.meaning}


def _effective(content: ReportContent) -> str:
    """The acquisition date (shifted, as everywhere), else the time of the upload."""
    if content.acquired_on:
        return content.acquired_on.isoformat()
    return _moment(content.created_at)


def _moment(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds")
