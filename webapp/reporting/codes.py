"""Codes used in reports, with their sources.

SNOMED CT concepts were looked up, not guessed:

- 393564001 Glioma (disorder) and 302820008 Intracranial meningioma (disorder): SNOMED CT
  International Edition. The release notes of October 2025 describe the second as modelled by the
  morphology of meningioma; it fits better than 393566004 Meningioma of any site.
- 127024001 Neoplasm of pituitary gland (disorder): SNOMED CT International Edition. The model
  recognises tumours at this site, not their histology, hence not adenoma.
- 12738006 Brain, 56329008 Pituitary, 373066001 Yes, 373067005 No: as in DICOM PS3.16.
- LOINC 24590-2 MR Brain: as in DICOM PS3.16 and the LOINC/RSNA Radiology Playbook.

SNOMED CT has no concept for "the model finds no tumour": "normal" or "no evidence of neoplasm"
would claim more. Such concepts have codes in our own scheme, 99SULCUS.
"""

from collections.abc import Mapping
from dataclasses import dataclass

SCT = "SCT"
LOINC = "LN"
OWN = "99SULCUS"

OWN_SCHEME_NAME = "Sulcus"

FHIR_SYSTEMS: Mapping[str, str] = {
    SCT: "http://snomed.info/sct",
    LOINC: "http://loinc.org",
    "DCM": "http://dicom.nema.org/resources/ontology/DCM",
    OWN: "urn:sulcus:codes",
}


@dataclass(frozen=True)
class Term:
    """A coded concept: code value, coding scheme and meaning."""

    value: str
    scheme: str
    meaning: str


MR_BRAIN = Term("24590-2", LOINC, "MR Brain")
BRAIN = Term("12738006", SCT, "Brain")
PITUITARY = Term("56329008", SCT, "Pituitary")
YES = Term("373066001", SCT, "Yes")
NO = Term("373067005", SCT, "No")

FINDINGS: Mapping[str, Term] = {
    "glioma": Term("393564001", SCT, "Glioma"),
    "meningioma": Term("302820008", SCT, "Intracranial meningioma"),
    "no_tumor": Term("no-tumor", OWN, "No tumour recognised by the model"),
    "pituitary": Term("127024001", SCT, "Neoplasm of pituitary gland"),
}
SITES: Mapping[str, Term] = {
    "glioma": BRAIN,
    "meningioma": BRAIN,
    "no_tumor": BRAIN,
    "pituitary": PITUITARY,
}
PROBABILITIES: Mapping[str, Term] = {
    "glioma": Term("p-glioma", OWN, "Probability of glioma"),
    "meningioma": Term("p-meningioma", OWN, "Probability of meningioma"),
    "no_tumor": Term("p-no-tumor", OWN, "Probability of no tumour"),
    "pituitary": Term("p-pituitary", OWN, "Probability of pituitary tumour"),
}
FINDING = Term("finding", OWN, "Finding of the model")
TUMOR_PROBABILITY = Term("p-tumor", OWN, "Probability of any tumour")
NOT_RULED_OUT = Term("not-ruled-out", OWN, "Not ruled out")
FAMILIAR = Term("familiar", OWN, "Resembles what the model was trained on")
FAMILIAR_SHARE = Term("familiar-share", OWN, "Slices that resemble what the model was trained on")
