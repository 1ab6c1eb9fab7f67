"""Uploaded files stay in memory and come back as they were sent."""

import io
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask, request
from flask.testing import FlaskClient

from tests.factories import Account
from webapp.uploads import MemoryFile, Part

SIZES = [0, 1, 600_000, 5, 3_000_000]


def test_parts_of_one_memory_file_do_not_mix() -> None:
    memory = MemoryFile()
    contents = [bytes([number]) * size for number, size in enumerate(SIZES)]
    parts = []
    for content in contents:
        part = Part(memory)
        for start in range(0, len(content), 64_000):
            part.write(content[start : start + 64_000])
        parts.append(part)
    for part, content in zip(parts, contents, strict=True):
        part.seek(0)
        assert part.read() == content
        assert part.read() == b""
        part.seek(-len(content) // 2 if content else 0, io.SEEK_END)
        assert len(part) == len(content)


def test_large_files_touch_no_disk(
    app: Flask, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    data = {"files": [(io.BytesIO(bytes([n]) * size), f"{n}") for n, size in enumerate(SIZES)]}
    with app.test_request_context("/", method="POST", data=data):
        # Werkzeug's temporary files would land here, unnamed but on the disk.
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "is-not-there"))
        received = request.files.getlist("files")
        assert [len(file.read()) for file in received] == SIZES
        assert all(isinstance(file.stream, Part) for file in received)


def test_upload_over_the_limit_is_refused_in_words(
    app: Flask, make_user: Callable[..., Account], sign_in: Callable[[Account], FlaskClient]
) -> None:
    app.config["MAX_CONTENT_LENGTH"] = 100_000
    data = {"files": [(io.BytesIO(bytes(200_000)), "a.dcm")]}
    answer = sign_in(make_user()).post("/studies/new", data=data)
    assert answer.status_code == 413
    assert "larger than the server accepts" in answer.text
