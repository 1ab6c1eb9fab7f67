"""What happens to an attribute, as data.

The table is that of PS3.15 Annex E, Table E.1-1, Basic Application Level Confidentiality Profile,
edition 2026c, as the package dicom-anonymizer carries it. On top of it this module is stricter:
text that could hold anything is kept for the attributes named here alone, and for no others.
"""

from enum import Enum

from dicomanonymizer.dicom_anonymization_databases import dicomfields_2026c as table
from pydicom.datadict import tag_for_keyword


class Action(Enum):
    """What is done with an attribute of the standard's table."""

    REMOVE = "X"
    EMPTY = "Z"
    REPLACE_UID = "U"


def _tags(*groups: list[tuple[int, ...]]) -> set[int]:
    """Tags as numbers; repeating groups (four numbers) are dropped as a whole elsewhere."""
    return {(tag[0] << 16) | tag[1] for group in groups for tag in group if len(tag) == 2}


# Numbers of a patient's studies, reports and images, retired before the table was made.
_RETIRED = ("OtherStudyNumbers", "ReportNumber", "ModifiedImageID")
# Where the table leaves a choice (X/Z, X/D, Z/D …), the attribute goes or is left empty.
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

# Free text that says how the image was made, and nothing about whom it shows.
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
        "StackID",  # slices of several stacks at one place are told apart by nothing else
    )
    if (tag := tag_for_keyword(keyword)) is not None
)

# Values of this kind can hold anything; they stay for HARMLESS_TEXT alone.
TEXT_VRS = frozenset({"AE", "AS", "LO", "LT", "PN", "SH", "ST", "UC", "UN", "UR", "UT"})
# Bytes: only those that a picture is made of, and of these only the picture
# (:mod:`webapp.deidentification.pixel_data`).
BYTES_VRS = frozenset({"OB", "OW", "OD", "OF", "OL", "OV"})
# In the dataset itself; pixels and palettes inside of sequences are icons and the like.
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
LUT_DATA = tag_for_keyword("LUTData")  # in the items of these sequences alone
LUT_SEQUENCES: frozenset[int] = frozenset(
    tag
    for keyword in ("ModalityLUTSequence", "VOILUTSequence")
    if (tag := tag_for_keyword(keyword)) is not None
)
