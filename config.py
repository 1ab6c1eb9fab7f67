"""Settings, read once from the environment and checked at start.

A wrong value stops the start with a sentence that names the variable. What each variable is for
stands beside its field in :class:`Settings`.
"""

import contextlib
import os
import re
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
        pseudonym_key: SULCUS_PSEUDONYM_KEY, makes patients' pseudonyms; made and kept in ``home``
            if not given. With another key the same patient is another one.
        database_url: SULCUS_DATABASE_URL, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        broker_url: SULCUS_BROKER_URL, ``redis://…``, ``rediss://…`` or ``redis+socket://…``.
        storage_dir: SULCUS_STORAGE_DIR, folder of slices and heatmaps.
        public_url: SULCUS_PUBLIC_URL, the address that people type; used in invitations.
        trusted_proxies: SULCUS_TRUSTED_PROXIES, how many proxies' X-Forwarded headers to believe.
        cookie_secure: SULCUS_COOKIE_SECURE; by default true where ``public_url`` is https.
        session_idle_minutes: SULCUS_SESSION_IDLE_MINUTES, after how long without use a session
            ends; those that a person asked to keep on a device last 14 days.
        trusted_hosts: SULCUS_TRUSTED_HOSTS, the names that the portal answers to, separated by
            commas; others are answered 400. Without it every name is taken.
        max_upload_bytes: SULCUS_MAX_UPLOAD_MB, limit of one file and of one request.
        max_pixels: SULCUS_MAX_MEGAPIXELS, limit of one image.
        device: SULCUS_DEVICE, where the worker runs the model: ``auto``, ``cpu`` or ``cuda``.
        log_level: SULCUS_LOG_LEVEL.
        dicom_port: SULCUS_DICOM_PORT, where the DICOM receiver listens; 0 starts none.
        dicom_ae_title: SULCUS_DICOM_AE_TITLE, the receiver's application entity title.
        dicom_bind: SULCUS_DICOM_BIND, the address that it listens at.
        dicom_tls_certificate: SULCUS_DICOM_TLS_CERTIFICATE, a PEM file; with it the receiver
            speaks TLS alone.
        dicom_tls_key: SULCUS_DICOM_TLS_KEY, the certificate's private key.
        dicom_tls_ca: SULCUS_DICOM_TLS_CA, whose certificates senders have to show.
        quiet_seconds: SULCUS_QUIET_SECONDS, after how long without news a study that another
            system sends counts as complete.
        least_free_bytes: SULCUS_LEAST_FREE_MB, room on the disk below which nothing more is kept.
        stalled_minutes: SULCUS_STALLED_MINUTES, after how long without a sign of life from worker
            or beat, or with a job that nobody takes, ``/readyz`` says so.
        max_volume_bytes: SULCUS_MAX_VOLUME_MB, limit of a series that is shown as a volume.
        max_decoding_bytes: SULCUS_MAX_DECODING_MB, what images that are being decoded may take
            together in one process; what needs more waits for its turn.
    """

    home: Path
    secret_key: str
    pseudonym_key: str
    database_url: str
    broker_url: str
    storage_dir: Path
    public_url: str
    trusted_proxies: int
    cookie_secure: bool
    session_idle_minutes: int
    trusted_hosts: tuple[str, ...]
    max_upload_bytes: int
    max_pixels: int
    device: str
    log_level: str
    dicom_port: int
    dicom_ae_title: str
    dicom_bind: str
    dicom_tls_certificate: Path | None
    dicom_tls_key: Path | None
    dicom_tls_ca: Path | None
    quiet_seconds: int

    least_free_bytes: int
    stalled_minutes: int
    # What images may take once they are opened.
    max_volume_bytes: int
    max_decoding_bytes: int

    @property
    def redis_url(self) -> str:
        """``broker_url`` in the form that redis-py takes."""
        parts = urlsplit(self.broker_url)
        if parts.scheme == "redis+socket":
            return f"unix://{unquote(parts.path)}"
        return self.broker_url

    @property
    def limits_url(self) -> str:
        """``broker_url`` in the form that the package limits takes."""
        return self.redis_url.replace("unix://", "redis+unix://", 1)

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
            secret_key=_key(env, home, "secret_key"),
            pseudonym_key=_key(env, home, "pseudonym_key"),
            database_url=_database_url(env, home),
            broker_url=_broker_url(env),
            storage_dir=Path(env.get("SULCUS_STORAGE_DIR") or home / "blobs").expanduser(),
            public_url=public_url,
            trusted_proxies=_whole_number(env, "SULCUS_TRUSTED_PROXIES", 0, at_least=0),
            cookie_secure=_flag(
                env, "SULCUS_COOKIE_SECURE", default=public_url.startswith("https://")
            ),
            session_idle_minutes=_whole_number(
                env, "SULCUS_SESSION_IDLE_MINUTES", 12 * 60, at_least=1
            ),
            trusted_hosts=_hosts(env),
            max_upload_bytes=_whole_number(env, "SULCUS_MAX_UPLOAD_MB", 512, at_least=1) * 2**20,
            max_pixels=_whole_number(env, "SULCUS_MAX_MEGAPIXELS", 64, at_least=1) * 1_000_000,
            device=_choice(env, "SULCUS_DEVICE", "auto", _DEVICES),
            log_level=_choice(env, "SULCUS_LOG_LEVEL", "INFO", _LOG_LEVELS),
            dicom_port=_port(env, "SULCUS_DICOM_PORT", 11112),
            dicom_ae_title=_ae_title(env),
            dicom_bind=env.get("SULCUS_DICOM_BIND") or "127.0.0.1",
            quiet_seconds=_whole_number(env, "SULCUS_QUIET_SECONDS", 10, at_least=0),
            least_free_bytes=_whole_number(env, "SULCUS_LEAST_FREE_MB", 256, at_least=0) * 2**20,
            stalled_minutes=_whole_number(env, "SULCUS_STALLED_MINUTES", 5, at_least=1),
            max_volume_bytes=_whole_number(env, "SULCUS_MAX_VOLUME_MB", 1024, at_least=1) * 2**20,
            max_decoding_bytes=_whole_number(env, "SULCUS_MAX_DECODING_MB", 1536, at_least=64)
            * 2**20,
            **_tls_files(env),
        )


def _key(env: Mapping[str, str], home: Path, name: str) -> str:
    """A secret from the environment, or one that is made once and kept in ``home``."""
    variable = f"SULCUS_{name.upper()}"
    if given := env.get(variable):
        if len(given) < 32:
            raise InvalidSetting(f"{variable} must have at least 32 characters.")
        return given
    path = home / name
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
        raise InvalidSetting(f"{path} is damaged; remove it, or set {variable}.")
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


def _port(env: Mapping[str, str], name: str, default: int) -> int:
    port = _whole_number(env, name, default, at_least=0)
    if port > 65535:
        raise InvalidSetting(f"{name} is {port}, but ports end at 65535.")
    return port


def _ae_title(env: Mapping[str, str]) -> str:
    title = (env.get("SULCUS_DICOM_AE_TITLE") or "SULCUS").strip()
    if not (1 <= len(title) <= 16 and title.isascii() and title.isprintable()) or "\\" in title:
        raise InvalidSetting(
            "SULCUS_DICOM_AE_TITLE must have 1 to 16 printable ASCII characters, no backslash."
        )
    return title


def _tls_files(env: Mapping[str, str]) -> dict[str, Path | None]:
    files: dict[str, Path | None] = {}
    for name in ("dicom_tls_certificate", "dicom_tls_key", "dicom_tls_ca"):
        variable = f"SULCUS_{name.upper()}"
        path = Path(env[variable]).expanduser() if env.get(variable) else None
        if path is not None and not path.is_file():
            raise InvalidSetting(f"{variable}: there is no file {path}.")
        files[name] = path
    if bool(files["dicom_tls_certificate"]) != bool(files["dicom_tls_key"]):
        raise InvalidSetting(
            "SULCUS_DICOM_TLS_CERTIFICATE and SULCUS_DICOM_TLS_KEY belong together."
        )
    return files


def _hosts(env: Mapping[str, str]) -> tuple[str, ...]:
    named = [host.strip().lower() for host in env.get("SULCUS_TRUSTED_HOSTS", "").split(",")]
    hosts = tuple(host for host in named if host)
    for host in hosts:
        if not re.fullmatch(r"\.?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?", host):
            raise InvalidSetting(
                f"SULCUS_TRUSTED_HOSTS: {host!r} is not a host name, such as sulcus.example.org."
            )
    return hosts


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
