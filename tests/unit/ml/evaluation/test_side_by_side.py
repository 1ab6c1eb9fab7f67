"""The memory that a model takes is measured wherever the gates are run."""

import multiprocessing
import os
from pathlib import Path

import pytest

from ml.errors import InvalidModel
from ml.evaluation.side_by_side import peak_memory
from ml.model_files import BUNDLED


def _measure(answers: "multiprocessing.SimpleQueue[int]") -> None:
    os.chdir("/")
    answers.put(peak_memory(BUNDLED, device="cpu"))


def test_memory_is_measured_in_a_process_that_may_have_no_children_of_its_kind() -> None:
    context = multiprocessing.get_context("spawn")
    answers = context.SimpleQueue()
    process = context.Process(target=_measure, args=(answers,), daemon=True)  # as Celery's are
    process.start()
    process.join()
    assert process.exitcode == 0
    assert 100e6 < answers.get() < 4e9


def test_a_card_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidModel, match=r"nothing\.json"):
        peak_memory(tmp_path / "nothing.json", device="cpu")
