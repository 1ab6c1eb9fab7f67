"""Measure a predictor on volumes of other hospitals: sensitivity, false alarms, key slices."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ml.aggregation import answer_study
from ml.evaluation.thinned_volumes import measure_thinned, share_of
from ml.evaluation.volume_judging import Judged, judge, masked_scans, slices_of_study
from ml.imaging import read_path
from ml.imaging.nifti import PLANES
from ml.labels import Label
from ml.operating_points import OperatingPoints
from ml.serving.predictor import Predictor


def measure_volumes(
    predictor: Predictor,
    *,
    glioma: Path,
    healthy: Path,
    heads: Sequence[Path] = (),
    thinned: int = 0,
) -> dict[str, Any]:
    """Figures of the ``volumes`` command.

    A slice must be classified as a tumour if its mask has more than 120 px. It must not be if it
    shows brain (at least half of the volume's largest head area) and no mask of the patient has a
    tumour at its level.

    Args:
        glioma: a folder as for :func:`ml.evaluation.volume_judging.masked_scans`.
        healthy: a study without a tumour: a folder, an archive or a file.
        heads: NIfTI files of whole heads without a tumour, which are cut in all three planes.
        thinned: number of random thinnings of each volume in each of several ways
            (:mod:`ml.evaluation.thinned_volumes`); 0 for none.

    Raises:
        InvalidManifest: there are no such files, or a mask does not match its scan.
        UnreadableImage: a file cannot be read.
    """
    volumes = {
        f"{scan.parent.name}/{scan.name}": judge(predictor, read_path(scan), mask, anywhere)
        for scan, mask, anywhere in masked_scans(glioma)
    }
    without = judge(predictor, slices_of_study(healthy))
    whole = {
        f"{path.name.split('.')[0]}, {plane}": judge(predictor, read_path(path, plane=plane))
        for path in heads
        for plane in PLANES
    }
    points = predictor.operating_points
    figures = {"model": predictor.name} | _figures(volumes, without, points)
    if whole:
        figures["heads"] = {name: _head(volume, points) for name, volume in whole.items()}
    if thinned:
        figures["thinned"] = measure_thinned(
            predictor,
            glioma=list(volumes.values()),
            healthy=[without, *whole.values()],
            times=thinned,
        )
    return figures | {
        "volumes": {name: _by_slice(volume) for name, volume in volumes.items()}
        | {"healthy": _by_slice(without)}
    }


def _figures(
    volumes: dict[str, list[Judged]], without: Sequence[Judged], points: OperatingPoints
) -> dict[str, Any]:
    slices = [one for volume in volumes.values() for one in volume]
    tumors = [one for one in slices if one.expected]
    free = [one for one in slices if one.free]
    healthy_free = [one for one in without if one.free]
    answers = {
        name: answer_study([one.answer for one in volume], points)
        for name, volume in volumes.items()
    }
    return {
        "tumor_slices_found": share_of(one.opinion.alarm for one in tumors),
        "tumor_slices_found_alone": share_of(one.result.alarm for one in tumors),
        "heat_on_tumor": share_of(one.hit for one in tumors),
        "false_alarms": share_of(one.opinion.alarm for one in free),
        "false_alarms_alone": share_of(one.result.alarm for one in free),
        "in_distribution": share_of(one.opinion.in_distribution for one in tumors + free),
        "healthy_false_alarms": share_of(one.opinion.alarm for one in healthy_free),
        "healthy_false_alarms_alone": share_of(one.result.alarm for one in healthy_free),
        "key_slices_on_tumor": share_of(
            volumes[name][key].tumor_pixels > 0
            for name, answer in answers.items()
            for key in answer.key
        ),
        "class_right": share_of(one.label is Label.GLIOMA for one in answers.values()),
        "class_in_set": share_of(Label.GLIOMA in one.prediction_set for one in answers.values()),
    }


def _head(volume: Sequence[Judged], points: OperatingPoints) -> dict[str, Any]:
    """False alarms in a head without a tumour, and the class of its study."""
    return {
        "alarms": share_of(one.opinion.alarm for one in volume),
        "alarms_alone": share_of(one.result.alarm for one in volume),
        "study": answer_study([one.answer for one in volume], points).label.value,
    }


def _by_slice(volume: Sequence[Judged]) -> list[dict[str, Any]]:
    return [
        {
            "tumor_pixels": one.tumor_pixels,
            "free": one.free,
            "tumor": round(one.tumor, 4),
            "tumor_alone": round(one.tumor_alone, 4),
            "label": one.opinion.label.value,
            "ood_score": round(one.opinion.ood_score, 3),
            "hit": one.hit,
        }
        for one in volume
    ]
