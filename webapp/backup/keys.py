"""The installation's keys: fingerprints for the backup, and a file that holds the keys themselves.

A backup without its keys is only half of one, but who has both can test guesses of identifiers.
So the keys never lie in the backup's folder: they go to a file of their own, on demand.
"""

import hashlib
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path

from flask_babel import gettext as _

from config import Settings
from webapp.errors import Conflict

KEYS = ("secret_key", "pseudonym_key", "model_key", "snapshot_key")
# With another secret key people only have to sign in again.
NEEDED = ("pseudonym_key", "model_key", "snapshot_key")


def fingerprints(settings: Settings) -> dict[str, str]:
    """By name, 64 bits by which a key is recognised; the key cannot be found from them."""
    return {name: fingerprint(name, getattr(settings, name)) for name in NEEDED}


def fingerprint(name: str, key: str) -> str:
    """The fingerprint of one key."""
    return hashlib.sha256(f"sulcus:{name}:{key}".encode()).hexdigest()[:16]


def write_keys(settings: Settings, path: Path) -> None:
    """Write the keys to a new file that only its owner reads, as lines ``NAME=value``.

    Raises:
        Conflict: there is such a file.
    """
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise Conflict(_("%(path)s is there already.", path=str(path))) from error
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.writelines(f"{variable_of(name)}={getattr(settings, name)}\n" for name in KEYS)
        file.flush()
        os.fsync(file.fileno())


def read_keys(path: Path) -> dict[str, str]:
    """The keys of a file that :func:`write_keys` wrote, by name.

    Raises:
        Conflict: it is no such file.
    """
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        variable, _equals, value = line.partition("=")
        name = variable.removeprefix("SULCUS_").lower()
        if name not in KEYS or len(value) < 32:
            raise Conflict(_("%(path)s is no file with the keys of a backup.", path=str(path)))
        found[name] = value
    return found


def keep_keys(settings: Settings, keys: Mapping[str, str]) -> None:
    """Put the keys where the next start of the installation reads them.

    A key that the environment sets is not touched: the environment would win.
    """
    for name, value in keys.items():
        if not os.environ.get(variable_of(name)):
            _replace(settings.home / name, value)


def key_that_will_hold(settings: Settings, keys: Mapping[str, str], name: str) -> str:
    """What the installation will use after :func:`keep_keys`."""
    if name in keys and not os.environ.get(variable_of(name)):
        return keys[name]
    return str(getattr(settings, name))


def variable_of(name: str) -> str:
    """The variable that sets a key."""
    return f"SULCUS_{name.upper()}"


def _replace(path: Path, value: str) -> None:
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    with os.fdopen(descriptor, "w", encoding="ascii") as file:
        file.write(value)
        file.flush()
        os.fsync(file.fileno())
    Path(partial).replace(path)
