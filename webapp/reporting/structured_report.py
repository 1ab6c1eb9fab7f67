"""The result as a DICOM Structured Report: TID 1500 Measurement Report as a Comprehensive SR.

The report is always preliminary: partial, unverified, made by a device. It names the algorithm
(TID 4019) and refers to the key slices by their pseudonymous UIDs.
"""

from collections.abc import Iterable, Mapping, Sequence

import highdicom as hd
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from webapp.reporting.codes import (
    FAMILIAR,
    FAMILIAR_SHARE,
    FINDINGS,
    MR_BRAIN,
    NO,
    NOT_RULED_OUT,
    OWN,
    OWN_SCHEME_NAME,
    PROBABILITIES,
    SITES,
    TUMOR_PROBABILITY,
    YES,
    Term,
)
from webapp.reporting.content import NOTICE, ReportContent, ReportedAnswer, ReportedSlice
from webapp.reporting.identity import MANUFACTURER, ResultIdentity, mark_as_ours

_SERIES_NUMBER = 9000


def structured_report(
    content: ReportContent,
    identity: ResultIdentity,
    *,
    plain: Sequence[Dataset],
    heatmaps: Sequence[Dataset] = (),
) -> Dataset:
    """Build the report.

    Args:
        plain: secondary captures of the key slices that did not come as DICOM.
        heatmaps: secondary captures of the heatmaps.
    """
    images = _referenced_images(content, identity, plain)
    report = hd.sr.MeasurementReport(
        observation_context=_observer(identity),
        procedure_reported=_coded(MR_BRAIN),
        imaging_measurements=[
            _about_study(content, identity, images),
            *(_about_slice(key, content, identity, images) for key in content.key_slices),
        ],
        title=codes.DCM.ImagingMeasurementReport,
    )
    report[0].ContentSequence.insert(-1, _image_library(images.values()))
    report[0].ContentSequence.append(_text(codes.DCM.Comment, NOTICE))
    document = hd.sr.ComprehensiveSR(
        evidence=[*images.values(), *heatmaps],
        content=report[0],
        series_instance_uid=identity.made_uid("report series"),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=identity.made_uid("report"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        series_description="Sulcus result (research only)",
        is_complete=False,
        is_final=False,
        is_verified=False,
        coding_schemes=[CodingSchemeIdentificationItem(designator=OWN, name=OWN_SCHEME_NAME)],
    )
    for element in identity.shared:
        document[element.tag] = element
    mark_as_ours(document, identity)
    return document


def _referenced_images(
    content: ReportContent, identity: ResultIdentity, plain: Sequence[Dataset]
) -> dict[int, Dataset]:
    """Slice number -> identifiers of the image that represents it."""
    made = {capture.SOPInstanceUID: capture for capture in plain}
    found = {}
    for key in content.key_slices:
        if key.source is None:
            found[key.number] = made[identity.made_uid("slices", key.id)]
            continue
        image = Dataset()
        image.update(identity.shared)
        image.SeriesInstanceUID = key.source.series_uid
        image.SOPInstanceUID = key.source.uid
        image.SOPClassUID = key.source.class_uid
        if key.source.frame is not None:
            image.NumberOfFrames = key.source.frame  # a lower bound
        found[key.number] = image
    return found


def _observer(identity: ResultIdentity) -> hd.sr.ObservationContext:
    device = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=identity.made_uid("observer"),
            name=MANUFACTURER,
            manufacturer_name=MANUFACTURER,
            model_name=identity.model,
        ),
    )
    return hd.sr.ObservationContext(observer_device_context=device)


