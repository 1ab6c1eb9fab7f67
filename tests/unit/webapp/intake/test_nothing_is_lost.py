"""Whatever is sent: what went in is what is shown and what is named as left out."""

import io
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.uid import generate_uid

from tests.dicoms import as_bytes, head, mr_slice
from tests.factories import SAMPLE, Account, make_account
from webapp.accounts.models import Role
from webapp.accounts.queries import find_user_by_address
from webapp.database import db
from webapp.errors import RefusedUpload
from webapp.intake.arrival import Handling, UploadedFile
from webapp.intake.parcels import Split
from webapp.intake.submission import Choices, submit_files
from webapp.studies.models import Study
from webapp.tenancy import acting_for

SERIES = ("axial", "coronal", "no place")
_ORIENTATIONS = {"axial": (1, 0, 0, 0, 1, 0), "coronal": (1, 0, 0, 0, 0, -1)}


@dataclass(frozen=True)
class File:
    """One file: a slice of a series, or something else."""

    kind: str
    number: int = 0
    copy: int = 0  # another object of the same slice


Tree = File | tuple["Tree", ...]  # an archive
Upload = list[Tree]

slices = st.builds(
    File, kind=st.sampled_from(SERIES), number=st.integers(0, 4), copy=st.integers(0, 1)
)
others = st.builds(
    File, kind=st.sampled_from(["broken", "no pixels", "picture", "words", "empty", "junk"])
)
trees: st.SearchStrategy[Tree] = st.recursive(
    slices | slices | others,
    lambda inner: st.lists(inner, min_size=1, max_size=4).map(tuple),
    max_leaves=8,
)
uploads = st.lists(trees, min_size=1, max_size=6)


class Writer:
    """Makes the files of one upload; identifiers are new each time."""

    def __init__(self) -> None:
        self._study = generate_uid()
        self._series = {name: generate_uid() for name in SERIES}
        self._uids: dict[File, str] = {}
        self._numbers = count()

    def written(self, tree: Tree) -> tuple[str, bytes]:
        """(name, content)."""
        number = next(self._numbers)
        if isinstance(tree, tuple):
            return f"{number}.zip", _zipped([self.written(inner) for inner in tree])
        names = {"junk": ".DS_Store", "picture": f"{number}.png"}
        return f"{number}/{names.get(tree.kind, 'file')}", self._content(tree)

    def _content(self, file: File) -> bytes:
        if file.kind == "picture":
            return SAMPLE.read_bytes()
        if file.kind in {"words", "empty", "junk"}:
            return b"" if file.kind == "empty" else b"No image at all."
        series = file.kind if file.kind in SERIES else "axial"
        place = (0.0, 0.0, 3.0 * file.number) if series == "axial" else (0.0, 3.0 * file.number, 0)
        dataset = mr_slice(
            head(file.number, 5, 64),
            position=place,
            number=file.number + 1,
            study_uid=self._study,
            series_uid=self._series[series],
            orientation=_ORIENTATIONS.get(series, _ORIENTATIONS["axial"]),
        )
        uid = self._uids.setdefault(file, dataset.SOPInstanceUID)
        dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = uid
        if series == "no place":
            del dataset.ImagePositionPatient, dataset.ImageOrientationPatient
        if file.kind == "no pixels":
            del dataset.PixelData, dataset.Rows
        content = as_bytes(dataset)
        return content[:-999] if file.kind == "broken" else content


def _zipped(members: list[tuple[str, bytes]]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _leaves(tree: Tree) -> Iterator[File]:
    if isinstance(tree, File):
        yield tree
        return
    for inner in tree:
        yield from _leaves(inner)


def _shown_and_left_out(account: Account, upload: Upload) -> tuple[int, int]:
    """Slices of the studies that were made, and files that are named or counted as left out."""
    writer = Writer()
    files = [UploadedFile(*writer.written(tree)) for tree in upload]
    submission = submit_files(
        actor=find_user_by_address(account.email),
        files=files,
        handling=Handling(forgiving=True),
        choices=Choices(split=Split.YES),
    )
    assert len({name for name, _code in submission.left_out}) == len(submission.left_out)
    shown = repeats = 0
    for study in submission.studies:
        shown += len(study.images)
        repeats += sum(series.duplicates for series in study.series)
    assert submission.studies[0].left_out.keys() == {code for _name, code in submission.left_out}
    return shown, repeats + len(submission.left_out)


def test_what_went_in_is_what_is_shown_and_what_is_named(app: Flask) -> None:
    account = make_account(app, Role.CLINICIAN)
    taken_in = []

    @settings(max_examples=20, deadline=None, derandomize=True)
    @given(upload=uploads)
    def holds(upload: Upload) -> None:
        with app.app_context(), acting_for(account.organisation_id):
            before = db.session.query(Study).count()
            db.session.rollback()
            try:
                shown, left_out = _shown_and_left_out(account, upload)
            except RefusedUpload as refusal:
                # All of it or nothing: whoever sent it is told which file is to blame.
                named, shown, left_out = set(refusal.fields), 0, 0
            if shown + left_out == 0:
                assert named
                assert db.session.query(Study).count() == before
                return
        taken_in.append(shown)
        assert shown + left_out == sum(1 for tree in upload for _leaf in _leaves(tree))

    holds()
    assert max(taken_in) > 2
