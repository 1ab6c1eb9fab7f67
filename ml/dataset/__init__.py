"""Labelled slices: manifests, exclusions and leak-free splits."""

from ml.dataset.manifest import Entry, read_exclusions, read_manifest
from ml.dataset.splits import Split, split_by_group, without_mirrored_twins

__all__ = [
    "Entry",
    "Split",
    "read_exclusions",
    "read_manifest",
    "split_by_group",
    "without_mirrored_twins",
]
