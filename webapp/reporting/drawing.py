"""Drawn parts of the PDF: bars of probabilities, the strip over all slices, the pictures.

All lengths are points; each part is drawn from its lower left corner.
"""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image
from reportlab.lib.colors import Color, HexColor
from reportlab.lib.utils import ImageReader
from reportlab.platypus import Flowable

INK = HexColor("#14212a")
MUTED = HexColor("#5a6b76")
LINE = HexColor("#d3dce1")
GROUND = HexColor("#f2f5f6")
ACCENT = HexColor("#0a6e67")
ACCENT_SOFT = HexColor("#cfe6e3")
WARN = HexColor("#7d5200")
WARN_SOFT = HexColor("#fcf0d3")
WARN_LINE = HexColor("#e0b968")

REGULAR = "Sulcus"
BOLD = "Sulcus-Bold"


class Bars(Flowable):
    """One bar per class: (word, fraction, number as text, whether it is not ruled out)."""

    _ROW = 17.0

    def __init__(self, rows: Sequence[tuple[str, float, str, bool]], *, possible: str) -> None:
        super().__init__()
        self._rows = rows
        self._possible = possible

    def wrap(self, width: float, _height: float) -> tuple[float, float]:
        self.width, self.height = width, self._ROW * len(self._rows)
        return self.width, self.height

    def draw(self) -> None:
        for number, (word, fraction, text, possible) in enumerate(self._rows):
            self._row(self.height - (number + 1) * self._ROW + 5, word, fraction, text, possible)

    def _row(self, y: float, word: str, fraction: float, text: str, possible: bool) -> None:
        canvas = self.canv
        left, right = 112.0, self.width - 138
        canvas.setFillColor(INK if possible else MUTED)
        canvas.setFont(BOLD if possible else REGULAR, 9)
        canvas.drawString(0, y, word)
        canvas.setFillColor(GROUND)
        canvas.roundRect(left, y - 1.5, right - left, 9, 4.5, stroke=0, fill=1)
        canvas.setFillColor(ACCENT if possible else LINE)
        length = max(2.0, (right - left) * fraction)
        canvas.roundRect(left, y - 1.5, length, 9, min(4.5, length / 2), stroke=0, fill=1)
        canvas.setFillColor(INK if possible else MUTED)
        canvas.drawRightString(right + 38, y, text)
        if possible:
            canvas.setFillColor(ACCENT)
            canvas.setFont(REGULAR, 8)
            canvas.drawString(right + 46, y, self._possible)


class Strip(Flowable):
    """Tumour probability over all slices; None leaves a gap, and key slices are marked."""

    _PLOT = 52.0
    _FOOT = 15.0
    _LEFT = 30.0

    def __init__(
        self,
        fractions: Sequence[float | None],
        *,
        keys: Sequence[int],
        axis: Sequence[str],
        caption: str,
    ) -> None:
        """Take slices in order, numbers of key slices from 1, and labels for 0 %, 50 %, 100 %."""
        super().__init__()
        self._fractions = fractions
        self._keys = keys
        self._axis = axis
        self._caption = caption

    def wrap(self, width: float, _height: float) -> tuple[float, float]:
        self.width, self.height = width, self._PLOT + self._FOOT + 6
        return self.width, self.height

    def draw(self) -> None:
        self._grid()
        step = (self.width - self._LEFT) / max(1, len(self._fractions))
        gap = 0.6 if step > 3 else 0.0
        for number, fraction in enumerate(self._fractions, start=1):
            x = self._LEFT + (number - 1) * step
            if fraction is not None:
                is_key = number in self._keys
                self.canv.setFillColor(ACCENT if is_key else ACCENT_SOFT)
                height = max(0.7, fraction * self._PLOT)
                self.canv.rect(x, self._FOOT, max(step - gap, 0.3), height, stroke=0, fill=1)
        for number in self._keys:
            self._mark(self._LEFT + (number - 0.5) * step)
        self._feet()

    def _grid(self) -> None:
        canvas = self.canv
        canvas.setFont(REGULAR, 7)
        for part, word in enumerate(self._axis):
            y = self._FOOT + self._PLOT * part / (len(self._axis) - 1)
            canvas.setStrokeColor(LINE)
            canvas.setLineWidth(0.5)
            canvas.line(self._LEFT, y, self.width, y)
            canvas.setFillColor(MUTED)
            canvas.drawRightString(self._LEFT - 4, y - 2.5, word)

    def _mark(self, x: float) -> None:
        """A small triangle below the bar."""
        path = self.canv.beginPath()
        path.moveTo(x, self._FOOT - 1.5)
        path.lineTo(x - 2.6, self._FOOT - 6)
        path.lineTo(x + 2.6, self._FOOT - 6)
        path.close()
        self.canv.setFillColor(ACCENT)
        self.canv.drawPath(path, stroke=0, fill=1)

    def _feet(self) -> None:
        canvas = self.canv
        canvas.setFont(REGULAR, 7)
        canvas.setFillColor(MUTED)
        canvas.drawString(self._LEFT, 0, "1")
        canvas.drawRightString(self.width, 0, str(len(self._fractions)))
        canvas.drawCentredString((self._LEFT + self.width) / 2, 0, self._caption)


class Pictures(Flowable):
    """Pictures of one size side by side on black, each with a caption below."""

    _GAP = 10.0
    _CAPTION = 14.0

    def __init__(
        self, pictures: Sequence[tuple[npt.NDArray[np.uint8], str]], *, highest: float
    ) -> None:
        """Take (height, width, 3) pixels with captions, and the maximum height of a picture."""
        super().__init__()
        self._pictures = pictures
        self._highest = highest

    def wrap(self, width: float, _height: float) -> tuple[float, float]:
        rows, columns = self._pictures[0][0].shape[:2]
        self._box = (width - self._GAP * (len(self._pictures) - 1)) / len(self._pictures)
        scale = min(self._box / columns, self._highest / rows)
        self._shown = columns * scale, rows * scale
        self.width, self.height = width, self._shown[1] + self._CAPTION
        return self.width, self.height

    def draw(self) -> None:
        shown_width, shown_height = self._shown
        for number, (pixels, caption) in enumerate(self._pictures):
            x = number * (self._box + self._GAP)
            self.canv.setFillColor(Color(0, 0, 0))
            self.canv.rect(x, self._CAPTION, self._box, shown_height, stroke=0, fill=1)
            inset = (self._box - shown_width) / 2
            self.canv.drawImage(
                _reader(pixels), x + inset, self._CAPTION, shown_width, shown_height
            )
            self.canv.setFillColor(MUTED)
            self.canv.setFont(REGULAR, 8)
            self.canv.drawString(x, 2, caption)


def _reader(pixels: npt.NDArray[np.uint8]) -> ImageReader:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    buffer.seek(0)
    return ImageReader(buffer)
