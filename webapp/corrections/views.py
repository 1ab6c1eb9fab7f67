"""Pages to correct a study, move its slices or delete it."""

import uuid
from typing import Any

from flask import Blueprint, flash, redirect, render_template, request, url_for
from flask.typing import ResponseReturnValue
from flask_babel import gettext as _
from flask_babel import ngettext

from ml.errors import UnreadableImage
from webapp.accounts.access import actor
from webapp.corrections.forms import (
    CorrectionForm,
    DeletionForm,
    MoveForm,
    chosen_images,
    identifier,
)
from webapp.corrections.moving import Moved, destinations, move_images
from webapp.corrections.operations import (
    correct_study,
    delete_study,
    extent_of,
    may_delete,
    version_of,
)
from webapp.database import db
from webapp.errors import Conflict, InvalidInput, NotAllowed, PortalError
from webapp.storage import MissingBlob
from webapp.studies.models import Study
from webapp.studies.queries import find_study, image_counts

blueprint = Blueprint("corrections", __name__, url_prefix="/studies/<uuid:study_id>")


@blueprint.route("/correct", methods=["GET", "POST"])
def correct(study_id: uuid.UUID) -> ResponseReturnValue:
    """Correct patient code, description and priority."""
    study = find_study(study_id)
    form = CorrectionForm(data=_values(study) | {"seen": version_of(study)})
    if request.method == "GET":
        return _correction_page(study, form)
    try:
        _demand_valid(form)
        correct_study(
            actor=actor(),
            study_id=study_id,
            correction=form.correction,
            seen=form.seen.data or version_of(study),
        )
    except PortalError as error:
        db.session.rollback()
        return _correction_page(find_study(study_id), form, error), error.status
    flash(_("The study has been corrected."), "success")
    return redirect(url_for("worklist.show", study_id=study_id))


@blueprint.route("/move", methods=["GET", "POST"])
def move(study_id: uuid.UUID) -> ResponseReturnValue:
    """Choose slices and move them."""
    study = find_study(study_id)
    form = MoveForm(data={"priority": study.priority.value})
    if request.method == "GET":
        return _move_page(study, form)
    chosen = chosen_images(request.form, study.series)
    try:
        _demand_valid(form)
        moved = move_images(
            actor=actor(), study_id=study_id, image_ids=chosen, target=form.destination
        )
    except (PortalError, UnreadableImage, MissingBlob) as problem:
        db.session.rollback()
        error = problem if isinstance(problem, PortalError) else _unreadable()
        return _move_page(find_study(study_id), form, error, chosen), error.status
    flash(_moved_sentence(moved), "success")
    shown = moved.source_id if moved.is_empty else moved.target_id
    return redirect(url_for("worklist.show", study_id=shown))


@blueprint.route("/delete", methods=["GET", "POST"])
def delete(study_id: uuid.UUID) -> ResponseReturnValue:
    """Show what would be deleted, then delete the study."""
    study = find_study(study_id)
    if not may_delete(actor(), study):
        raise NotAllowed(
            _("Only whoever uploaded a study, reviewers and administrators may delete it.")
        )
    form = DeletionForm(data={"seen": str(study.current_analysis_id or "")})
    if request.method == "GET":
        return _deletion_page(study, form)
    try:
        _demand_valid(form)
        delete_study(
            actor=actor(),
            study_id=study_id,
            deletion=form.deletion,
            seen=identifier(form.seen.data),
        )
    except (InvalidInput, Conflict) as error:
        db.session.rollback()
        study = find_study(study_id)
        if isinstance(error, Conflict):  # the counts have changed: ask again
            form.seen.data, form.sure.data = str(study.current_analysis_id or ""), False
        return _deletion_page(study, form, error), error.status
    flash(_("The study has been deleted."), "success")
    return redirect(url_for("worklist.index"))


def _values(study: Study) -> dict[str, Any]:
    return {
        "patient_code": study.patient.code,
        "description": study.description,
        "priority": study.priority.value,
    }


def _demand_valid(form: CorrectionForm | MoveForm | DeletionForm) -> None:
    if not form.validate():
        raise InvalidInput.of_form(form.errors)


def _correction_page(study: Study, form: CorrectionForm, error: PortalError | None = None) -> str:
    newer = {}
    if error is not None:
        form.show(error)
    if isinstance(error, Conflict):
        # The page shows the newer values, so saving again may overwrite them.
        form.seen.data = version_of(study)
        newer = {name: value for name, value in _values(study).items() if value != form[name].data}
    return render_template(
        "corrections/correct.html",
        study=study,
        form=form,
        error=error,
        newer=newer,
        may_delete=may_delete(actor(), study),
    )


def _move_page(
    study: Study,
    form: MoveForm,
    error: PortalError | None = None,
    chosen: set[uuid.UUID] | None = None,
) -> str:
    offered = destinations(study)
    every = [*offered.same_patient, *offered.recent]
    if error is not None:
        form.show(error)
    return render_template(
        "corrections/move.html",
        study=study,
        form=form,
        error=error,
        chosen=chosen or set(),
        offered=offered,
        counts=image_counts([one.id for one in every]),
    )


def _deletion_page(study: Study, form: DeletionForm, error: PortalError | None = None) -> str:
    if error is not None:
        form.show(error)
    return render_template(
        "corrections/delete.html", study=study, form=form, error=error, extent=extent_of(study)
    )


def _unreadable() -> InvalidInput:
    return InvalidInput(
        _("One of the stored files can no longer be read. Leave it out and move the others.")
    )


def _moved_sentence(moved: Moved) -> str:
    if moved.is_empty:
        return str(
            ngettext(
                "%(num)d slice was moved. This study has no slices left.",
                "%(num)d slices were moved. This study has no slices left.",
                moved.images,
            )
        )
    return str(
        ngettext(
            "%(num)d slice was moved here. Both studies are being analysed again.",
            "%(num)d slices were moved here. Both studies are being analysed again.",
            moved.images,
        )
    )