def _about_study(
    content: ReportContent, identity: ResultIdentity, images: Mapping[int, Dataset]
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    measurements = _probabilities(content.answer)
    if content.in_distribution_share is not None:
        measurements.append(_percent(FAMILIAR_SHARE, content.in_distribution_share))
    return _group(
        "Study",
        content.answer,
        content,
        identity,
        measurements=measurements,
        sources=[_source(key, images[key.number]) for key in content.key_slices],
    )


def _about_slice(
    key: ReportedSlice,
    content: ReportContent,
    identity: ResultIdentity,
    images: Mapping[int, Dataset],
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    tumor = _percent(TUMOR_PROBABILITY, key.answer.tumor_probability)
    return _group(
        f"Slice {key.number}",
        key.answer,
        content,
        identity,
        measurements=[tumor, *_probabilities(key.answer)],
        sources=[_source(key, images[key.number])],
    )


def _group(
    name: str,
    answer: ReportedAnswer,
    content: ReportContent,
    identity: ResultIdentity,
    *,
    measurements: Sequence[hd.sr.Measurement],
    sources: Sequence[hd.sr.SourceImageForMeasurementGroup],
) -> hd.sr.MeasurementsAndQualitativeEvaluations:
    """TID 1501: one finding with its site, measurements and uncertainty."""
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=hd.sr.TrackingIdentifier(
            uid=identity.made_uid("finding", name), identifier=name
        ),
        finding_type=_coded(FINDINGS[answer.label]),
        finding_sites=[hd.sr.FindingSite(anatomic_location=_coded(SITES[answer.label]))],
        algorithm_id=hd.sr.AlgorithmIdentification(
            name=content.model_name,
            version=content.model_version,
            manufacturer=MANUFACTURER,
            parameters=[f"SHA-256 of the weights: {content.model_sha256}"],
        ),
        measurements=measurements,
        qualitative_evaluations=_evaluations(answer),
        source_images=sources,
    )


def _probabilities(answer: ReportedAnswer) -> list[hd.sr.Measurement]:
    ordered = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    return [_percent(PROBABILITIES[label], value) for label, value in ordered]


def _percent(name: Term, fraction: float) -> hd.sr.Measurement:
    return hd.sr.Measurement(
        name=_coded(name), value=round(fraction * 100, 2), unit=codes.UCUM.Percent
    )


def _evaluations(answer: ReportedAnswer) -> list[hd.sr.QualitativeEvaluation]:
    possible = [
        hd.sr.QualitativeEvaluation(name=_coded(NOT_RULED_OUT), value=_coded(FINDINGS[label]))
        for label in answer.prediction_set
    ]
    familiar = YES if answer.in_distribution else NO
    return [*possible, hd.sr.QualitativeEvaluation(name=_coded(FAMILIAR), value=_coded(familiar))]


def _source(key: ReportedSlice, image: Dataset) -> hd.sr.SourceImageForMeasurementGroup:
    frame = key.source.frame if key.source else None
    return hd.sr.SourceImageForMeasurementGroup(
        referenced_sop_class_uid=image.SOPClassUID,
        referenced_sop_instance_uid=image.SOPInstanceUID,
        referenced_frame_numbers=[frame] if frame is not None else None,
    )


def _image_library(images: Iterable[Dataset]) -> hd.sr.ContainerContentItem:
    """TID 1600 without the optional descriptors (TID 1601), which are in the images themselves."""
    group = _container(codes.DCM.ImageLibraryGroup)
    for image in images:
        group.ContentSequence.append(
            hd.sr.ImageContentItem(
                name=codes.DCM.SourceImage,
                referenced_sop_class_uid=image.SOPClassUID,
                referenced_sop_instance_uid=image.SOPInstanceUID,
                relationship_type=hd.sr.RelationshipTypeValues.CONTAINS,
            )
        )
    library = _container(codes.DCM.ImageLibrary)
    library.ContentSequence.append(group)
    return library


def _container(name: hd.sr.CodedConcept) -> hd.sr.ContainerContentItem:
    item = hd.sr.ContainerContentItem(
        name=name, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )
    item.ContentSequence = hd.sr.ContentSequence()
    return item


def _text(name: hd.sr.CodedConcept, value: str) -> hd.sr.TextContentItem:
    return hd.sr.TextContentItem(
        name=name, value=value, relationship_type=hd.sr.RelationshipTypeValues.CONTAINS
    )


def _coded(term: Term) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value=term.value, scheme_designator=term.scheme, meaning=term.meaning)
