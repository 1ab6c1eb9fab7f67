"""The form and files of the upload page."""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import IO

from flask_babel import lazy_gettext as _l
from werkzeug.datastructures import FileStorage
from wtforms import BooleanField, MultipleFileField, SelectChoice, SelectField, StringField

from webapp.errors import PortalError
from webapp.formerrors import CheckedForm
from webapp.intake.arrival import Handling
from webapp.intake.filenames import shown
from webapp.intake.known import Known
from webapp.intake.letters import BurnedIn
from webapp.intake.parcels import Split
from webapp.intake.submission import Choices
from webapp.studies.models import Priority
from webapp.wording import PRIORITIES

_PRIORITIES = [SelectChoice(value, word) for value, word in PRIORITIES.items()]


class UploadForm(CheckedForm):
    """A new study. :mod:`webapp.intake.submission` checks the values."""

    files = MultipleFileField(_l("Images"))
    patient_code = StringField(_l("Patient code"))
    description = StringField(_l("Description"))
    priority = SelectField(_l("Priority"), choices=_PRIORITIES, default=Priority.ROUTINE.value)
    plane = SelectField(
        _l("Slice plane of volumes"),
        choices=[
            SelectChoice("auto", _l("As acquired")),
            SelectChoice("axial", _l("Axial")),
            SelectChoice("coronal", _l("Coronal")),
            SelectChoice("sagittal", _l("Sagittal")),
        ],
        default="auto",
    )
    burned_in = SelectField(
        _l("Text in the image"),
        choices=[
            SelectChoice(BurnedIn.ASK.value, _l("Ask me if there is any")),
            SelectChoice(BurnedIn.MASK.value, _l("Black it out")),
            SelectChoice(
                BurnedIn.KEEP.value, _l("Keep it: I have checked that it identifies nobody")
            ),
        ],
        default=BurnedIn.ASK.value,
    )
    forgiving = BooleanField(_l("Skip files that are not MR images"))
    code_confirmed = BooleanField(_l("The patient code is a pseudonym and identifies nobody"))
    # Defaults for programs that omit these fields; the page's script asks instead.
    split = SelectField(
        _l("Files of several patients"),
        choices=[
            SelectChoice(Split.ASK.value, _l("Ask me")),
            SelectChoice(Split.YES.value, _l("Create a study for each")),
            SelectChoice(Split.NO.value, _l("Keep images together as one study")),
        ],
        default=Split.NO.value,
    )
    known = SelectField(
        _l("Images that are already stored"),
        choices=[
            SelectChoice(Known.ASK.value, _l("Ask me")),
            SelectChoice(Known.NEW.value, _l("Analyse them again as a new study")),
            SelectChoice(Known.ADD.value, _l("Add only the new ones to the earlier study")),
            SelectChoice(
                Known.REUSE.value, _l("Open the earlier study if it contains all of them")
            ),
        ],
        default=Known.NEW.value,
    )

    def show(self, error: PortalError) -> None:
        """Show each message of ``error`` beside its field."""
        about_files = []
        for name, sentence in error.fields.items():
            if name in self and name != "files":
                self[name].errors = [sentence]
            elif name != "files":
                about_files.append(f"{name}: {sentence}")
        # The first message is shown above the form.
        self.files.errors = about_files[1:]


@dataclass(frozen=True)
class FormFile:
    """A file of a request, read from the request when needed.

    Attributes:
        path: within the chosen folder, if the page sent it.
    """

    storage: FileStorage
    path: str = ""

    @property
    def name(self) -> str:
        """The path or the file name as the browser sent it."""
        return self.path or self.storage.filename or ""

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.storage.stream.seek(0, os.SEEK_END)

    @property
    def content(self) -> bytes:
        """The whole content."""
        return self.open().read()

    def open(self) -> IO[bytes]:
        """Open the file at its beginning."""
        self.storage.stream.seek(0)
        return self.storage.stream


def uploaded_files(received: Iterable[FileStorage], paths: str | None = None) -> list[FormFile]:
    """The files of a request, without empty file inputs.

    Args:
        paths: a JSON list with the path of each file, since not every browser includes folders
            in the name of a part; an invalid list is ignored.
    """
    files = [file for file in received if file.filename]
    named = file_paths(paths)
    if len(named) != len(files):
        named = [""] * len(files)
    return [FormFile(file, path) for file, path in zip(files, named, strict=True)]


def file_paths(text: str | None) -> list[str]:
    """Parse the page's JSON list of file paths; empty if it is invalid."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        return []
    return [shown(path) if path else "" for path in found]


def handling(form: UploadForm) -> Handling:
    """The file handling chosen in a validated form."""
    return Handling(
        burned_in=BurnedIn(form.burned_in.data),
        plane=form.plane.data,
        forgiving=bool(form.forgiving.data),
    )


def choices(form: UploadForm) -> Choices:
    """The choices about the whole upload in a validated form."""
    return Choices(
        split=Split(form.split.data),
        known=Known(form.known.data),
        code_confirmed=bool(form.code_confirmed.data),
    )
