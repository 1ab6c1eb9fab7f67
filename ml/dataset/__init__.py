"""Labelled slices: manifests, curation, corrections and leak-free splits."""

from ml.dataset.corrections import read_corrections, read_exclusions
from ml.dataset.manifest import Entry, content_hash, read_manifest, write_manifest
from ml.dataset.outlines import outline_mask, read_outlines, with_outlines
from ml.dataset.parts import split_as_kept, split_as_listed
from ml.dataset.splits import (
    Split,
    folds_against_source,
    folds_by_group,
    folds_by_hash,
    split_by_group,
    split_by_hash,
    without_mirrored_twins,
    write_folds,
)

__all__ = [
    "Entry",
    "Split",
    "content_hash",
    "folds_against_source",
    "folds_by_group",
    "folds_by_hash",
    "outline_mask",
    "read_corrections",
    "read_exclusions",
    "read_manifest",
    "read_outlines",
    "split_as_kept",
    "split_as_listed",
    "split_by_group",
    "split_by_hash",
    "with_outlines",
    "without_mirrored_twins",
    "write_folds",
    "write_manifest",
]
