"""The audit report as a Markdown page with pictures of example pairs."""

from pathlib import Path
from typing import Any

import cv2
import numpy as np

from ml.dataset.duplicates import table
from ml.imaging import read_path
from ml.imaging.pictures import encode_png
from ml.preprocess import to_grey

_EXAMPLES = 6
_HEIGHT = 192


def write_report(report: dict[str, Any], folder: Path) -> Path:
    """Write ``report.md`` and its pictures into ``folder``; return the page's path."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = ["# Audit of an image collection", "", "```", table(report), "```"]
    chosen = {
        "Contradicting labels": report["label_conflicts"],
        **{
            f"{kind.capitalize()} copies": [p for p in report["all_pairs"] if p["kind"] == kind]
            for kind in report["pairs"]
        },
    }
    for title, pairs in chosen.items():
        if not pairs:
            continue
        lines += ["", f"## {title}: {len(pairs)}"]
        for number, pair in enumerate(pairs[:_EXAMPLES], start=1):
            picture = folder / f"{title.lower().replace(' ', '-')}-{number}.png"
            picture.write_bytes(encode_png(_side_by_side(Path(report["root"]), pair)))
            first, second = pair["first"], pair["second"]
            lines += ["", f"`{first}` and `{second}` ({pair['correlation']})", ""]
            lines.append(f"![{first} beside {second}]({picture.name})")
    page = folder / "report.md"
    page.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return page


def _side_by_side(root: Path, pair: dict[str, Any]) -> np.ndarray:
    shown = []
    for name in (pair["first"], pair["second"]):
        grey = to_grey(read_path(root / name)[0].pixels)
        width = max(1, round(grey.shape[1] * _HEIGHT / grey.shape[0]))
        resized = cv2.resize(grey, (width, _HEIGHT), interpolation=cv2.INTER_AREA)
        top = max(float(resized.max()), 1.0)
        shown.append(np.asarray(resized * (255.0 / top), dtype=np.uint8))
    return np.hstack(shown)
