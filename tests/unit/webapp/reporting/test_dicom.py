"""What archives get: read back by highdicom, pydicom and dcmtk."""

import io
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import highdicom as hd
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import ComprehensiveSRStorage, SecondaryCaptureImageStorage

from tests.unit.webapp.reporting.results import Results, study_result
from webapp.reporting.content import NOTICE, ReportContent, uid_of
from webapp.reporting.dicom import DicomResult, dicom_result
from webapp.reporting.identity import as_file


def built(results: Results, content: ReportContent) -> DicomResult:
    return dicom_result(content, results.blobs)


def read_back(made: Dataset) -> hd.sr.ComprehensiveSR:
    return hd.sr.srread(io.BytesIO(as_file(made)))


def code(value: str, scheme: str) -> hd.sr.CodedConcept:
    return hd.sr.CodedConcept(value, scheme, "")


def dcmtk(program: str, path: Path) -> str:
    if shutil.which(program) is None:
        pytest.skip(f"needs dcmtk's {program}")
    done = subprocess.run([program, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "E:" not in done.stderr
    return done.stdout


def test_report_is_preliminary_and_says_so(results: Results) -> None:
    report = read_back(built(results, results.content()).report)
    assert report.SOPClassUID == ComprehensiveSRStorage
    assert report.Modality == "SR"
    assert report.CompletionFlag == "PARTIAL"
    assert report.VerificationFlag == "UNVERIFIED"
    assert report.PreliminaryFlag == "PRELIMINARY"
    (comment,) = hd.sr.utils.find_content_items(
        report.content[0], name=codes.DCM.Comment, value_type=hd.sr.ValueTypeValues.TEXT
    )
    assert comment.value == NOTICE


def test_finding_site_probabilities_and_doubt_are_coded(results: Results) -> None:
    report = read_back(built(results, results.content()).report)
    study = report.content.get_image_measurement_groups()[0]
    assert study.finding_type == code("393564001", "SCT")
    assert [site.value for site in study.finding_sites] == [code("12738006", "SCT")]
    numbers = {each.name.value: each for each in study.get_measurements()}
    assert numbers["p-glioma"].value == 62.0
    assert numbers["p-glioma"].unit == codes.UCUM.Percent
    assert set(numbers) == {
        "p-glioma",
        "p-meningioma",
        "p-no-tumor",
        "p-pituitary",
        "familiar-share",
    }
    possible = study.get_qualitative_evaluations(name=code("not-ruled-out", "99SULCUS"))
    assert [each.value.value for each in possible] == ["393564001", "no-tumor"]


@pytest.mark.parametrize(
    ("label", "finding", "site"),
    [
        ("meningioma", code("302820008", "SCT"), "12738006"),
        ("pituitary", code("127024001", "SCT"), "56329008"),
        ("no_tumor", code("no-tumor", "99SULCUS"), "12738006"),
    ],
)
def test_each_class_has_its_code_and_site(
    results: Results, label: str, finding: hd.sr.CodedConcept, site: str
) -> None:
    content = results.content(result=study_result(results.answer(label)))
    group = read_back(built(results, content).report).content.get_image_measurement_groups()[0]
    assert group.finding_type == finding
    assert group.finding_sites[0].value.value == site


def test_algorithm_is_named_with_the_whole_hash(results: Results) -> None:
    report = read_back(built(results, results.content()).report)
    texts = {
        item.name.meaning: item.value
        for item in hd.sr.utils.find_content_items(
            report.content[0], value_type=hd.sr.ValueTypeValues.TEXT, recursive=True
        )
    }
    assert texts["Algorithm Name"] == "vgg16-gap"
    assert texts["Algorithm Version"] == "ab12ab12ab12"
    assert texts["Algorithm Manufacturer"] == "Sulcus"
    assert "ab12" * 16 in texts["Algorithm Parameters"]


def test_report_refers_to_the_source_instance_and_lies_in_its_study(results: Results) -> None:
    key = results.dicom_slice()
    result = built(results, results.content(key))
    report = read_back(result.report)
    assert key.source is not None
    (group, _slice) = report.content.get_image_measurement_groups()
    assert [each.referenced_sop_instance_uid for each in group.source_images] == [key.source.uid]
    source = pydicom.dcmread(io.BytesIO(results.blobs.get(key.source.blob_key)))
    for made in result.objects:
        assert made.StudyInstanceUID == source.StudyInstanceUID
        assert made.SeriesInstanceUID != source.SeriesInstanceUID
        assert made.PatientSex == source.PatientSex
        assert made.PatientID == "P-ABC123"
    evidence = {uids[2] for uids in report.get_evidence()}
    assert evidence == {key.source.uid, *(each.SOPInstanceUID for each in result.heatmaps)}
    assert not result.plain


def test_frame_of_a_multi_frame_instance_is_named(results: Results) -> None:
    result = built(results, results.content(results.dicom_slice(3, frame=7)))
    group = read_back(result.report).content.get_image_measurement_groups()[0]
    assert group.source_images[0].referenced_frame_numbers == [7]
    assert result.heatmaps[0].SourceImageSequence[0].ReferencedFrameNumber == 7


def test_pictures_become_captures_that_the_report_refers_to(results: Results) -> None:
    keys = results.picture_slice(4), results.picture_slice(9, "glioma-2.jpg")
    result = built(results, results.content(*keys))
    assert len(result.plain) == len(result.heatmaps) == 2
    group = read_back(result.report).content.get_image_measurement_groups()[0]
    referenced = [each.referenced_sop_instance_uid for each in group.source_images]
    assert referenced == [each.SOPInstanceUID for each in result.plain]
    assert {made.StudyInstanceUID for made in result.objects} == {
        uid_of(results.content().study_id)
    }
    assert result.plain[0].pixel_array.ndim == 2


def test_heatmap_capture_decodes_and_shows_heat_and_legend(results: Results) -> None:
    key = results.dicom_slice()
    (capture,) = built(results, results.content(key)).heatmaps
    read = pydicom.dcmread(io.BytesIO(as_file(capture)))
    assert read.SOPClassUID == SecondaryCaptureImageStorage
    pixels = read.pixel_array
    # Rows lie twice as far apart as columns, so the picture is twice as high as wide.
    assert pixels.shape == (512, 256, 3)
    assert [float(value) for value in read.PixelSpacing] == pytest.approx([0.25, 0.25])
    red = pixels[int(512 * 0.35), int(256 * 0.35)].astype(int)
    assert red[0] > red[2] + 60
    assert pixels[-40:].max() > 200, "the legend's letters"
    assert read.BurnedInAnnotation == "NO"
    assert read.PatientOrientation == ["L", "P"]
    assert key.source is not None
    assert read.SourceImageSequence[0].ReferencedSOPInstanceUID == key.source.uid
    assert "vgg16-gap" in read.DerivationDescription


def test_the_same_answer_gives_the_same_bytes_and_another_one_other_uids(results: Results) -> None:
    content = results.content(results.dicom_slice())
    first = [as_file(made) for made in built(results, content).objects]
    assert [as_file(made) for made in built(results, content).objects] == first
    other = replace(content, model_sha256="cd34" * 16)
    uids = {made.SOPInstanceUID for made in built(results, content).objects}
    assert uids.isdisjoint(made.SOPInstanceUID for made in built(results, other).objects)


def test_code_beyond_ascii_is_written_as_utf_8(results: Results) -> None:
    content = results.content(patient_code="Ж-Ελ-42", dicom_patient_id="Ж-Ελ-42")
    for made in built(results, content).objects:
        read = pydicom.dcmread(io.BytesIO(as_file(made)))
        assert read.SpecificCharacterSet == "ISO_IR 192"
        assert read.PatientID == "Ж-Ελ-42"


def test_dcmtk_reads_all_objects(results: Results, tmp_path: Path) -> None:
    keys = results.picture_slice(4), results.picture_slice(9)
    result = built(results, results.content(*keys))
    for number, made in enumerate(result.objects):
        path = tmp_path / f"{number}.dcm"
        path.write_bytes(as_file(made))
        assert "StudyInstanceUID" in dcmtk("dcmdump", path)
    text = dcmtk("dsrdump", tmp_path / f"{len(result.objects) - 1}.dcm")
    assert 'CODE:(,,"Finding")=(393564001,SCT,"Glioma")' in text
    assert "PRELIMINARY" in text


def test_slice_without_heatmap_has_no_capture(results: Results) -> None:
    key = replace(results.picture_slice(), heatmap_key=None)
    assert built(results, results.content(key)).heatmaps == ()


def test_grey_slice_keeps_its_own_pixels(results: Results) -> None:
    key = results.picture_slice()
    (capture,) = built(results, results.content(key)).plain
    assert capture.pixel_array.shape == (key.height, key.width)
    assert capture.pixel_array.dtype == np.uint8
