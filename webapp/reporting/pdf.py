"""The PDF report: one or two A4 pages in the user's language."""

import io
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

from flask_babel import format_date, format_time, ngettext
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
    KeepTogether,
    PageTemplate,
    Paragraph,
    Spacer,
    Table,
)

from webapp.reporting.content import Reading, ReportContent, ReportedSlice
from webapp.reporting.drawing import (
    ACCENT,
    BOLD,
    GROUND,
    INK,
    LINE,
    MUTED,
    REGULAR,
    WARN,
    WARN_LINE,
    WARN_SOFT,
    Bars,
    Pictures,
    Strip,
)
from webapp.reporting.pictures import render
from webapp.reporting.words import label_word, number, percent, share
from webapp.storage import BlobStore
from webapp.wording import (
    CONFIDENCES,
    VERDICTS,
    diagnosis,
    doubt_sentence,
    familiar_share,
    scope_sentence,
    word,
)

_FONTS = Path(__file__).parent / "fonts"
_MARGIN = 18 * mm
_HEAD = 33 * mm
_FOOT = 16 * mm
_HIGHEST_PICTURE = 53 * mm


def pdf(content: ReportContent, blobs: BlobStore) -> bytes:
    """The report as PDF, in the language of the request.

    Raises:
        MissingBlob: a slice or heatmap is gone.
    """
    _register_fonts()
    buffer = io.BytesIO()
    document = BaseDocTemplate(
        buffer,
        pagesize=A4,
        title=_plain(_("Sulcus report: %(code)s", code=content.patient_code)),
        author="Sulcus",
        subject=_plain(_notice()),
        lang="",
        initialFontName=REGULAR,
        invariant=1,
    )
    frame = Frame(_MARGIN, _FOOT, A4[0] - 2 * _MARGIN, A4[1] - _HEAD - _FOOT, 0, 0, 0, 0, id="body")
    furniture = _Furniture(content)
    document.addPageTemplates(PageTemplate("page", [frame], onPage=furniture.head))
    document.build(_story(content, blobs), canvasmaker=furniture.canvas)
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

    def __init__(self, content: ReportContent) -> None:
        self._content = content

    def head(self, canvas: Canvas, _document: BaseDocTemplate) -> None:
        """Draw the header: name of the software, title, and the notice in its box."""
        width, height = A4
        canvas.saveState()
        canvas.setFillColor(ACCENT)
        canvas.setFont(BOLD, 15)
        canvas.drawString(_MARGIN, height - 15 * mm, "Sulcus")
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 9)
        canvas.drawRightString(
            width - _MARGIN, height - 15 * mm, str(_("Report of an automated analysis"))
        )
        canvas.setFillColor(WARN_SOFT)
        canvas.setStrokeColor(WARN_LINE)
        canvas.setLineWidth(0.8)
        canvas.roundRect(_MARGIN, height - 27 * mm, width - 2 * _MARGIN, 8 * mm, 3, fill=1)
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
        canvas.line(_MARGIN, 13 * mm, A4[0] - _MARGIN, 13 * mm)
        canvas.setFillColor(MUTED)
        canvas.setFont(REGULAR, 7.5)
        canvas.drawString(_MARGIN, 9 * mm, _("Study %(id)s", id=self._content.study_id))
        canvas.drawRightString(
            A4[0] - _MARGIN, 9 * mm, _("Page %(page)s of %(pages)s", page=page, pages=pages)
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


def _story(content: ReportContent, blobs: BlobStore) -> list[Flowable]:
    return [
        *_facts(content),
        *_finding(content),
        *_pictures(content, content.key_slices[0], blobs),
        *_probabilities(content),
        *_strip(content),
        *_further_slices(content, blobs),
        *_readings(content),
        *_provenance(content),
    ]


def _facts(content: ReportContent) -> list[Flowable]:
    rows = [
        (_("Uploaded"), f"{_moment(content.created_at)}, {content.uploaded_by}"),
        (_("Analysed"), _moment(content.finished_at)),
        (_("Slices") if content.is_of_slices else _("Images"), number(len(content.slices))),
    ]
    if content.acquired_on:
        day = _("%(day)s (shifted to protect the patient)", day=format_date(content.acquired_on))
        rows.insert(0, (_("Acquired"), day))
    if content.description:
        rows.append((_("Description"), content.description))
    return [
        Paragraph(_safe(content.patient_code), _style("title")),
        _table(
            [[_cell(name, "fact-name"), _cell(value, "fact")] for name, value in rows],
            [28 * mm, None],
        ),
        Spacer(0, 3 * mm),
    ]


def _finding(content: ReportContent) -> list[Flowable]:
    answer, result = content.answer, content.result
    probability = percent(result.probability) if result.probability is not None else ""
    lines: list[Flowable] = [
        Paragraph(
            f"{_safe(result.headline)} "
            f'<font color="{MUTED.hexval().replace("0x", "#")}">{_safe(probability)}</font>',
            _style("answer"),
        ),
        Paragraph(_safe(result.doubt), _style("body")),
        Paragraph(_safe(scope_sentence()), _style("body")),
    ]
    if not answer.in_distribution:
        warning = _(
            "This does not look like the brain MRI the model was trained on; the result is "
            "unreliable."
        )
        lines.append(Paragraph(_safe(warning), _style("warning")))
    if content.in_distribution_share is not None and len(content.slices) > 1:
        familiar = share(content.in_distribution_share)
        sentence = familiar_share(familiar, are_slices=content.is_of_slices)
        lines.append(Paragraph(_safe(sentence), _style("body")))
    lines += [Paragraph(_safe(note), _style("body")) for note in content.order_notes]
    box = Table([[lines]], colWidths=["100%"])
    box.setStyle(
        [
            ("FONTNAME", (0, 0), (-1, -1), REGULAR),
            ("BACKGROUND", (0, 0), (-1, -1), GROUND),
            ("ROUNDEDCORNERS", [4, 4, 4, 4]),
            ("LEFTPADDING", (0, 0), (-1, -1), 10),
            ("RIGHTPADDING", (0, 0), (-1, -1), 10),
            ("TOPPADDING", (0, 0), (-1, -1), 7),
            ("BOTTOMPADDING", (0, 0), (-1, -1), 8),
        ]
    )
    return [box, Spacer(0, 3 * mm)]


def _numbered(content: ReportContent, number: int) -> str:
    if content.is_of_slices:
        return str(_("Slice %(number)s", number=number))
    return str(_("Image %(number)s", number=number))


def _pictures(content: ReportContent, key: ReportedSlice, blobs: BlobStore) -> list[Flowable]:
    rendered = render(key, blobs)
    shown = [(rendered.plain, _numbered(content, key.number))]
    if rendered.heated is not None:
        shown.append((rendered.heated, str(_("Heatmap: where the model suspects a tumour"))))
    return [Pictures(shown, highest=_HIGHEST_PICTURE), Spacer(0, 1 * mm)]


def _probabilities(content: ReportContent) -> list[Flowable]:
    answer, heading = content.answer, _("Probabilities")
    if content.contradicting:
        answer = content.key_slices[0].answer
        number_of_first = content.key_slices[0].number
        heading = (
            _("Probabilities for slice %(number)s", number=number_of_first)
            if content.is_of_slices
            else _("Probabilities for image %(number)s", number=number_of_first)
        )
    ordered = sorted(answer.probabilities.items(), key=lambda pair: -pair[1])
    bars = Bars(
        [
            (label_word(label), value, percent(value), label in answer.prediction_set)
            for label, value in ordered
        ],
        possible=str(_("not ruled out")),
    )
    return [_heading(heading), bars, Spacer(0, 2 * mm)]


def _strip(content: ReportContent) -> list[Flowable]:
    if len(content.slices) < 2:
        return []
    strip = Strip(
        [one.tumor_probability for one in content.slices],
        keys=[key.number for key in content.key_slices],
        axis=[share(0), share(0.5), share(1)],
        caption=str(
            _("Slices in order; key slices are marked")
            if content.is_of_slices
            else _("Images in order; key images are marked")
        ),
    )
    heading = (
        _("Probability of any tumour, slice by slice")
        if content.is_of_slices
        else _("Probability of any tumour, image by image")
    )
    return [KeepTogether([_heading(heading), strip])]


def _further_slices(content: ReportContent, blobs: BlobStore) -> list[Flowable]:
    """The other key slices with their answers."""
    story: list[Flowable] = []
    for key in content.key_slices[1:]:
        answer = key.answer
        heading = _heading(
            _(
                "%(image)s: %(label)s, %(probability)s",
                image=_numbered(content, key.number),
                label=label_word(answer.label),
                probability=percent(answer.probabilities[answer.label]),
            )
        )
        sentence = Paragraph(
            _safe(doubt_sentence(answer.label, answer.prediction_set, answer.probabilities)),
            _style("body"),
        )
        story.append(
            KeepTogether([heading, sentence, Spacer(0, 2 * mm), *_pictures(content, key, blobs)])
        )
    return story


def _readings(content: ReportContent) -> list[Flowable]:
    heading = _heading(_("Assessments"))
    hidden = content.hidden_readings
    withheld = ngettext(
        "%(num)d assessment by another reader is left out: whoever asked for this report has not "
        "assessed the same yet.",
        "%(num)d assessments by other readers are left out: whoever asked for this report has not "
        "assessed the same yet.",
        hidden,
    )
    if not content.readings:
        if hidden:
            return [KeepTogether([heading, Paragraph(_safe(withheld), _style("body"))])]
        nobody = Paragraph(_safe(_("Not yet reviewed.")), _style("body"))
        return [KeepTogether([heading, nobody])]
    story: list[Flowable] = []
    for position, reading in enumerate(content.readings):
        line = Paragraph(_reading(content, reading), _style("reading"))
        story.append(KeepTogether([heading, line]) if position == 0 else line)
        # One flowable per paragraph, so that each can break across pages.
        story += [
            Paragraph(_safe(part), _style("comment"))
            for part in reading.comment.splitlines()
            if part.strip()
        ]
    if hidden:
        story.append(Paragraph(_safe(withheld), _style("body")))
    return story


def _reading(content: ReportContent, reading: Reading) -> str:
    verdict = f"<b>{_safe(word(VERDICTS, reading.verdict))}</b>"
    number = reading.number
    parts = [
        _("the study as a whole")
        if number is None
        else _("slice %(number)s", number=number)
        if content.is_of_slices
        else _("image %(number)s", number=number)
    ]
    if reading.verdict == "disagree" and reading.label:
        verdict += f": <b>{_safe(diagnosis(reading.label, reading.finding))}</b>"
    if reading.confidence:
        parts.append(f"{_('confidence')}: {word(CONFIDENCES, reading.confidence)}")
    parts += [reading.reader, _moment(reading.at)]
    return f"{verdict}, {_safe(', '.join(parts))}"


def _provenance(content: ReportContent) -> list[Flowable]:
    rows = [
        (_("Model"), content.model_name),
        (_("SHA-256 of the weights"), content.model_sha256),
        (_("Study Instance UID"), content.uid),
    ]
    table = _table(
        [[_cell(name, "small"), _cell(value, "small")] for name, value in rows],
        [44 * mm, None],
    )
    meaning = _(
        "A class is not ruled out if it is in the prediction set, which was calibrated on scans "
        "like those used for training. The heatmap shows where the model suspects a tumour; it "
        "does not outline one."
    )
    return [
        KeepTogether(
            [_heading(_("About this analysis")), table, Paragraph(_safe(meaning), _style("small"))]
        )
    ]


def _heading(text: str) -> Paragraph:
    return Paragraph(_safe(text), _style("heading"))


def _table(rows: Sequence[Sequence[Paragraph]], widths: Sequence[float | None]) -> Table:
    rest = A4[0] - 2 * _MARGIN - sum(width or 0 for width in widths)
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


def _cell(text: str, style: str) -> Paragraph:
    return Paragraph(_safe(text), _style(style))


def _moment(moment: datetime) -> str:
    return f"{format_date(moment, 'medium')}, {format_time(moment, 'HH:mm')} UTC"


def _plain(text: object) -> str:
    """Text without unprintable characters."""
    return "".join(character if character.isprintable() else " " for character in str(text))


def _safe(text: object) -> str:
    """Text escaped for a Paragraph, which parses markup."""
    return escape(_plain(text))


@lru_cache(maxsize=16)
def _style(name: str) -> ParagraphStyle:
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
