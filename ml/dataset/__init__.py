"""Labelled slices: manifests, exclusions and leak-free splits."""

from ml.dataset.manifest import Entry, read_exclusions, read_manifest
from ml.dataset.outlines import outline_mask, read_outlines, with_outlines
from ml.dataset.splits import Split, folds_by_group, split_by_group, without_mirrored_twins

__all__ = [
    "Entry",
    "Split",
    "folds_by_group",
    "outline_mask",
    "read_exclusions",
    "read_manifest",
    "read_outlines",
    "split_by_group",
    "with_outlines",
    "without_mirrored_twins",
]
