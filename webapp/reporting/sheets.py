"""A4 pages as the portal's PDF files have them: fonts, styles, header with the notice, footer."""

import io
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from flask_babel import format_date, format_time
from flask_babel import gettext as _
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import mm
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    BaseDocTemplate,
    Flowable,
    Frame,
    PageTemplate,
    Paragraph,
    Table,
)

from webapp.reporting.drawing import (
    ACCENT,
    BOLD,
    INK,
    LINE,
    MUTED,
    REGULAR,
    WARN,
    WARN_LINE,
    WARN_SOFT,
)

_FONTS = Path(__file__).parent / "fonts"
MARGIN = 18 * mm
_HEAD = 33 * mm
_FOOT = 16 * mm


def build(story: Sequence[Flowable], *, title: str, heading: str, foot: str) -> bytes:
    """A PDF file with this content.

    Args:
        title: of the file.
        heading: at the top of each page, beside the name of the software.
        foot: at the bottom of each page, beside its number.
    """
    _register_fonts()
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=plain(title),
        author="Sulcus",
        subject=plain(_notice()),
        lang="",
        initialFontName=REGULAR,
        invariant=1,
    )
    frame = Frame(MARGIN, _FOOT, A4[0] - 2 * MARGIN, A4[1] - _HEAD - _FOOT, 0, 0, 0, 0, id="body")
    furniture = _Furniture(heading, foot)
    document.addPageTemplates(PageTemplate("page", [frame], onPage=furniture.head))
    document.build(list(story), canvasmaker=furniture.canvas)
    return buffer.getvalue()


@lru_cache(maxsize=1)
def _register_fonts() -> None:
    pdfmetrics.registerFont(TTFont(REGULAR, str(_FONTS / "DejaVuSans.ttf")))
    pdfmetrics.registerFont(TTFont(BOLD, str(_FONTS / "DejaVuSans-Bold.ttf")))
    pdfmetrics.registerFontFamily(REGULAR, normal=REGULAR, bold=BOLD, boldItalic=BOLD)


def _notice() -> str:
    return str(_("Research software. Not a certified medical device; not for diagnosis."))


class _Furniture:
    """The parts repeated on every page: name, notice, page number."""

    def __init__(self, heading: str, foot: str) -> None:
        self._heading, self._text = plain(heading), plain(foot)

    def head(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        """Draw the header: name of the software, title, and the notice in its box."""
        width, height = A4
        canvas.saveState()
        canvas.setFillColor(ACCENT)
        canvas.setFont(BOLD, 15)
        canvas.drawString(MARGIN, height - 15 * mm, "Sulcus")
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 9)
        canvas.drawRightString(width - MARGIN, height - 15 * mm, self._heading)
        canvas.setFillColor(WARN_SOFT)
        canvas.setStrokeColor(WARN_LINE)
        canvas.setLineWidth(0.8)
        canvas.roundRect(MARGIN, height - 27 * mm, width - 2 * MARGIN, 8 * mm, 3, fill=1)
        canvas.setFillColor(WARN)
        canvas.setFont(BOLD, 9)
        canvas.drawCentredString(width / 2, height - 24 * mm, _notice())
        canvas.restoreState()

    def canvas(self, *args: Any, **options: Any) -> Canvas:
        """Make a canvas that draws the footers last, when the number of pages is known."""
        return _NumberedCanvas(*args, foot=self._foot, **options)

    def _foot(self, canvas: Canvas, page: int, pages: int) -> None:
        canvas.setStrokeColor(LINE)
        canvas.setLineWidth(0.5)
        canvas.line(MARGIN, 13 * mm, A4[0] - MARGIN, 13 * mm)
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 7.5)
        canvas.drawString(MARGIN, 9 * mm, self._text)
        canvas.drawRightString(
            A4[0] - MARGIN, 9 * mm, _("Page %(page)s of %(pages)s", page=page, pages=pages)
        )


class _NumberedCanvas(Canvas):
    def __init__(self, *args: Any, foot: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._write_foot = foot
        self._pages: list[dict[str, Any]] = []

    def showPage(self) -> None:  # noqa: N802 - ReportLab's name
        self._pages.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        for page, state in enumerate(self._pages, start=1):
            self.__dict__.update(state)
            self._write_foot(self, page, len(self._pages))
            super().showPage()
        super().save()


def section_heading(text: str) -> Paragraph:
    """The heading of a section."""
    return Paragraph(safe(text), style("heading"))


def table_of(rows: Sequence[Sequence[Paragraph]], widths: Sequence[float | None]) -> Table:
    """A table as wide as the page; a column whose width is None takes the rest of it."""
    rest = A4[0] - 2 * MARGIN - sum(width or 0 for width in widths)
    table = Table(list(rows), colWidths=[width or rest for width in widths], hAlign="LEFT")
    table.setStyle(
        [
            ("FONTNAME", (0, 0), (-1, -1), REGULAR),
            ("VALIGN", (0, 0), (-1, -1), "TOP"),
            ("LEFTPADDING", (0, 0), (-1, -1), 0),
            ("RIGHTPADDING", (0, 0), (-1, -1), 4),
            ("TOPPADDING", (0, 0), (-1, -1), 1),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 1),
        ]
    )
    return table


def cell(text: object, name: str) -> Paragraph:
    """Text in a cell, in the style of this name."""
    return Paragraph(safe(text), style(name))


def moment_in_words(moment: datetime) -> str:
    """A moment in the user's language, in UTC."""
    return f"{format_date(moment, 'medium')}, {format_time(moment, 'HH:mm')} UTC"


def plain(text: object) -> str:
    """Text without unprintable characters."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def safe(text: object) -> str:
    """Text escaped for a Paragraph, which parses markup."""
    return escape(plain(text))


@lru_cache(maxsize=16)
def style(name: str) -> ParagraphStyle:
    """A style of text by its name."""
    _register_fonts()  # a paragraph looks for its font when it is made
    sizes: dict[str, dict[str, Any]] = {
        "title": {"fontName": BOLD, "fontSize": 17, "leading": 22, "spaceAfter": 4},
        "answer": {"fontName": BOLD, "fontSize": 14, "leading": 19, "spaceAfter": 2},
        "heading": {
            "fontName": BOLD,
            "fontSize": 10.5,
            "leading": 14,
            "spaceBefore": 9,
            "spaceAfter": 4,
        },
        "body": {"fontSize": 9.5, "leading": 13},
        "warning": {"fontName": BOLD, "fontSize": 9.5, "leading": 13, "textColor": WARN},
        "reading": {"fontSize": 9, "leading": 12.5, "spaceBefore": 5, "keepWithNext": 1},
        "comment": {
            "fontSize": 9,
            "leading": 12.5,
            "leftIndent": 10,
            "spaceBefore": 2,
            "textColor": MUTED,
        },
        "fact-name": {"fontSize": 9, "leading": 12.5, "textColor": MUTED},
        "fact": {"fontSize": 9, "leading": 12.5},
        "small": {"fontSize": 8, "leading": 11.5, "textColor": MUTED},
    }
    # splitLongWords breaks a word that is wider than the page.
    base: dict[str, Any] = {"fontName": REGULAR, "textColor": INK, "splitLongWords": 1}
    return ParagraphStyle(name, **(base | sizes[name]))
