"""What messages call the files of an upload: their paths inside of what was chosen."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO

from flask_babel import gettext as _

from webapp.intake.arrival import ReceivedFile

_LONGEST = 200


@dataclass(frozen=True)
class NamedFile:
    """A received file under the name that messages use."""

    file: ReceivedFile
    name: str

    @property
    def size(self) -> int:
        """In bytes."""
        return self.file.size

    @property
    def content(self) -> bytes:
        """All of it."""
        return self.file.content

    def open(self) -> IO[bytes]:
        """From its beginning."""
        return self.file.open()


def shown(name: str) -> str:
    """A relative path fit for a message: printable, of bounded length, never from a root.

    Folders above what was chosen (``C:\\Users\\…``, ``/home/…``) can name a person and go.
    """
    absolute = re.match(r"[/\\]|[A-Za-z]:", name) is not None
    parts = [part for part in re.split(r"[/\\]", name) if part not in {"", ".", ".."}]
    path = "/".join(parts[-1:] if absolute else parts)
    printable = "".join(character for character in path if character.isprintable())
    if len(printable) > _LONGEST:
        return "…" + printable[1 - _LONGEST :]
    return printable or _("unnamed file")


def named(files: Sequence[ReceivedFile]) -> list[NamedFile]:
    """The files, each under a name of its own: of equal ones the later are numbered."""
    times: dict[str, int] = {}
    found = []
    for file in files:
        name = shown(file.name)
        times[name] = times.get(name, 0) + 1
        found.append(NamedFile(file, name if times[name] == 1 else f"{name} ({times[name]})"))
    return found
