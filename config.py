"""Settings, read once from the environment and checked at startup.

An invalid value stops the startup with a message that names the variable. Each variable is
documented in :class:`Settings` or :class:`WebServerSettings`.
"""

import contextlib
import os
import re
import secrets
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import unquote, urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

REPOSITORY = Path(__file__).resolve().parent
VERSION = "0.1.0"
"""Of the product; pyproject.toml says the same."""
_HOST = re.compile(r"\.?[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?")


_REDIS = (
    "redis://", "rediss://", "redis+socket://", "valkey://", "valkeys://", "valkey+socket://",
)  # fmt: skip
_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class InvalidSetting(Exception):
    """A variable has an invalid value; the message names it and says what is valid."""


def is_ae_title(text: str) -> bool:
    """Whether DICOM allows ``text`` as an application entity title (PS3.5 6.2, AE)."""
    return 1 <= len(text) <= 16 and text.isascii() and text.isprintable() and "\\" not in text


def _absolute(path: Path) -> Path:
    return path.expanduser().absolute()


def _one_of(*starts: str) -> AfterValidator:
    """Require one of these URL prefixes. Messages omit the value: it may contain a password."""

    def check(url: str) -> str:
        if url and not url.startswith(starts):
            raise ValueError(f"must start with {' or '.join(starts)}")
        return url

    return AfterValidator(check)


def _ae_title(text: str) -> str:
    title = text.strip()
    if not is_ae_title(title):
        raise ValueError("must have 1 to 16 printable ASCII characters, no backslash")
    return title


def _file(path: Path) -> Path:
    if not path.expanduser().is_file():
        raise ValueError(f"there is no file {path}")
    return path.expanduser()


def _hosts(given: Any) -> Any:
    if not isinstance(given, str):
        return given
    hosts = [host.strip().lower() for host in given.split(",") if host.strip()]
    for host in hosts:
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is not a host name, such as sulcus.example.org")
    return hosts


def _storage(url: str) -> str:
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("must hold no credentials; give AWS_ACCESS_KEY_ID and the secret instead")
    if parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc):
        return url.rstrip("/")
    if parts.scheme == "file" and not parts.netloc and len(parts.path) > 1:
        return url
    if url:
        raise ValueError("must be s3://bucket, s3://bucket/prefix or file:///folder")
    return url


def _location(path: str) -> str:
    if path and not re.fullmatch(r"/([A-Za-z0-9_.-]+/)+", path):
        raise ValueError("must begin and end with a slash, for example /stored/")
    return path


def _without_slash(url: str) -> str:
    return url.rstrip("/")


Megabytes = Annotated[int, AfterValidator(lambda number: number * 2**20)]
"""Bytes; the variable is in MB."""
_Port = Annotated[int, Field(ge=0, le=65535)]
LogFormat = Annotated[Literal["text", "json"], BeforeValidator(str.lower)]
_File = Annotated[Path, AfterValidator(_file)] | None


