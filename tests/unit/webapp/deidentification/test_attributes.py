"""What is left of a DICOM file that names a patient."""

import io
import uuid
from datetime import date

import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import RLELossless, generate_uid

from ml.errors import UnreadableImage
from ml.imaging import Limits, parse_dicom
from tests.dicoms import IDENTIFIERS, Patient, as_bytes, head, mr_slice
from webapp.deidentification import Deidentified, Pseudonymiser, deidentify

KEY = b"k" * 32
HERE, ELSEWHERE = uuid.UUID(int=1), uuid.UUID(int=2)


def done(dataset: Dataset, organisation: uuid.UUID = HERE) -> Deidentified:
    return deidentify(parse_dicom(as_bytes(dataset), Limits()), Pseudonymiser(KEY, organisation))


def image(**elements: object) -> pydicom.FileDataset:
    dataset = mr_slice(head(0, 1, 64))
    for keyword, value in elements.items():
        setattr(dataset, keyword, value)
    return dataset


def read(content: bytes) -> pydicom.FileDataset:
    return pydicom.dcmread(io.BytesIO(content))


class TestPseudonyms:
    def test_same_patient_has_the_same_code_however_it_is_typed(self) -> None:
        pseudonymiser = Pseudonymiser(KEY, HERE)
        assert pseudonymiser.patient("ab 12") == pseudonymiser.patient(" AB  12 ")
        assert pseudonymiser.patient("ab 12") != pseudonymiser.patient("ab 13")
        assert pseudonymiser.patient("ab 12", "one") != pseudonymiser.patient("ab 12", "two")

    def test_another_organisation_and_another_key_cannot_match_it(self) -> None:
        codes = {
            Pseudonymiser(key, organisation).patient("ab 12")
            for key in (KEY, b"x" * 32)
            for organisation in (HERE, ELSEWHERE)
        }
        assert len(codes) == 4

    def test_uids_are_valid_and_days_lie_in_the_past(self) -> None:
        pseudonymiser = Pseudonymiser(KEY, HERE)
        for number in range(200):
            uid = pydicom.uid.UID(pseudonymiser.uid(generate_uid()))
            assert uid.is_valid
            assert -3650 <= pseudonymiser.days(str(number)) <= -1


