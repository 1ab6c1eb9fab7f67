"""The API keeps what its own OpenAPI description says: generated calls, good and bad.

``--schemathesis-examples=300`` makes a long run of it, with another seed each time.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from flask import Flask
from schemathesis.engine import Status, events, from_schema
from schemathesis.engine.recorder import ScenarioRecorder
from schemathesis.hooks import HookContext
from schemathesis.transport.serialization import Binary

from tests.factories import (
    SAMPLE,
    Account,
    assess,
    make_api_token,
    make_series_study,
    make_study,
)
from tests.unit.webapp.models_admin.candidates import end_gates, register, write_model
from webapp.accounts.models import Role
from webapp.studies.models import Status as StudyStatus

pytestmark = [
    pytest.mark.integration,
    pytest.mark.slow,
    pytest.mark.parametrize("database_url", ["sqlite"], indirect=True),
]
MakeUser = Callable[..., Account]
Json = dict[str, Any]
_CHECKS = [
    "allow_header_conformance",
    "content_type_conformance",
    "missing_required_header",
    "negative_data_rejection",
    "not_a_server_error",
    "positive_data_acceptance",
    "response_headers_conformance",
    "response_schema_conformance",
    "status_code_conformance",
    "unsupported_method",
]
"""All but ``ignored_auth``: Schemathesis 4.32.5 cannot repeat its calls over WSGI, so that
:func:`test_without_a_good_token_nothing_is_told` takes its place."""
_MAY_REFUSE_GOOD_VALUES = {
    "POST /api/v1/studies",  # a file is looked into, and a code may read like a name
    "PATCH /api/v1/studies/{study_id}",  # a code may read like a name
    "POST /api/v1/studies/{study_id}/analysis",  # only of a study whose analysis failed
    "POST /api/v1/images/{image_id}/adjudication",  # readers have to disagree
    "POST /api/v1/snapshots",  # a name may be taken
    "POST /api/v1/plans",  # its text has to be a plan
    "POST /api/v1/plans/{plan_id}/confirmation",
    "POST /api/v1/plans/{plan_id}/decline",
    "POST /api/v1/studies/{study_id}/feedback",  # what the model said decides what may be said
    # What gates, stewards and the list of deployments say decides about the rest.
    "POST /api/v1/models/{candidate_id}/gates",
    "POST /api/v1/models/{candidate_id}/proposal",
    "POST /api/v1/models/{candidate_id}/confirmation",
    "POST /api/v1/models/{candidate_id}/decline",
    "POST /api/v1/models/{candidate_id}/shadow",
    "POST /api/v1/models/{candidate_id}/shadow/stop",
    "POST /api/v1/recall/{case_id}/acknowledgement",  # there has to be a case
    "POST /api/v1/models/rollback",
    "POST /api/v1/models/off",
    "POST /api/v1/models/on",
    "POST /api/v1/retrainings",
    "POST /api/v1/retrainings/{retraining_id}/cancellation",
}


@dataclass
class Answers:
    """What came of the generated calls.

    Attributes:
        statuses: how often each was answered, by operation.
        faults: sentences about answers that are not as described.
    """

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    faults: list[str] = field(default_factory=list)

    def add(self, operation: str, recorder: ScenarioRecorder) -> None:
        """Take in what was recorded of one operation in one phase."""
        for one in recorder.interactions.values():
            assert one.response is not None
            counted = self.statuses.setdefault(operation, Counter())
            if operation.startswith(f"{one.request.method} "):
                counted[one.response.status_code] += 1
        for checks in recorder.checks.values():
            for check in checks:
                if check.status is Status.FAILURE and check.failure_info is not None:
                    info = check.failure_info
                    self.faults.append(f"{operation}: {info.failure}\n  {info.code_sample[:1000]}")


@dataclass(frozen=True)
class Extent:
    """How many calls are generated for each operation, and whether they are always the same."""

    examples: int
    repeats: bool


@pytest.fixture
def extent(request: pytest.FixtureRequest) -> Extent:
    """A handful of calls that are the same each time, or a long run of others."""
    examples: int | None = request.config.getoption("--schemathesis-examples")
    return Extent(examples or 5, repeats=examples is None)


def called(
    app: Flask,
    extent: Extent,
    *,
    token: str | None,
    known: Json | None = None,
    at_borders: bool = False,
) -> Answers:
    """Send generated calls to every operation and check each answer against the description.

    Args:
        known: ids that most addresses hold, by the name of the parameter.
        at_borders: also go through the border cases of each value, and through other methods.
    """
    known = known or {}
    config = schemathesis.Config.from_dict(
        {
            "headers": {"Authorization": f"Bearer {token}"} if token else {},
            "cache": {"enabled": False},
            "continue-on-failure": True,
            "suppress-health-check": ["all"],
            "generation": {
                "database": "none",
                "deterministic": extent.repeats,
                "max-examples": extent.examples,
                "no-shrink": True,
            },
            "checks": {"enabled": False} | {name: {"enabled": True} for name in _CHECKS},
            "operations": [
                {"include-name": name, "checks": {"positive_data_acceptance": {"enabled": False}}}
                for name in sorted(_MAY_REFUSE_GOOD_VALUES)
            ],
            "phases": {"coverage": {"enabled": at_borders}, "stateful": {"enabled": False}},
            "dictionaries": {name: {"values": ids} for name, ids in known.items()},
            "parameters": {
                f"path.{name}": {"dictionary": name, "probability": 0.8} for name in known
            },
        }
    )
    description = schemathesis.openapi.from_wsgi("/api/v1/openapi.json", app, config=config)

    @description.hook
    def map_body(context: HookContext, body: Any) -> Any:
        # Generated files are refused at first sight; a real one gets further.
        files = body.get("files") if isinstance(body, dict) else None
        if not (isinstance(files, list) and files and isinstance(files[0], Binary)):
            return body
        return body | {"files": [Binary(SAMPLE.read_bytes())]}

    answers = Answers()
    for event in from_schema(description).execute():
        if isinstance(event, events.NonFatalError):
            answers.faults.append(f"{event.label}: {event.value!r}")
        elif isinstance(event, events.FatalError):
            raise event.exception
        elif isinstance(event, events.ScenarioFinished):
            answers.add(str(event.label), event.recorder)
    assert len(answers.statuses) == len(list(description.get_all_operations()))
    return answers


def stored(app: Flask, account: Account) -> Json:
    """Studies in all states, one of them assessed; their ids as addresses name them."""
    studies = [make_study(app, account, label=label) for label in ("glioma", "no_tumor")]
    series = [
        make_series_study(app, account, slices=4, status=status, code=f"S-{status.value}")
        for status in (StudyStatus.DONE, StudyStatus.QUEUED, StudyStatus.FAILED)
    ]
    assess(app, account, studies[0])
    return {
        "study_id": [str(one.study_id) for one in (*studies, *series)],
        "image_id": [str(one.image_id) for one in studies]
        + [str(one.image_ids[1]) for one in series],
    }


def succeeded(answers: Answers) -> set[str]:
    """The operations that did what was asked for at least once."""
    return {
        name
        for name, statuses in answers.statuses.items()
        if any(200 <= status < 300 for status in statuses)
    }


def test_clinician_gets_what_is_described(app: Flask, make_user: MakeUser, extent: Extent) -> None:
    account = make_user()
    _id, token = make_api_token(app, account)
    answers = called(app, extent, token=token, known=stored(app, account), at_borders=True)
    assert not answers.faults, "\n".join(answers.faults)
    never = answers.statuses.keys() - succeeded(answers) - _MAY_REFUSE_GOOD_VALUES
    assert never == {
        "GET /api/v1/feedback",  # of reviewers, as the next one
        "GET /api/v1/disputes",
        "GET /api/v1/snapshots",  # of data stewards, as all that follows
        "GET /api/v1/snapshots/{snapshot_id}",
        "GET /api/v1/models/{candidate_id}",
        "GET /api/v1/models/{candidate_id}/shadow",
        "GET /api/v1/models/{candidate_id}/trial",
        "GET /api/v1/models/{candidate_id}/evidence",
        "GET /api/v1/plans",
        "GET /api/v1/withdrawals",  # of administrators
        "GET /api/v1/retrainings",
        "GET /api/v1/retrainings/{retraining_id}",
        "GET /api/v1/drift",
    }


def test_administrator_gets_what_is_described(
    app: Flask, make_user: MakeUser, extent: Extent, tmp_path: Path
) -> None:
    account = make_user(Role.ADMIN)
    _id, token = make_api_token(app, account)
    candidate_id = register(app, account, write_model(tmp_path / "model"))
    end_gates(app, account, candidate_id, "pass")
    known = stored(app, account) | {"candidate_id": [str(candidate_id)]}
    answers = called(app, extent, token=token, known=known)
    assert not answers.faults, "\n".join(answers.faults)
    assert {
        "GET /api/v1/feedback",
        "GET /api/v1/models/{candidate_id}",
        "GET /api/v1/models/{candidate_id}/shadow",
        "GET /api/v1/models/{candidate_id}/trial",
        "GET /api/v1/models/{candidate_id}/evidence",
        "POST /api/v1/models/{candidate_id}/gates",
        "POST /api/v1/models/off",
    } <= succeeded(answers)


@pytest.mark.parametrize("token", [None, "sulcus_" + "x" * 43])
def test_without_a_good_token_nothing_is_told(
    app: Flask, make_user: MakeUser, extent: Extent, token: str | None
) -> None:
    answers = called(app, extent, token=token, known=stored(app, make_user()))
    assert not answers.faults, "\n".join(answers.faults)
    for operation, statuses in answers.statuses.items():
        assert statuses[401], operation
        assert statuses.keys() <= {401, 404}, operation
