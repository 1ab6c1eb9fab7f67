"""Debian's Orthanc as the picture archive of a hospital, private to one test run."""

import json
import shutil
import socket
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from tests.waiting import wait_until

PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")
USER, PASSWORD = "sulcus", "only-for-tests"


@dataclass
class Orthanc:
    """A running archive.

    Attributes:
        ae_title: its application entity title.
        authorization: value of the Authorization header of its web services.
    """

    folder: Path
    ae_title: str = "ORTHANC"
    dicom_port: int = field(default_factory=lambda: free_port())
    http_port: int = field(default_factory=lambda: free_port())
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def dicomweb_url(self) -> str:
        return f"{self.url}/dicom-web"

    @property
    def authorization(self) -> str:
        return "Basic " + b64encode(f"{USER}:{PASSWORD}".encode()).decode()

    def start(self) -> None:
        """Start it and wait until it answers."""
        path = self.folder / "orthanc.json"
        path.write_text(json.dumps(self._configuration()), encoding="utf-8")
        log = (self.folder / "orthanc.log").open("wb")
        program = shutil.which("Orthanc") or "Orthanc"
        self.process = subprocess.Popen([program, str(path)], stdout=log, stderr=log)
        wait_until(self._answers, seconds=60, what="Orthanc")

    def stop(self) -> None:
        """End it."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)

    def get(self, path: str) -> Any:
        """What its own web service says."""
        answer = requests.get(
            self.url + path, headers={"Authorization": self.authorization}, timeout=20
        )
        answer.raise_for_status()
        return answer.json()

    def study_uids(self) -> set[str]:
        """The Study Instance UIDs of what it holds."""
        return {study["MainDicomTags"]["StudyInstanceUID"] for study in self.get("/studies?expand")}

    def _answers(self) -> bool:
        try:
            return bool(self.get("/system"))
        except requests.RequestException:
            return False

    def _configuration(self) -> dict[str, Any]:
        return {
            "Name": "Archive",
            "StorageDirectory": str(self.folder / "storage"),
            "IndexDirectory": str(self.folder / "storage"),
            "Plugins": [str(PLUGIN)],
            "DicomAet": self.ae_title,
            "DicomPort": self.dicom_port,
            "DicomCheckCalledAet": True,
            "DicomAlwaysAllowStore": True,
            "HttpPort": self.http_port,
            "RemoteAccessAllowed": False,
            "AuthenticationEnabled": True,
            "RegisteredUsers": {USER: PASSWORD},
            "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
        }


def free_port() -> int:
    """A port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def orthanc(tmp_path: Path) -> Iterator[Orthanc]:
    """An empty archive with its DICOMweb service."""
    if shutil.which("Orthanc") is None or not PLUGIN.exists():
        pytest.skip("needs Debian's orthanc and orthanc-dicomweb")
    folder = tmp_path / "orthanc"
    folder.mkdir()
    archive = Orthanc(folder)
    archive.start()
    yield archive
    archive.stop()
