"""A real worker, a real Redis: jobs are done, done once, and survive what goes wrong."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from ml.imaging.pictures import encode_png
from ml.labels import LABELS
from tests.dicoms import axial_series
from tests.portal import SAMPLES, Portal, command_line_answers
from tests.waiting import wait_until
from webapp.inference.observations import SliceObservation
from webapp.inference.results import result_of
from webapp.models_admin.models import ModelVersion
from webapp.studies.models import Status

pytestmark = pytest.mark.integration
ALL_SAMPLES = sorted(SAMPLES.glob("*.jpg"))


def test_study_is_classified_and_explained(portal: Portal) -> None:
    portal.start_worker()
    study_id = portal.submit(portal.make_user(), [SAMPLES / "pituitary-1.jpg"])
    assert portal.wait_for_end(study_id) is Status.DONE
    study, analysis = portal.study(study_id), portal.analysis(study_id)
    (prediction,) = portal.predictions(study_id)
    result = result_of(study)
    assert result is not None
    assert result.label == prediction.label
    assert set(prediction.probabilities) == {label.value for label in LABELS}
    assert prediction.label in prediction.prediction_set
    assert prediction.heatmap_key
    assert portal.app.extensions["blobs"].get(prediction.heatmap_key).startswith(b"\x89PNG")
    assert analysis.attempt == 1
    assert analysis.model_ms
    assert portal.count(ModelVersion) == 1
    assert portal.count(SliceObservation) == 1


def test_answers_are_those_of_the_command_line(portal: Portal) -> None:
    portal.start_worker()
    study_id = portal.submit(portal.make_user(), ALL_SAMPLES)
    assert portal.wait_for_end(study_id) is Status.DONE
    lines = command_line_answers(ALL_SAMPLES)
    for line, prediction in zip(lines, portal.predictions(study_id), strict=True):
        assert prediction.label == line["label"]
        assert prediction.probabilities == pytest.approx(line["probabilities"], abs=2e-3)
        assert prediction.in_distribution == line["in_distribution"]


def test_slices_of_a_volume_are_answered_together_as_on_the_command_line(
    portal: Portal, tmp_path: Path
) -> None:
    folder = tmp_path / "series"
    folder.mkdir()
    paths = [folder / f"{number}.dcm" for number in range(5)]
    for path, content in zip(paths, axial_series(5), strict=True):
        path.write_bytes(content)
    portal.start_worker()
    study_id = portal.submit(portal.make_user(), paths)
    assert portal.wait_for_end(study_id) is Status.DONE
    lines = command_line_answers([folder])
    for line, prediction in zip(lines, portal.predictions(study_id), strict=True):
        assert prediction.label == line["label"]
        assert prediction.probabilities == pytest.approx(line["probabilities"], abs=2e-3)
        assert prediction.prediction_set == line["prediction_set"]
        assert line["probabilities"] != line["probabilities_alone"]


def test_killed_worker_s_job_is_finished_once_after_the_restart(portal: Portal) -> None:
    worker = portal.start_worker()
    study_id = portal.submit(portal.make_user(), ALL_SAMPLES * 5)
    wait_until(lambda: portal.analysis(study_id).images_done, seconds=90, what="some progress")
    portal.kill(worker)
    assert portal.study(study_id).status is Status.RUNNING
    assert not portal.predictions(study_id)
    portal.start_worker()
    assert portal.wait_for_end(study_id, seconds=150) is Status.DONE
    assert portal.analysis(study_id).attempt == 2
    predictions = portal.predictions(study_id)
    assert len(predictions) == len(ALL_SAMPLES) * 5
    assert len({prediction.image_id for prediction in predictions}) == len(predictions)


def test_killed_child_is_replaced_and_its_job_is_finished(portal: Portal) -> None:
    worker = portal.start_worker()
    study_id = portal.submit(portal.make_user(), ALL_SAMPLES * 5)
    wait_until(lambda: portal.analysis(study_id).images_done, seconds=90, what="some progress")
    for child in Path(f"/proc/{worker.pid}/task/{worker.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    assert portal.wait_for_end(study_id, seconds=150) is Status.DONE
    assert len(portal.predictions(study_id)) == len(ALL_SAMPLES) * 5


def test_job_whose_message_was_lost_is_sent_again(portal: Portal) -> None:
    study_id = portal.submit(portal.make_user(), [SAMPLES / "no_tumor-1.jpg"])
    portal.broker.forget_everything()
    portal.start_worker()
    assert portal.wait_for_end(study_id) is Status.DONE


def test_upload_succeeds_while_the_broker_is_away(portal: Portal) -> None:
    portal.broker.stop()
    study_id = portal.submit(portal.make_user(), [SAMPLES / "no_tumor-1.jpg"])
    portal.broker.start()
    assert portal.study(study_id).status is Status.QUEUED
    portal.start_worker()
    assert portal.wait_for_end(study_id) is Status.DONE


def test_blank_slice_ends_as_rejected_with_a_reason(portal: Portal, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    blank.write_bytes(encode_png(np.full((64, 64), 9, np.uint8)))
    portal.start_worker()
    study_id = portal.submit(portal.make_user(), [blank])
    assert portal.wait_for_end(study_id) is Status.REJECTED
    assert portal.study(study_id).reason == "blank"


def test_blank_slice_among_good_ones_is_named(portal: Portal, tmp_path: Path) -> None:
    blank = tmp_path / "blank.png"
    blank.write_bytes(encode_png(np.full((64, 64), 9, np.uint8)))
    portal.start_worker()
    study_id = portal.submit(portal.make_user(), [SAMPLES / "glioma-1.jpg", blank])
    assert portal.wait_for_end(study_id) is Status.DONE
    assert len(portal.predictions(study_id)) == 1


def test_lost_blob_ends_as_failed_with_a_reason(portal: Portal) -> None:
    study_id = portal.submit(portal.make_user(), [SAMPLES / "glioma-1.jpg"])
    for path in (portal.folder / "home" / "blobs").rglob("*"):
        if path.is_file():
            path.unlink()
    portal.start_worker()
    assert portal.wait_for_end(study_id) is Status.FAILED
    assert portal.study(study_id).reason == "unreadable"


def test_passing_fault_is_tried_again(portal: Portal) -> None:
    study_id = portal.submit(portal.make_user(), [SAMPLES / "glioma-1.jpg"])
    (blob,) = [path for path in (portal.folder / "home" / "blobs").rglob("*") if path.is_file()]
    content = blob.read_bytes()
    # A folder in the place of the file: reading fails as it does on a disk that hiccups.
    blob.unlink()
    blob.mkdir()
    portal.start_worker()
    wait_until(
        lambda: (
            (analysis := portal.analysis(study_id)).attempt == 1
            and analysis.status is Status.QUEUED
        ),
        seconds=90,
        what="the first attempt to fail",
    )
    blob.rmdir()
    blob.write_bytes(content)
    assert portal.wait_for_end(study_id) is Status.DONE
    assert portal.analysis(study_id).attempt == 2