class _FromEnvironment(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="ignore", alias_generator=lambda name: f"SULCUS_{name.upper()}"
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read and check all settings; an empty variable counts as not set.

        Raises:
            InvalidSetting: for the first invalid value.
        """
        given = os.environ if environment is None else environment
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            raise InvalidSetting(_sentence(error)) from None


def _sentence(error: ValidationError) -> str:
    """Describe the first error in one sentence."""
    fault = error.errors()[0]
    reason = str(fault["ctx"]["error"]) if fault["type"] == "value_error" else ""
    name = next((str(part) for part in fault["loc"]), "")
    if reason:  # raised by our validators, which never quote a secret
        return f"{name} {reason}." if name else f"{reason}."
    return f"{name} is {fault['input']!r}. {fault['msg']}."


class Settings(_FromEnvironment):
    """Settings of the web application, the worker and the DICOM receiver.

    Attributes:
        home: SULCUS_HOME, folder of everything that the product writes (default ``var/``).
        secret_key: SULCUS_SECRET_KEY, signs sessions; made and kept in ``home`` if not given.
        pseudonym_key: SULCUS_PSEUDONYM_KEY, makes patients' pseudonyms; made and kept in ``home``
            if not given. With another key the same patient is another one.
        model_key: SULCUS_MODEL_KEY, signs gate reports and deployments of models; made and kept in
            ``home`` if not given. With another key only the first model serves.
        model: SULCUS_MODEL, the card of the model that serves first; by default the bundled one.
        base_manifest: SULCUS_BASE_MANIFEST, the list (CSV) of the collection that the first model
            was made with; its images and, where there are some, ``outlines.json`` lie beside it.
            The trainer reads it; without it only a model's head can be retrained.
        snapshot_key: SULCUS_SNAPSHOT_KEY, makes the pseudonyms of patients and readers in
            snapshots; made and kept in ``home`` if not given. With another key a patient may
            change from the part that is held out to the one that is learnt from.
        database_url: SULCUS_DATABASE_URL, ``sqlite:///…`` or ``postgresql+psycopg://…``.
        broker_url: SULCUS_BROKER_URL: Redis (``redis://…``, ``rediss://…``, ``redis+socket://…``),
            Valkey (the same with ``valkey``) or RabbitMQ (``amqp://…``, ``amqps://…``).
        state_url: SULCUS_REDIS_URL, the Redis or Valkey of heartbeats and limits of attempts, with
            the schemes of ``broker_url``; by default the broker. RabbitMQ needs one beside it.
        storage_dir: SULCUS_STORAGE_DIR, folder of slices and heatmaps.
        storage_url: SULCUS_STORAGE_URL, where slices and heatmaps are instead: ``s3://bucket`` or
            ``s3://bucket/prefix``, or ``file:///folder``. Endpoint, region and credentials of S3
            come from the variables of its tools, such as AWS_ENDPOINT_URL_S3, AWS_ACCESS_KEY_ID
            and AWS_SECRET_ACCESS_KEY.
        accel_prefix: SULCUS_ACCEL_PREFIX, an internal location of nginx, such as ``/stored/``, by
            which it sends stored files itself (X-Accel-Redirect). If not set, web sends them.
        public_url: SULCUS_PUBLIC_URL, the address that users open; used in invitations.
        trusted_proxies: SULCUS_TRUSTED_PROXIES, number of proxies whose X-Forwarded headers are
            trusted.
        cookie_secure: SULCUS_COOKIE_SECURE; by default true if ``public_url`` is https.
        session_idle_minutes: SULCUS_SESSION_IDLE_MINUTES, idle time after which a session ends;
            a session on a remembered device lasts 14 days.
        trusted_hosts: SULCUS_TRUSTED_HOSTS, accepted host names, separated by commas; requests
            for others get 400. If not set, every name is accepted.
        max_upload_bytes: SULCUS_MAX_UPLOAD_MB, limit of one file and of one request.
        max_pixels: SULCUS_MAX_MEGAPIXELS, limit of one image.
        device: SULCUS_DEVICE, where the worker runs the model: ``auto``, ``cpu`` or ``cuda``.
        log_level: SULCUS_LOG_LEVEL.
        dicom_port: SULCUS_DICOM_PORT, port of the DICOM receiver; 0 disables the receiver.
        dicom_ae_title: SULCUS_DICOM_AE_TITLE, the receiver's application entity title.
        dicom_bind: SULCUS_DICOM_BIND, the address that the receiver listens on.
        dicom_tls_certificate: SULCUS_DICOM_TLS_CERTIFICATE, a PEM file; if set, the receiver
            accepts only TLS.
        dicom_tls_key: SULCUS_DICOM_TLS_KEY, the certificate's private key.
        dicom_tls_ca: SULCUS_DICOM_TLS_CA, the CA that must have issued the senders' certificates.
        quiet_seconds: SULCUS_QUIET_SECONDS, time without new images after which a study sent by
            another system counts as complete.
        least_free_bytes: SULCUS_LEAST_FREE_MB, free disk space below which nothing is stored.
        stalled_minutes: SULCUS_STALLED_MINUTES, time without a heartbeat from worker or beat, or
            with a job that no worker takes, after which ``/readyz`` reports it.
        otlp_endpoint: SULCUS_OTLP_ENDPOINT, address of a collector that takes OpenTelemetry's
            traces by OTLP over HTTP; without it none are made.
        log_format: SULCUS_LOG_FORMAT, ``text``, or ``json`` for one object a line.
        metrics_port: SULCUS_METRICS_PORT, port on which a worker answers Prometheus; 0 is none.
            It needs PROMETHEUS_MULTIPROC_DIR, since tasks run in processes of their own.
        metrics_bind: SULCUS_METRICS_BIND, the address that it listens on.
        max_volume_bytes: SULCUS_MAX_VOLUME_MB, limit of a series that is shown as a volume.
        max_decoding_bytes: SULCUS_MAX_DECODING_MB, memory that all images being decoded in one
            process may take together; further images wait.
    """

    home: Annotated[Path, AfterValidator(_absolute)] = REPOSITORY / "var"
    secret_key: str = Field("", repr=False)
    pseudonym_key: str = Field("", repr=False)
    model_key: str = Field("", repr=False)
    model: _File = None
    base_manifest: Annotated[Path, AfterValidator(Path.expanduser)] | None = None
    snapshot_key: str = Field("", repr=False)
    database_url: Annotated[str, _one_of("sqlite:///", "postgresql+psycopg://")] = Field(
        default_factory=lambda known: f"sqlite:///{known['home'] / 'sulcus.sqlite3'}", repr=False
    )
    broker_url: Annotated[str, _one_of(*_REDIS, "amqp://", "amqps://")] = Field(
        "redis://127.0.0.1:6379/0", repr=False
    )
    state_url: Annotated[str, _one_of(*_REDIS)] = Field("", repr=False, alias="SULCUS_REDIS_URL")
    storage_dir: Annotated[Path, AfterValidator(Path.expanduser)] = Field(
        default_factory=lambda known: known["home"] / "blobs"
    )
    storage_url: Annotated[str, AfterValidator(_storage)] = ""
    accel_prefix: Annotated[str, AfterValidator(_location)] = ""
    public_url: Annotated[str, _one_of("http://", "https://"), AfterValidator(_without_slash)] = ""
    trusted_proxies: int = Field(0, ge=0)
    cookie_secure: bool = Field(
        default_factory=lambda known: known["public_url"].startswith("https://")
    )
    session_idle_minutes: int = Field(12 * 60, ge=1)
    trusted_hosts: Annotated[tuple[str, ...], BeforeValidator(_hosts)] = ()
    max_upload_bytes: Megabytes = Field(512 * 2**20, ge=1, alias="SULCUS_MAX_UPLOAD_MB")
    max_pixels: Annotated[int, AfterValidator(lambda number: number * 1_000_000)] = Field(
        64_000_000, ge=1, alias="SULCUS_MAX_MEGAPIXELS"
    )
    device: Annotated[Literal["auto", "cpu", "cuda"], BeforeValidator(str.lower)] = "auto"
    log_level: Annotated[
        Literal["DEBUG", "INFO", "WARNING", "ERROR"], BeforeValidator(str.upper)
    ] = "INFO"
    dicom_port: _Port = 11112
    dicom_ae_title: Annotated[str, AfterValidator(_ae_title)] = "SULCUS"
    dicom_bind: str = "127.0.0.1"
    dicom_tls_certificate: _File = None
    dicom_tls_key: _File = None
    dicom_tls_ca: _File = None
    quiet_seconds: int = Field(10, ge=0)
    least_free_bytes: Megabytes = Field(256 * 2**20, ge=0, alias="SULCUS_LEAST_FREE_MB")
    stalled_minutes: int = Field(5, ge=1)
    otlp_endpoint: Annotated[
        str, _one_of("http://", "https://"), AfterValidator(_without_slash)
    ] = Field("", repr=False)
    log_format: LogFormat = "text"
    metrics_port: _Port = 0
    metrics_bind: str = "127.0.0.1"
    # Memory limits of decoded images.
    max_volume_bytes: Megabytes = Field(1024 * 2**20, ge=1, alias="SULCUS_MAX_VOLUME_MB")
    max_decoding_bytes: Megabytes = Field(1536 * 2**20, ge=64, alias="SULCUS_MAX_DECODING_MB")

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if bool(self.dicom_tls_certificate) != bool(self.dicom_tls_key):
            raise ValueError(
                "SULCUS_DICOM_TLS_CERTIFICATE and SULCUS_DICOM_TLS_KEY belong together"
            )
        if self.broker_url.startswith("amqp") and not self.state_url:
            raise ValueError(
                "SULCUS_REDIS_URL is needed beside RabbitMQ (SULCUS_BROKER_URL): a Redis or Valkey "
                "keeps heartbeats, limits of attempts and the list of what waits"
            )
        if self.storage_url.startswith("file:"):
            if "storage_dir" in self.model_fields_set:
                raise ValueError("SULCUS_STORAGE_DIR and SULCUS_STORAGE_URL exclude each other")
            self.__dict__["storage_dir"] = Path(unquote(urlsplit(self.storage_url).path))
        if self.metrics_port and not os.environ.get("PROMETHEUS_MULTIPROC_DIR"):
            raise ValueError("SULCUS_METRICS_PORT needs PROMETHEUS_MULTIPROC_DIR, a folder")
        for name in ("secret_key", "pseudonym_key", "model_key", "snapshot_key"):
            # Frozen from here on: the keys are all that is not in the environment.
            self.__dict__[name] = _key(getattr(self, name), self.home, name)
        return self

    @property
    def redis_url(self) -> str:
        """The Redis of heartbeats and limits in the form that redis-py accepts."""
        return _for_redis_py(self.state_url or self.broker_url)

    @property
    def redis_broker_url(self) -> str:
        """``broker_url`` in the form that redis-py accepts, where it is a Redis or Valkey."""
        return _for_redis_py(self.broker_url)

    @property
    def limits_url(self) -> str:
        """``redis_url`` in the form that the package limits accepts."""
        return self.redis_url.replace("unix://", "redis+unix://", 1)

    @property
    def celery_url(self) -> str:
        """``broker_url`` with Valkey called Redis, whose protocol it speaks."""
        return _as_redis(self.broker_url)

    @property
    def uses_rabbitmq(self) -> bool:
        """Whether the broker is RabbitMQ."""
        return self.broker_url.startswith("amqp")


def _as_redis(url: str) -> str:
    return re.sub("^valkey", "redis", url)


def _for_redis_py(url: str) -> str:
    parts = urlsplit(_as_redis(url))
    return f"unix://{unquote(parts.path)}" if parts.scheme == "redis+socket" else parts.geturl()


class WebServerSettings(_FromEnvironment):
    """Settings of gunicorn (deploy/gunicorn.conf.py).

    Attributes:
        bind: SULCUS_BIND, the address to listen on.
        port: PORT.
        web_workers: SULCUS_WEB_WORKERS, number of processes.
        web_threads: SULCUS_WEB_THREADS, requests that one process answers at the same time.
        graceful_timeout: SULCUS_GRACEFUL_TIMEOUT, seconds that running requests get at shutdown.
        forwarded_allow_ips: FORWARDED_ALLOW_IPS, proxies whose X-Forwarded headers set the URL
            scheme: IP addresses separated by commas, or ``*``.
        metrics_dir: PROMETHEUS_MULTIPROC_DIR, folder in which several processes sum their metrics.
        log_level: SULCUS_LOG_LEVEL.
        log_format: SULCUS_LOG_FORMAT.
    """

    bind: str = "127.0.0.1"
    port: int = Field(8000, ge=1, le=65535, alias="PORT")
    web_workers: int = Field(1, ge=1)
    web_threads: int = Field(16, ge=1)
    graceful_timeout: int = Field(30, ge=0)
    forwarded_allow_ips: str = Field("127.0.0.1,::1", alias="FORWARDED_ALLOW_IPS")
    metrics_dir: Path | None = Field(None, alias="PROMETHEUS_MULTIPROC_DIR")
    log_level: Annotated[str, AfterValidator(str.lower)] = "info"
    log_format: LogFormat = "text"


def _key(given: str, home: Path, name: str) -> str:
    """The secret from the environment, or one that is generated once and kept in ``home``."""
    variable = f"SULCUS_{name.upper()}"
    if given:
        if len(given) < 32:
            raise ValueError(f"{variable} must have at least 32 characters")
        return given
    path = home / name
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not path.exists():
            _make_secret(path)
        key = path.read_text(encoding="ascii")
    except OSError as error:
        raise ValueError(f"SULCUS_HOME ({home}) cannot be written: {error.strerror}") from error
    if len(key) < 32:
        raise ValueError(f"{path} is damaged; remove it, or set {variable}")
    return key


def _make_secret(path: Path) -> None:
    """Write a new secret atomically; if two processes do so at once, the first one wins."""
    descriptor, partial = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}-")
    try:
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(secrets.token_hex(32))
        with contextlib.suppress(FileExistsError):
            os.link(partial, path)
    finally:
        Path(partial).unlink()
