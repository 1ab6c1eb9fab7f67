"""Who takes part in the loop that is measured whole: patients, users of the API, and readers."""

import random
import sys
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import requests

from benchmarks.product import PAUSE, wait_until_done
from ml.dataset import Entry
from ml.labels import LABELS

ERROR_RATES = {"anna": 0.05, "ben": 0.10, "carla": 0.20}
POISONER, POISONED, INTO, FLIPPED = "carla", "meningioma", "pituitary", 0.30
NAMES = [label.value for label in LABELS]
Json = dict[str, Any]


@dataclass
class Patient:
    """Slices of one group as one study.

    Attributes:
        study: as the API gives it once it is done; its images are in the order of ``slices``.
    """

    code: str
    slices: Sequence[Entry]
    study: Json = field(default_factory=dict)

    @property
    def label(self) -> str:
        """What the first slice shows."""
        return self.slices[0].label.value

    @property
    def answers(self) -> list[tuple[str, Json]]:
        """(image id, prediction) of each slice."""
        return [(image["id"], image["prediction"]) for image in self.study["images"]]


class Api:
    """One user's calls; any answer but the expected kind ends the program."""

    def __init__(self, session: requests.Session, address: str) -> None:
        self.session, self._root = session, f"{address}/api/v1"
        self.address = address

    def get(self, path: str) -> Json:
        return self._called("GET", path)

    def post(self, path: str, **body: Any) -> Json:
        return self._called("POST", path, json=body)

    def bytes_of(self, link: str) -> bytes:
        answer = self.session.get(f"{self.address}{link}", timeout=60)
        answer.raise_for_status()
        return answer.content

    def upload(self, patient: Patient) -> None:
        """Upload a patient as a new study and wait for its answers."""
        files = [("files", (one.path.name, one.path.read_bytes())) for one in patient.slices]
        made = self._called(
            "POST",
            "/studies",
            files=files,
            data={"patient_code": patient.code, "burned_in": "keep"},
        )
        wait_until_done(self.session, self.address, made["id"], pause=0.2)
        patient.study = self.get(f"/studies/{made['id']}")

    def wait(self, path: str, states: set[str], *, part: str | None = None) -> Json:
        """Poll until the state is one of these."""
        while True:
            found = self.get(path)
            one = found[part] if part else found
            if one and one["status"] in states:
                return found
            PAUSE.wait(2)

    def _called(self, method: str, path: str, **sent: Any) -> Json:
        answer = self.session.request(method, f"{self._root}{path}", timeout=600, **sent)
        if not answer.ok:
            sys.exit(f"{method} {path}: {answer.status_code} {answer.text[:500]}")
        found: Json = answer.json() if answer.content else {}
        return found


@dataclass
class Readers:
    """People with known error rates; what each says is decided once."""

    apis: dict[str, Api]
    dice: random.Random
    wrong: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def assess(self, patients: Sequence[Patient]) -> None:
        """Everybody says something about every slice."""
        wanted = {
            name: [
                (patient, image_id, prediction["label"], self._said(name, entry))
                for patient in patients
                for entry, (image_id, prediction) in zip(
                    patient.slices, patient.answers, strict=True
                )
            ]
            for name in self.apis
        }
        with ThreadPoolExecutor(len(wanted)) as pool:
            list(pool.map(lambda name: self._write(name, wanted[name]), wanted))

    def poison(self, patients: Sequence[Patient], *, alone: bool = False) -> set[str]:
        """The poisoner changes a share of one class into another; returns the ids of the slices.

        Args:
            alone: nobody has read these patients, and the poisoner reads all slices, else rightly.
        """
        every = [
            (patient, image_id, prediction["label"], entry)
            for patient in patients
            for entry, (image_id, prediction) in zip(patient.slices, patient.answers, strict=True)
            if alone or entry.label.value == POISONED
        ]
        of_class = [one for one in every if one[3].label.value == POISONED]
        chosen = self.dice.sample(of_class, round(len(of_class) * FLIPPED))
        flipped = {one[1] for one in chosen}
        self._write(
            POISONER,
            [
                (patient, image_id, answered, INTO if image_id in flipped else entry.label.value)
                for patient, image_id, answered, entry in (every if alone else chosen)
            ],
        )
        return flipped

    def _said(self, name: str, entry: Entry) -> str:
        wrong = self.dice.random() < ERROR_RATES[name]
        self.wrong[name].append(wrong)
        others = [label for label in NAMES if label != entry.label.value]
        return self.dice.choice(others) if wrong else entry.label.value

    def _write(self, name: str, said: Sequence[tuple[Patient, str, str, str]]) -> None:
        for patient, image_id, answered, label in said:
            body = {"verdict": "agree"} if label == answered else {
                "verdict": "disagree", "label": label,
            }  # fmt: skip
            self.apis[name].post(
                f"/studies/{patient.study['id']}/feedback", image_id=image_id, **body
            )
