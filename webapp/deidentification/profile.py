"""The de-identification action for each attribute, as data.

The table is PS3.15 Annex E, Table E.1-1, Basic Application Level Confidentiality Profile, edition
2026c, from the package dicom-anonymizer. This module is stricter: attributes with free text are
kept only if they are listed here.
"""

from enum import Enum

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.datadict import tag_for_keyword


class Action(Enum):
    """The action for an attribute of the standard's table."""

    REMOVE = "X"
    EMPTY = "Z"
    REPLACE_UID = "U"


def _tags(*groups: list[tuple[int, ...]]) -> set[int]:
    """Tags as integers; repeating groups (four numbers) are removed as a whole elsewhere."""
    return {(tag[0] << 16) | tag[1] for group in groups for tag in group if len(tag) == 2}


# Identifiers of a patient's studies, reports and images that were retired before the table.
_RETIRED = ("OtherStudyNumbers", "ReportNumber", "ModifiedImageID")
# If the table leaves a choice (X/Z, X/D, Z/D …), the attribute is removed or emptied.
ACTIONS: dict[int, Action] = {
    **dict.fromkeys(
        _tags(table.X_TAGS, table.X_Z_TAGS, table.X_D_TAGS, table.X_Z_D_TAGS, table.D_TAGS),
        Action.REMOVE,
    ),
    **dict.fromkeys(_tags(table.X_Z_U_STAR_TAGS), Action.REMOVE),
    **dict.fromkeys(_tags(table.Z_TAGS, table.Z_D_TAGS), Action.EMPTY),
    **dict.fromkeys(_tags(table.U_TAGS), Action.REPLACE_UID),
    **{tag: Action.REMOVE for keyword in _RETIRED if (tag := tag_for_keyword(keyword)) is not None},
}

# Free text about the acquisition that does not describe the patient.
HARMLESS_TEXT: frozenset[int] = frozenset(
    tag
    for keyword in (
        "Manufacturer",
        "ManufacturerModelName",
        "SoftwareVersions",
        "SequenceName",
        "PulseSequenceName",
        "ImagedNucleus",
        "ResonantNucleus",
        "TransmitCoilName",
        "ReceiveCoilName",
        "CodeValue",
        "CodingSchemeDesignator",
        "CodingSchemeVersion",
        "CodeMeaning",
        "WindowCenterWidthExplanation",
        "RescaleType",
        "ModalityLUTType",
        "StackID",  # the only difference between slices of several stacks at one position
    )
    if (tag := tag_for_keyword(keyword)) is not None
)

# Values of these VRs can contain anything; they are kept only for HARMLESS_TEXT.
TEXT_VRS = frozenset({"AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
# Binary VRs: kept only for PICTURE_BYTES, and of these only the picture
# (:mod:`webapp.deidentification.pixel_data`).
BYTES_VRS = frozenset({"OB", "OW", "OD", "OF", "OL", "OV"})
# At the top level only: pixels and palettes in sequences are icons and the like.
PICTURE_BYTES: frozenset[int] = frozenset(
    tag
    for keyword in (
        "PixelData",
        "FloatPixelData",
        "DoubleFloatPixelData",
        "RedPaletteColorLookupTableData",
        "GreenPaletteColorLookupTableData",
        "BluePaletteColorLookupTableData",
        "SegmentedRedPaletteColorLookupTableData",
        "SegmentedGreenPaletteColorLookupTableData",
        "SegmentedBluePaletteColorLookupTableData",
        "ExtendedOffsetTable",
        "ExtendedOffsetTableLengths",
    )
    if (tag := tag_for_keyword(keyword)) is not None
)
LUT_DATA = tag_for_keyword("LUTData")  # only in items of LUT_SEQUENCES
LUT_SEQUENCES: frozenset[int] = frozenset(
    tag
    for keyword in ("ModalityLUTSequence", "VOILUTSequence")
    if (tag := tag_for_keyword(keyword)) is not None
)
