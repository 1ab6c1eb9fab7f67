"""User operations on analyses: analyse a study again."""

import uuid

from flask_babel import gettext as _
from sqlalchemy.exc import IntegrityError

from webapp import audit
from webapp.accounts.models import User
from webapp.database import db
from webapp.errors import Conflict
from webapp.inference.analyses import request_analysis
from webapp.queueing import send_classification
from webapp.studies.models import Status, Study
from webapp.studies.queries import find_study


def retry_study(*, actor: User, study_id: uuid.UUID) -> Study:
    """Queue a failed study again.

    Raises:
        NotFound: there is no such study.
        Conflict: its analysis did not fail.
    """
    study = find_study(study_id)
    refusal = Conflict(_("Only a study whose analysis failed can be analysed again."))
    if study.status is not Status.FAILED:
        raise refusal
    try:
        analysis = request_analysis(study)
        audit.record("retry_study", subject=study, actor_id=actor.id)
        db.session.commit()
    except IntegrityError as error:  # a double click: the other request was faster
        db.session.rollback()
        raise refusal from error
    send_classification(analysis.id)
    return study
