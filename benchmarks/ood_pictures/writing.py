"""Out-of-distribution pictures with writing and lines: documents, signs, screens and charts."""

import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import matplotlib
import matplotlib.style
import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont

from benchmarks.ood_pictures.pictures import Drawn, random_of
from ml.evaluation.ood.variation import Grey, Random

_WORDS = [
    "radiology",
    "report",
    "findings",
    "impression",
    "no",
    "acute",
    "patient",
    "referred",
    "headache",
    "left",
    "frontal",
    "contrast",
    "dose",
    "invoice",
    "total",
    "street",
    "number",
    "date",
    "of",
    "birth",
    "weight",
    "signature",
    "hospital",
    "ward",
    "Befund",
    "Beurteilung",
    "unauffällig",
    "compte",
    "rendu",
    "sans",
    "particularité",
    "informe",
    "resonancia",
]
_DOCUMENTS = 6
_SIGNS = 6
_CHARTS = ("lines", "bars", "scatter", "pie", "heat", "histogram")


def writing() -> Iterator[Drawn]:
    """Documents black on white and white on black, few large letters on black, and charts."""
    for number in range(_DOCUMENTS):
        source = f"written document {number}"
        page = _document(random_of(source))
        yield Drawn("document", source, page)
        yield Drawn("document, white on black", source, 255 - page)
    for number in range(_SIGNS):
        source = f"written sign {number}"
        yield Drawn("large letters on black", source, _sign(random_of(source)))
    for name in _CHARTS:
        source = f"chart of {name}"
        yield Drawn("chart", source, _chart(name, random_of(source), dark=False))
        yield Drawn("chart on black", source, _chart(name, random_of(source), dark=True))


def _document(random: Random) -> Grey:
    page = Image.new("L", (420, 560), 255)
    pen = ImageDraw.Draw(page)
    size = int(random.integers(12, 26))
    font = ImageFont.truetype(_font(), size)
    for line in range(int(random.integers(4, 480 // (size + 6)))):
        words = " ".join(random.choice(_WORDS, int(random.integers(2, 8))))
        pen.text((30, 30 + line * (size + 6)), words, font=font, fill=0)
    return np.asarray(page, np.uint8)


def _sign(random: Random) -> Grey:
    canvas = np.zeros((256, 256), np.uint8)
    text = "".join(random.choice(list("ABCDEFGHKMRSXZ0123456789"), int(random.integers(1, 5))))
    scale = 7.0 / len(text)
    (width, height), _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_DUPLEX, scale, 12)
    place = ((256 - width) // 2, (256 + height) // 2)
    cv2.putText(canvas, text, place, cv2.FONT_HERSHEY_DUPLEX, scale, 230, 12)
    return canvas


def _chart(name: str, random: Random, *, dark: bool) -> Grey:
    with matplotlib.style.context("dark_background" if dark else "default"):
        figure = Figure(figsize=(3.2, 3.2), dpi=100)
        axes = figure.subplots()
        values = random.random(12)
        match name:
            case "lines":
                axes.plot(np.cumsum(random.normal(size=(60, 3)), axis=0))
            case "bars":
                axes.bar(range(12), values)
            case "scatter":
                axes.scatter(random.normal(size=200), random.normal(size=200))
            case "pie":
                axes.pie(values[:6], labels=_WORDS[:6])
            case "heat":
                axes.imshow(random.random((12, 12)), cmap="gray")
            case _:
                axes.hist(random.normal(size=500), bins=30)
        axes.set_title(" ".join(random.choice(_WORDS, 2)))
        content = io.BytesIO()
        figure.savefig(content, format="png")
    decoded = cv2.imdecode(np.frombuffer(content.getvalue(), np.uint8), cv2.IMREAD_GRAYSCALE)
    return np.asarray(decoded, np.uint8)


def _font() -> str:
    return str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf")
