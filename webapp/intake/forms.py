"""What the upload page takes from a request."""

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
    """A new study. What the values may be is decided in :mod:`webapp.intake.submission`."""

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
    # A program that posts without them gets what it always got; the page asks.
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
        """Put each sentence of ``error`` beside the field that it is about."""
        about_files = []
        for name, sentence in error.fields.items():
            if name in self and name != "files":
                self[name].errors = [sentence]
            elif name != "files":
                about_files.append(f"{name}: {sentence}")
        # The first stands in the message above the form.
        self.files.errors = about_files[1:]


@dataclass(frozen=True)
class FormFile:
    """A file of a request. It stays where the request keeps it and is read when it is its turn.

    Attributes:
        path: inside of the folder that was chosen, where the page says so.
    """

    storage: FileStorage
    path: str = ""

    @property
    def name(self) -> str:
        """As the browser sent it."""
        return self.path or self.storage.filename or ""

    @property
    def size(self) -> int:
        """In bytes."""
        return self.storage.stream.seek(0, os.SEEK_END)

    @property
    def content(self) -> bytes:
        """All of it."""
        return self.open().read()

    def open(self) -> IO[bytes]:
        """From its beginning."""
        self.storage.stream.seek(0)
        return self.storage.stream


def uploaded_files(received: Iterable[FileStorage], paths: str | None = None) -> list[FormFile]:
    """The files of a request; a file input that was left empty counts for nothing.

    Args:
        paths: a JSON list with the path of each file, since not every browser sends folders in
            the name of a part; what is no such list is passed over.
    """
    files = [file for file in received if file.filename]
    named = file_paths(paths)
    if len(named) != len(files):
        named = [""] * len(files)
    return [FormFile(file, path) for file, path in zip(files, named, strict=True)]


def file_paths(text: str | None) -> list[str]:
    """Paths of files as a page sends them, a JSON list; empty where it is none."""
    try:
        found = json.loads(text or "[]")
    except (ValueError, RecursionError):
        return []
    if not isinstance(found, list) or not all(isinstance(path, str) for path in found):
        return []
    return [shown(path) if path else "" for path in found]


def handling(form: UploadForm) -> Handling:
    """How the files of a checked form are to be treated."""
    return Handling(
        burned_in=BurnedIn(form.burned_in.data),
        plane=form.plane.data,
        forgiving=bool(form.forgiving.data),
    )


def choices(form: UploadForm) -> Choices:
    """What a checked form says about the upload as a whole."""
    return Choices(
        split=Split(form.split.data),
        known=Known(form.known.data),
        code_confirmed=bool(form.code_confirmed.data),
    )
