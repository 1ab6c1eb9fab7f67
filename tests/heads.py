"""Made slices that are easy to learn, for tests of what trains."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ml.dataset import Entry
from ml.imaging.pictures import encode_png
from ml.labels import LABELS, Label


def slices(folder: Path, n: int) -> list[Entry]:
    """Heads that differ by class in where a bright spot lies: easy to learn."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(0)
    rows, columns = np.mgrid[:64, :64]
    head = (rows - 32) ** 2 + (columns - 32) ** 2 < 28**2
    entries = []
    for number in range(n):
        label = number % 4
        row, column = 20 + 24 * (label // 2), 20 + 24 * (label % 2)
        spot = (rows - row) ** 2 + (columns - column) ** 2 < 36
        pixels = random.integers(0, 10, (64, 64)) + head * 80 + spot * 150
        path = folder / f"{number}.png"
        path.write_bytes(encode_png(pixels.clip(0, 255).astype(np.uint8)))
        entries.append(Entry(path, LABELS[label], f"patient-{number}"))
    return entries


def spots(folder: Path, n: int, *, seed: int) -> list[Entry]:
    """Heads that differ by class in how large a bright spot is: pooled features tell them apart."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    rows, columns = np.mgrid[:64, :64]
    head = (rows - 32) ** 2 + (columns - 32) ** 2 < 28**2
    entries = []
    for number in range(n):
        row, column = random.integers(26, 39, 2)
        radius = (0, 5, 10, 15)[number % 4] + random.uniform(-1, 1)
        spot = (rows - row) ** 2 + (columns - column) ** 2 < max(radius, 0) ** 2
        pixels = random.integers(0, 20, (64, 64)) + head * 80 + spot * 150
        path = folder / f"{seed}-{number}.png"
        path.write_bytes(encode_png(pixels.clip(0, 255).astype(np.uint8)))
        entries.append(Entry(path, LABELS[number % 4], f"patient-{seed}-{number}"))
    return entries


def with_spots_outlined(data: list[Entry]) -> list[Entry]:
    """The spot of every class but no tumour is called a tumour, and outlined."""
    outlined = []
    for number, entry in enumerate(data):
        row, column = 20 + 24 * (number % 4 // 2), 20 + 24 * (number % 4 % 2)
        corners = ((-6, -6), (6, -6), (6, 6), (-6, 6))
        points = tuple(((column + x + 0.5) / 64, (row + y + 0.5) / 64) for x, y in corners)
        has_tumor = entry.label is not Label.NO_TUMOR
        outlined.append(replace(entry, outline=points if has_tumor else None))
    return outlined


def write_manifest(folder: Path, entries: list[Entry]) -> Path:
    """A manifest of files that lie in ``folder``."""
    manifest = folder / "manifest.csv"
    lines = [f"{entry.path.name},{entry.label.value},{entry.group}" for entry in entries]
    manifest.write_text("\n".join(["path,label,group", *lines]))
    return manifest
