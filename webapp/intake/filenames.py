"""Names of uploaded files in messages: their paths within the chosen folder."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from flask_babel import gettext as _

from webapp.intake.arrival import ReceivedFile

_LONGEST = 200


@dataclass(frozen=True)
class NamedFile:
    """A received file with its name for messages."""

    file: ReceivedFile
    name: str

    @property
    def size(self) -> int:
        """Size in bytes."""
        return self.file.size

    @property
    def content(self) -> bytes:
        """The whole content."""
        return self.file.content

    def open(self) -> IO[bytes]:
        """Open the file at its beginning."""
        return self.file.open()


def shown(name: str) -> str:
    """A relative path fit for a message: printable, of limited length, never absolute.

    Folders above the chosen one (``C:\\Users\\…``, ``/home/…``) can name a person and are removed.
    """
    absolute = re.match(r"[/\\]|[A-Za-z]:", name) is not None
    parts = [part for part in re.split(r"[/\\]", name) if part not in {"", ".", ".."}]
    path = "/".join(parts[-1:] if absolute else parts)
    printable = "".join(character for character in path if character.isprintable())
    if len(printable) > _LONGEST:
        return "…" + printable[1 - _LONGEST :]
    return printable or _("unnamed file")


def named(files: Sequence[ReceivedFile]) -> list[NamedFile]:
    """The files with unique names: repeated names are numbered from the second on."""
    times: dict[str, int] = {}
    found = []
    for file in files:
        name = shown(file.name)
        times[name] = times.get(name, 0) + 1
        found.append(NamedFile(file, name if times[name] == 1 else f"{name} ({times[name]})"))
    return found
