"""Store a worker's findings as rows, within the transaction that holds the fence."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from sqlalchemy import update

from ml.aggregation import SliceAnswer, answer_study
from ml.operating_points import OperatingPoints
from webapp.database import db
from webapp.inference.claims import Claim, ClaimedImage, Decoded, NewPrediction
from webapp.studies.models import Image, Mode, Prediction
from webapp.tenancy import acting_for, update_by_key


def keep_decoded(claim: Claim, decoded: Sequence[Decoded]) -> None:
    """Record where each image's PNG is, and how its values map to the scanner's."""
    if not decoded:
        return
    rows = [{"id": one.image_id} | _columns(one) for one in decoded]
    with acting_for(claim.organisation_id):
        update_by_key(db.session, Image, rows)


def _columns(decoded: Decoded) -> dict[str, Any]:
    values = asdict(decoded)
    del values["image_id"]
    return values


def keep_problems(claim: Claim, problems: Mapping[uuid.UUID, str]) -> None:
    """Record which images could not be used, and clear the problem of all others."""
    ids = [image.id for image in claim.images]
    db.session.execute(update(Image).where(Image.id.in_(ids)).values(problem=None))
    for image_id, code in problems.items():
        db.session.execute(update(Image).where(Image.id == image_id).values(problem=code))


def keep_predictions(claim: Claim, answers: Sequence[NewPrediction]) -> None:
    """Add a row for each prediction."""
    db.session.add_all(
        Prediction(
            analysis_id=claim.job_id,
            image_id=answer.image_id,
            label=answer.label,
            probabilities=answer.probabilities,
            prediction_set=answer.prediction_set,
            in_distribution=answer.in_distribution,
            ood_score=answer.ood_score,
            quality=answer.quality,
            heatmap_key=answer.heatmap_key,
        )
        for answer in answers
    )


def conclusion(
    claim: Claim, answers: Sequence[NewPrediction], points: OperatingPoints
) -> dict[str, object]:
    """The answer for the study, as fields of :class:`Analysis`.

    Args:
        points: the model's operating points.
    """
    images = {image.id: image for image in claim.images}
    series = dict.fromkeys(image.series_id for image in claim.images)
    numbers = {series_id: number for number, series_id in enumerate(series)}
    found = answer_study(
        [
            SliceAnswer(
                series=numbers[images[answer.image_id].series_id],
                in_volume=images[answer.image_id].in_stack,
                label=answer.label,
                probabilities=answer.probabilities,
                prediction_set=answer.prediction_set,
                in_distribution=answer.in_distribution,
                tumor_by_localisation=answer.tumor_by_localisation,
                head_share=answer.head_share,
                place=images[answer.image_id].place,
            )
            for answer in answers
        ],
        points,
    )
    key = answers[found.key[0]]
    return {
        "mode": _mode(claim.images),
        "label": found.label.value,
        "probabilities": key.probabilities,
        "prediction_set": [label.value for label in found.prediction_set],
        "in_distribution": key.in_distribution,
        "in_distribution_share": found.in_distribution_share,
        "key_image_ids": [str(answers[index].image_id) for index in found.key],
        "contradicting_images": {
            str(answers[index].image_id): answers[index].label for index in found.contradicting
        },
    }


def _mode(images: Sequence[ClaimedImage]) -> Mode:
    match {image.in_stack for image in images}:
        case stacks if stacks == {True}:
            return Mode.VOLUME
        case stacks if stacks == {False}:
            return Mode.SLICES
        case _:
            return Mode.MIXED


def common_reason(problems: Mapping[uuid.UUID, str]) -> str:
    """The code if all problems have the same one, else a general one."""
    codes = set(problems.values())
    return codes.pop() if len(codes) == 1 else "no_usable_image"