class TestDeidentified:
    def test_no_identifier_is_in_the_bytes_and_the_pixels_are_the_same(self) -> None:
        dataset = image()
        result = done(dataset)
        for identifier in IDENTIFIERS:
            assert identifier.encode() not in result.content
        kept = read(result.content)
        assert np.array_equal(kept.pixel_array, dataset.pixel_array)
        assert kept.PatientIdentityRemoved == "YES"
        assert kept.LongitudinalTemporalInformationModified == "MODIFIED"
        codes = [item.CodeValue for item in kept.DeidentificationMethodCodeSequence]
        assert codes == ["113100", "113107"]
        assert kept.PatientID == kept.PatientName == result.patient_code
        assert kept.preamble == b"\0" * 128
        assert "SourceApplicationEntityTitle" not in kept.file_meta

    def test_geometry_and_window_survive(self) -> None:
        dataset = image()
        kept = read(done(dataset).content)
        for keyword in (
            "ImagePositionPatient",
            "ImageOrientationPatient",
            "PixelSpacing",
            "WindowCenter",
            "WindowWidth",
            "ImageType",
            "Modality",
            "InstanceNumber",
            "PhotometricInterpretation",
        ):
            assert kept[keyword].value == dataset[keyword].value, keyword

    def test_uids_are_replaced_consistently_and_those_of_the_standard_stay(self) -> None:
        study, frame = generate_uid(), generate_uid()
        first = read(done(image(StudyInstanceUID=study, FrameOfReferenceUID=frame)).content)
        second = read(done(image(StudyInstanceUID=study, FrameOfReferenceUID=frame)).content)
        assert first.StudyInstanceUID == second.StudyInstanceUID != study
        assert first.FrameOfReferenceUID == second.FrameOfReferenceUID != frame
        assert first.SOPInstanceUID != second.SOPInstanceUID
        assert first.file_meta.MediaStorageSOPInstanceUID == first.SOPInstanceUID
        assert first.SOPClassUID == pydicom.uid.MRImageStorage
        assert read(done(image(StudyInstanceUID=study), ELSEWHERE).content).StudyInstanceUID != (
            first.StudyInstanceUID
        )

    def test_all_dates_of_a_patient_move_by_the_same_days(self) -> None:
        dataset = image(
            StudyDate="20240301",
            SeriesDate="20240229",
            AcquisitionDateTime="20240302101112.123456+0100",
        )
        kept = read(done(dataset).content)
        study = date.fromisoformat(kept.StudyDate)
        assert (study - date.fromisoformat(kept.SeriesDate)).days == 1
        assert (date.fromisoformat(kept.AcquisitionDateTime[:8]) - study).days == 1
        assert kept.AcquisitionDateTime[8:] == "101112.123456+0100"
        assert kept.StudyDate < "20240301"

    @pytest.mark.parametrize("value", ["19470611x", "1947", "Wilhelmina", "00000000", "20249999"])
    def test_what_is_no_date_does_not_stay(self, value: str) -> None:
        dataset = image()
        # Straight into the element: pydicom itself would not write it as a date.
        dataset.add_new("AcquisitionDate", "LO", value)
        content = done(dataset).content
        if len(value) > 4:  # pseudonymous UIDs hold four digits in a row by chance
            assert value.encode() not in content or not value.strip("0")
        assert "AcquisitionDate" not in read(content)

    @pytest.mark.parametrize(
        ("keyword", "vr"),
        [
            ("BodyPartExamined", "LO"),
            ("ImageComments", "LT"),
            ("ProtocolName", "LO"),
            ("SeriesDescription", "LO"),
            ("OperatorsName", "PN"),
            ("PatientAddress", "LO"),
            ("StationName", "SH"),
            ("InstanceNumber", "LO"),
            ("PixelSpacing", "LO"),
            ("ContentTime", "LO"),
            ("FrameOfReferenceUID", "LO"),
            ("Manufacturer", "LO"),
            ("RequestedProcedureDescription", "LO"),
            ("TextValue", "UT"),
        ],
    )
    def test_a_name_in_any_place_and_of_any_kind_goes(self, keyword: str, vr: str) -> None:
        dataset = image()
        if keyword in dataset:
            del dataset[keyword]
        dataset.add_new(keyword, vr, "Scan of Wilhelmina")
        assert b"Wilhelmina" not in done(dataset).content

    def test_names_inside_sequences_private_groups_and_overlays_go(self) -> None:
        inner = Dataset()
        inner.PatientName = "Roentgen^Wilhelmina"
        inner.add_new(0x00291010, "LO", "Wilhelmina")
        inner.ReferencedSOPInstanceUID = uid = generate_uid()
        outer = Dataset()
        outer.CodeMeaning = "Brain of Wilhelmina"
        outer.AnatomicRegionModifierSequence = Sequence([inner])
        dataset = image(AnatomicRegionSequence=Sequence([outer]))
        dataset.add_new(0x60003000, "OW", b"Wilhelmina")
        dataset.add_new(0x60000022, "LO", "Wilhelmina")
        dataset.add_new(0x50003000, "OW", b"Wilhelmina")
        dataset.add_new(0x00110010, "LO", "SANATORIUM NORD")
        dataset.add_new(0x00111001, "UN", b"Wilhelmina")
        content = done(dataset).content
        assert b"Wilhelmina" not in content
        assert uid.encode() not in content
        assert "AnatomicRegionSequence" in read(content)

    def test_trailing_padding_and_unknown_elements_go(self) -> None:
        dataset = image()
        dataset.add_new(0xFFFCFFFC, "OB", b"Wilhelmina")
        dataset.add_new(0x00185555, "UN", b"Wilhelmina")
        assert b"Wilhelmina" not in done(dataset).content

    def test_a_number_that_holds_the_identifier_s_digits_stays(self) -> None:
        dataset = image(PixelSpacing=["0.10000", "0.10000"], PatientID="10000", PatientName="Mono")
        kept = read(done(dataset).content)
        assert kept.PixelSpacing == [0.1, 0.1]
        assert kept.PhotometricInterpretation == "MONOCHROME2"

    def test_patient_without_identifier_is_known_by_name_then_by_study(self) -> None:
        study = generate_uid()
        named = [done(image(PatientID="", PatientName="A^B")).patient_code for _ in range(2)]
        assert named[0] == named[1]
        unnamed = [
            done(image(PatientID="", PatientName="", StudyInstanceUID=study)).patient_code
            for _ in range(2)
        ]
        assert unnamed[0] == unnamed[1] != named[0]
        assert done(image(PatientID="", PatientName="")).patient_code != unnamed[0]

    def test_compressed_pixels_stay_as_they_are(self) -> None:
        dataset = image()
        dataset.compress(RLELossless, generate_instance_uid=False)
        kept = read(done(dataset).content)
        assert kept.file_meta.TransferSyntaxUID == RLELossless
        assert kept.PixelData == dataset.PixelData

    @pytest.mark.parametrize("keyword", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
    @pytest.mark.parametrize("value", ["", "not-a-uid", "Wilhelmina"])
    def test_file_without_identity_is_refused(self, keyword: str, value: str) -> None:
        dataset = image()
        meta = dataset.file_meta
        setattr(dataset, keyword, value)
        meta.MediaStorageSOPInstanceUID = generate_uid()
        with pytest.raises(UnreadableImage) as refused:
            done(dataset)
        assert refused.value.code == "truncated"
        assert "Wilhelmina" not in str(refused.value)

    @pytest.mark.parametrize(
        ("value", "expected"), [("YES", "yes"), ("NO", "no"), ("", "unknown"), ("X", "unknown")]
    )
    def test_what_it_says_about_its_pixels(self, value: str, expected: str) -> None:
        assert done(image(BurnedInAnnotation=value)).burned_in == expected

    def test_patients_are_apart_by_issuer(self) -> None:
        patient = Patient(identifier="1")
        one, other = mr_slice(head(0, 1, 64), patient=patient), image(PatientID="1")
        other.IssuerOfPatientID = "NORD"
        assert done(one).patient_code != done(other).patient_code


class TestNamesInText:
    @pytest.mark.parametrize(
        ("keyword", "name", "text"),
        [
            ("PatientName", "Li^Na", "LI T1"),
            ("PatientName", "Li^Na", "T1_li_ax"),
            ("PatientName", "Le^An", "brain an"),
            ("PatientName", "M\u00fcller^Ilse", "HEAD MUELLER"),
            ("PatientName", "M\u00fcller^Ilse", "head m\u00fcller"),
            ("PatientName", "M\u00fcller^Ilse", "MULLER T2"),
            ("PatientName", "Mueller^Ilse", "t2 M\u00dcLLER"),
            ("PatientName", "Stra\u00df^A", "STRASS"),
            ("PatientName", "Ren\u00e9^J", "rene"),
            ("PatientName", "S\u00f8rensen^J", "SOERENSEN SORENSEN"),
            ("PatientName", "\u674e\u5a1c", "T1 \u674e\u5a1c"),
            ("PatientBirthName", "Jensen^Ida", "IDA"),
            ("PatientMotherBirthName", "Holm^Bo", "t1 bo"),
            ("OtherPatientNames", "Xu^Wei", "Wei-T2"),
            ("ReferringPhysicianName", "Orr^Dr", "for ORR"),
            ("OperatorsName", "Curie", "by curie"),
            ("PerformingPhysicianName", "Curie", "Curie"),
            ("RequestingPhysician", "Noether", "NOETHER 3"),
            ("AccessionNumber", "99812", "Order 99812"),
            ("PatientID", "ab12", "x AB12 y"),
            *(
                ("PatientBirthDate", "19610203", text)
                for text in (
                    "19610203",
                    "born 3.2.1961",
                    "03/02/1961",
                    "02/03/1961",
                    "1961-02-03",
                    "1961_2_3",
                    "3 Feb 1961",
                    "3. Februar 1961",
                    "February 3rd, 1961",
                    "03FEB61",
                    "030261",
                    "610203",
                    "03-02-61",
                )
            ),
        ],
    )
    @pytest.mark.parametrize("place", ["SequenceName", "SoftwareVersions", "CodeMeaning"])
    def test_no_spelling_of_a_name_stays(
        self, keyword: str, name: str, text: str, place: str
    ) -> None:
        dataset = image(PatientName="Nobody^At^All", SpecificCharacterSet="ISO_IR 192")
        setattr(dataset, keyword, name)
        holder = dataset
        if place == "CodeMeaning":
            holder = Dataset()
            dataset.AnatomicRegionSequence = Sequence([holder])
        setattr(holder, place, text)
        kept = read(done(dataset).content)
        if place == "CodeMeaning":
            kept = kept.AnatomicRegionSequence[0]
        assert place not in kept

    @pytest.mark.parametrize(
        ("name", "text"),
        [("Li^Na", "Liver NaCl"), ("Mr^M^^Mr", "MR syngo"), ("A^B", "A B"), ("von Ach^Al", "von")],
    )
    def test_words_that_only_look_like_a_short_name_stay(self, name: str, text: str) -> None:
        dataset = image(PatientName=name, SequenceName=text)
        kept = read(done(dataset).content)
        assert kept.SequenceName == text
        assert kept.Modality == "MR"
        assert kept.ImageType == dataset.ImageType

    def test_a_short_name_as_a_code_goes(self) -> None:
        kept = read(done(image(PatientName="Li^Na", BodyPartExamined="LI")).content)
        assert "BodyPartExamined" not in kept

    def test_more_binary_numbers_than_the_standard_knows_go(self) -> None:
        dataset = image()
        dataset.add_new("EchoTrainLength", "IS", "1")
        dataset.add_new("PixelPaddingRangeLimit", "US", [ord(letter) for letter in "Wilhelmina"])
        assert "PixelPaddingRangeLimit" not in read(done(dataset).content)

    @pytest.mark.parametrize(
        "keyword",
        ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "FrameOfReferenceUID"],
    )
    @pytest.mark.parametrize("uid", ["1.2.840.10008.19610203.4711", "1.2.840.10008.1.2.4.50"])
    def test_uids_below_the_root_of_the_standard_are_replaced(self, keyword: str, uid: str) -> None:
        dataset = image(**{keyword: uid})
        dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
        kept = read(done(dataset).content)
        assert str(kept[keyword].value).startswith("2.25.")
        assert uid.encode() not in done(dataset).content

    def test_an_atlas_keeps_its_well_known_frame_of_reference(self) -> None:
        kept = read(done(image(FrameOfReferenceUID="1.2.840.10008.1.4.1.1")).content)
        assert kept.FrameOfReferenceUID == "1.2.840.10008.1.4.1.1"
