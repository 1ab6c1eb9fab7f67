"""The PDF report: one or two A4 pages in the user's language."""

from flask_babel import format_date, ngettext
from flask_babel import gettext as _
from reportlab.lib.units import mm
from reportlab.platypus import Flowable, KeepTogether, Paragraph, Spacer, Table

from webapp.reporting.content import Reading, ReportContent, ReportedSlice
from webapp.reporting.drawing import GROUND, MUTED, REGULAR, Bars, Pictures, Strip
from webapp.reporting.pictures import render
from webapp.reporting.sheets import (
    build,
    cell,
    moment_in_words,
    safe,
    section_heading,
    style,
    table_of,
)
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

_HIGHEST_PICTURE = 53 * mm


def pdf(content: ReportContent, blobs: BlobStore) -> bytes:
    """The report as PDF, in the language of the request.

    Raises:
        MissingBlob: a slice or heatmap is gone.
    """
    return build(
        _story(content, blobs),
        title=_("Sulcus report: %(code)s", code=content.patient_code),
        heading=_("Report of an automated analysis"),
        foot=_("Study %(id)s", id=content.study_id),
    )


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
        (_("Uploaded"), f"{moment_in_words(content.created_at)}, {content.uploaded_by}"),
        (_("Analysed"), moment_in_words(content.finished_at)),
        (_("Slices") if content.is_of_slices else _("Images"), number(len(content.slices))),
    ]
    if content.acquired_on:
        day = _("%(day)s (shifted to protect the patient)", day=format_date(content.acquired_on))
        rows.insert(0, (_("Acquired"), day))
    if content.description:
        rows.append((_("Description"), content.description))
    return [
        Paragraph(safe(content.patient_code), style("title")),
        table_of(
            [[cell(name, "fact-name"), cell(value, "fact")] for name, value in rows],
            [28 * mm, None],
        ),
        Spacer(0, 3 * mm),
    ]


def _finding(content: ReportContent) -> list[Flowable]:
    answer, result = content.answer, content.result
    probability = percent(result.probability) if result.probability is not None else ""
    lines: list[Flowable] = [
        Paragraph(
            f"{safe(result.headline)} "
            f'<font color="{MUTED.hexval().replace("0x", "#")}">{safe(probability)}</font>',
            style("answer"),
        ),
        Paragraph(safe(result.doubt), style("body")),
        Paragraph(safe(scope_sentence()), style("body")),
    ]
    if not answer.in_distribution:
        warning = _(
            "This does not look like the brain MRI the model was trained on; the result is "
            "unreliable."
        )
        lines.append(Paragraph(safe(warning), style("warning")))
    if content.in_distribution_share is not None and len(content.slices) > 1:
        familiar = share(content.in_distribution_share)
        sentence = familiar_share(familiar, are_slices=content.is_of_slices)
        lines.append(Paragraph(safe(sentence), style("body")))
    lines += [Paragraph(safe(note), style("body")) for note in content.order_notes]
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
    return [section_heading(heading), bars, Spacer(0, 2 * mm)]


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
    return [KeepTogether([section_heading(heading), strip])]


def _further_slices(content: ReportContent, blobs: BlobStore) -> list[Flowable]:
    """The other key slices with their answers."""
    story: list[Flowable] = []
    for key in content.key_slices[1:]:
        answer = key.answer
        heading = section_heading(
            _(
                "%(image)s: %(label)s, %(probability)s",
                image=_numbered(content, key.number),
                label=label_word(answer.label),
                probability=percent(answer.probabilities[answer.label]),
            )
        )
        sentence = Paragraph(
            safe(doubt_sentence(answer.label, answer.prediction_set, answer.probabilities)),
            style("body"),
        )
        story.append(
            KeepTogether([heading, sentence, Spacer(0, 2 * mm), *_pictures(content, key, blobs)])
        )
    return story


def _readings(content: ReportContent) -> list[Flowable]:
    heading = section_heading(_("Assessments"))
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
            return [KeepTogether([heading, Paragraph(safe(withheld), style("body"))])]
        nobody = Paragraph(safe(_("Not yet reviewed.")), style("body"))
        return [KeepTogether([heading, nobody])]
    story: list[Flowable] = []
    for position, reading in enumerate(content.readings):
        line = Paragraph(_reading(content, reading), style("reading"))
        story.append(KeepTogether([heading, line]) if position == 0 else line)
        # One flowable per paragraph, so that each can break across pages.
        story += [
            Paragraph(safe(part), style("comment"))
            for part in reading.comment.splitlines()
            if part.strip()
        ]
    if hidden:
        story.append(Paragraph(safe(withheld), style("body")))
    return story


def _reading(content: ReportContent, reading: Reading) -> str:
    verdict = f"<b>{safe(word(VERDICTS, reading.verdict))}</b>"
    number = reading.number
    parts = [
        _("the study as a whole")
        if number is None
        else _("slice %(number)s", number=number)
        if content.is_of_slices
        else _("image %(number)s", number=number)
    ]
    if reading.verdict == "disagree" and reading.label:
        verdict += f": <b>{safe(diagnosis(reading.label, reading.finding))}</b>"
    if reading.confidence:
        sure = _("confidence")
        parts.append(f"{sure}: {word(CONFIDENCES, reading.confidence)}")
    parts += [reading.reader, moment_in_words(reading.at)]
    return f"{verdict}, {safe(', '.join(parts))}"


def _provenance(content: ReportContent) -> list[Flowable]:
    rows = [
        (_("Model"), content.model_name),
        (_("SHA-256 of the weights"), content.model_sha256),
        (_("Study Instance UID"), content.uid),
    ]
    table = table_of(
        [[cell(name, "small"), cell(value, "small")] for name, value in rows],
        [44 * mm, None],
    )
    meaning = _(
        "A class is not ruled out if it is in the prediction set, which was calibrated on scans "
        "like those used for training. The heatmap shows where the model suspects a tumour; it "
        "does not outline one."
    )
    return [
        KeepTogether(
            [
                section_heading(_("About this analysis")),
                table,
                Paragraph(safe(meaning), style("small")),
            ]
        )
    ]
