"""Settings, read once from the environment and checked at start.

A wrong value stops the start with a sentence that names the variable. What each variable is for
stands beside its field in :class:`Settings`.
"""

import contextlib
import os
import secrets
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

REPOSITORY = Path(__file__).resolve().parent
_LOG_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR")
_DEVICES = ("auto", "cpu", "cuda")


class InvalidSetting(Exception):
    """A variable has a value that cannot work; the text names the variable and says what can."""


@dataclass(frozen=True)
class Settings:
    """What the environment decides.

    Attributes:
        home: SULCUS_HOME, folder of everything that the product writes (default ``var/``).
        secret_key: SULCUS_SECRET_KEY, signs sessions; made and kept in ``home`` if not given.
        database_url: SULCUS_DATABASE_URL, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        broker_url: SULCUS_BROKER_URL, ``redis://…``, ``rediss://…`` or ``redis+socket://…``.
        storage_dir: SULCUS_STORAGE_DIR, folder of slices and heatmaps.
        public_url: SULCUS_PUBLIC_URL, the address that people type; used in invitations.
        trusted_proxies: SULCUS_TRUSTED_PROXIES, how many proxies' X-Forwarded headers to believe.
        cookie_secure: SULCUS_COOKIE_SECURE; by default true where ``public_url`` is https.
        max_upload_bytes: SULCUS_MAX_UPLOAD_MB, limit of one file and of one request.
        max_pixels: SULCUS_MAX_MEGAPIXELS, limit of one image.
        device: SULCUS_DEVICE, where the worker runs the model: ``auto``, ``cpu`` or ``cuda``.
        log_level: SULCUS_LOG_LEVEL.
    """

    home: Path
    secret_key: str
    database_url: str
    broker_url: str
    storage_dir: Path
    public_url: str
    trusted_proxies: int
    cookie_secure: bool
    max_upload_bytes: int
    max_pixels: int
    device: str
    log_level: str

    @property
    def redis_url(self) -> str:
        """``broker_url`` in the form that redis-py takes."""
        parts = urlsplit(self.broker_url)
        if parts.scheme == "redis+socket":
            return f"unix://{unquote(parts.path)}"
        return self.broker_url

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read and check all settings.

        Raises:
            InvalidSetting: for the first value that cannot work.
        """
        env = os.environ if environment is None else environment
        home = Path(env.get("SULCUS_HOME") or REPOSITORY / "var").expanduser().absolute()
        public_url = env.get("SULCUS_PUBLIC_URL", "").rstrip("/")
        if public_url and urlsplit(public_url).scheme not in {"http", "https"}:
            raise InvalidSetting("SULCUS_PUBLIC_URL must start with http:// or https://.")
        return cls(
            home=home,
            secret_key=_secret_key(env, home),
            database_url=_database_url(env, home),
            broker_url=_broker_url(env),
            storage_dir=Path(env.get("SULCUS_STORAGE_DIR") or home / "blobs").expanduser(),
            public_url=public_url,
            trusted_proxies=_whole_number(env, "SULCUS_TRUSTED_PROXIES", 0, at_least=0),
            cookie_secure=_flag(
                env, "SULCUS_COOKIE_SECURE", default=public_url.startswith("https://")
            ),
            max_upload_bytes=_whole_number(env, "SULCUS_MAX_UPLOAD_MB", 64, at_least=1) * 2**20,
            max_pixels=_whole_number(env, "SULCUS_MAX_MEGAPIXELS", 64, at_least=1) * 1_000_000,
            device=_choice(env, "SULCUS_DEVICE", "auto", _DEVICES),
            log_level=_choice(env, "SULCUS_LOG_LEVEL", "INFO", _LOG_LEVELS),
        )


def _secret_key(env: Mapping[str, str], home: Path) -> str:
    if given := env.get("SULCUS_SECRET_KEY"):
        if len(given) < 32:
            raise InvalidSetting("SULCUS_SECRET_KEY must have at least 32 characters.")
        return given
    path = home / "secret_key"
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make_secret(path)
        key = path.read_text(encoding="ascii")
    except OSError as error:
        raise InvalidSetting(
            f"SULCUS_HOME ({home}) cannot be written: {error.strerror}."
        ) from error
    if len(key) < 32:
        raise InvalidSetting(f"{path} is damaged; remove it, or set SULCUS_SECRET_KEY.")
    return key


def _make_secret(path: Path) -> None:
    """Write a new secret, complete before it has its name: of two processes the first one wins."""
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        Path(partial).unlink()


def _database_url(env: Mapping[str, str], home: Path) -> str:
    url = env.get("SULCUS_DATABASE_URL") or f"sqlite:///{home / 'sulcus.sqlite3'}"
    if not url.startswith(("sqlite:///", "postgresql+psycopg://")):
        raise InvalidSetting(
            "SULCUS_DATABASE_URL must start with sqlite:/// or postgresql+psycopg://."
        )
    return url


def _broker_url(env: Mapping[str, str]) -> str:
    url = env.get("SULCUS_BROKER_URL") or "redis://127.0.0.1:6379/0"
    if urlsplit(url).scheme not in {"redis", "rediss", "redis+socket"}:
        raise InvalidSetting(
            "SULCUS_BROKER_URL must start with redis://, rediss:// or redis+socket://."
        )
    return url


def _whole_number(env: Mapping[str, str], name: str, default: int, *, at_least: int) -> int:
    given = env.get(name) or str(default)
    if not (given.isascii() and given.isdigit() and int(given) >= at_least):
        raise InvalidSetting(f"{name} is {given!r}, but must be a whole number from {at_least}.")
    return int(given)


def _flag(env: Mapping[str, str], name: str, *, default: bool) -> bool:
    given = env.get(name, "").lower()
    if given in {"1", "true", "yes", "on"}:
        return True
    if given in {"0", "false", "no", "off"}:
        return False
    if given:
        raise InvalidSetting(f"{name} is {given!r}, but must be 1 or 0.")
    return default


def _choice(env: Mapping[str, str], name: str, default: str, choices: tuple[str, ...]) -> str:
    given = env.get(name) or default
    for choice in choices:
        if given.lower() == choice.lower():
            return choice
    raise InvalidSetting(f"{name} is {given!r}, but must be one of {', '.join(choices)}.")
