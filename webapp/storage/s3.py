"""Blobs in a bucket of S3, or of any server that speaks its protocol.

Endpoint, region and credentials are those of the environment, as all tools of S3 read them. Every
request has time-outs and is tried again a few times; then :class:`StorageAway` says why.
"""

import io
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime
from itertools import islice
from typing import Any, BinaryIO, TypeVar
from urllib.parse import urlsplit

import boto3
from boto3.exceptions import Boto3Error
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)

from config import InvalidSetting
from webapp.storage.base import (
    BlobStore,
    MissingBlob,
    NoRoom,
    Problem,
    StorageAway,
    checked,
    is_key,
    key_of,
)
from webapp.storage.counted import BYTES, FAILURES
from webapp.storage.guards import Guard

_AT_ONCE = 8  # requests of one batch, and contents that wait for being sent
_IN_PARTS_FROM = 64 * 2**20  # bytes
_READ_AHEAD = 2**20  # bytes of an open blob that one request asks for
_LINK_LASTS = 300  # seconds: the reverse proxy uses it at once
_REMOVED_AT_ONCE = 1000  # what S3 takes in one request
_TRIES = 3
_GONE = {"404", "NoSuchKey", "NotFound"}
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName"}
_REFUSED = {
    "401", "403", "AccessDenied", "ExpiredToken", "InvalidAccessKeyId", "InvalidToken",
    "SignatureDoesNotMatch",
}  # fmt: skip
_FULL = {"507", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"}

Found = TypeVar("Found")
_log = logging.getLogger(__name__)


class S3Store(BlobStore):
    """A bucket, or the part of it below a prefix."""

    def __init__(self, url: str, guard: Guard) -> None:
        """Keep blobs at ``s3://bucket/prefix``."""
        super().__init__(guard)
        parts = urlsplit(url)
        self._bucket = parts.netloc
        self._prefix = f"{parts.path.strip('/')}/".removeprefix("/")
        self._clients = _Clients()

    def check(self) -> None:
        """Ask for the bucket once; a store that is away is only logged, since it may come back.

        Raises:
            InvalidSetting: it does not exist, or the credentials are wrong.
        """
        match self.problem():
            case Problem.MISSING:
                raise InvalidSetting(
                    f"SULCUS_STORAGE_URL names the bucket {self._bucket}, which does not exist."
                )
            case Problem.REFUSED:
                raise InvalidSetting(
                    f"SULCUS_STORAGE_URL: the bucket {self._bucket} refuses the credentials; check "
                    "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY."
                )
            case Problem.AWAY:
                _log.warning("the bucket %s does not answer yet", self._bucket)

    def problem(self) -> Problem | None:
        """Why nothing can be stored now, or None; takes a few seconds at most."""
        # A client of its own, without connections that a child would share with its parent.
        client = _made(connect_timeout=2, read_timeout=3, tries=1)
        try:
            client.head_bucket(Bucket=self._bucket)
        except (BotoCoreError, ClientError) as error:
            return _problem_of(error)
        finally:
            client.close()
        return None

    @contextmanager
    def batch(self) -> Iterator["S3Batch"]:
        """Store many blobs; they are sent while the block runs, and all exist once it has ended.

        What a block that fails has sent stays without a name until the sweep removes it.
        """
        with self._until_named(), ThreadPoolExecutor(_AT_ONCE) as pool:
            batch = S3Batch(self, pool)
            yield batch
            batch.finish()

    def get(self, key: str) -> bytes:
        """Return the content; raises :class:`MissingBlob`."""
        content = checked(key, self._read(key, {}))
        BYTES.labels("read").inc(len(content))
        return content

    def get_many(self, keys: Iterable[str]) -> Iterator[bytes | None]:
        """The content of each key, in order; some are fetched at once."""
        with ThreadPoolExecutor(_AT_ONCE) as pool:
            for some in _chunks(keys, _AT_ONCE):
                yield from pool.map(self._found, some)

    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""
        name = self._name(key)
        head = _asked(lambda: self._client.head_object(Bucket=self._bucket, Key=name), key)
        return int(head["ContentLength"])

    def open(self, key: str) -> BinaryIO:
        """The content as a file that asks for parts as they are read."""
        return io.BufferedReader(_Parts(self, key, self.size(key)), _READ_AHEAD)

    def part(self, key: str, start: int, size: int) -> bytes:
        """Up to ``size`` bytes from ``start``, which is inside of the content."""
        return self._read(key, {"Range": f"bytes={start}-{start + size - 1}"})

    def remove(self, keys: Iterable[str]) -> int:
        """Remove blobs that no row refers to; return how many."""
        removed = 0
        for some in _chunks(keys, _REMOVED_AT_ONCE):
            names = [{"Key": self._name(key)} for key in some]
            answer = _asked(
                lambda names=names: self._client.delete_objects(  # type: ignore[misc]
                    Bucket=self._bucket, Delete={"Objects": names}
                )
            )
            removed += len(answer.get("Deleted", []))
            if errors := answer.get("Errors"):
                raise StorageAway(f"{len(errors)} objects were not removed: {errors[0]['Code']}")
        return removed

    def older_than(self, moment: datetime, folder: str) -> list[str]:
        """Keys that begin with ``folder`` and were stored before ``moment``."""
        start = f"{self._prefix}{folder}/"
        pages = self._client.get_paginator("list_objects_v2")

        def listed() -> list[str]:
            return [
                folder + one["Key"].removeprefix(start)
                for page in pages.paginate(Bucket=self._bucket, Prefix=start)
                for one in page.get("Contents", [])
                if one["LastModified"] < moment
            ]

        return [key for key in _asked(listed) if is_key(key)]

    def remove_partial(self, moment: datetime) -> int:
        """End uploads in parts that were begun before ``moment`` and not finished."""
        answer = _asked(
            lambda: self._client.list_multipart_uploads(Bucket=self._bucket, Prefix=self._prefix)
        )
        left = [one for one in answer.get("Uploads", []) if one["Initiated"] < moment]
        for one in left:
            _asked(
                lambda one=one: self._client.abort_multipart_upload(  # type: ignore[misc]
                    Bucket=self._bucket, Key=one["Key"], UploadId=one["UploadId"]
                ),
                one["Key"],
            )
        return len(left)

    def link(self, key: str) -> str:
        """Path and signed query of the object at the endpoint, for a few minutes.

        Raises:
            MissingBlob: nothing is stored under ``key``.
        """
        self.size(key)
        url = self._client.generate_presigned_url(
            "get_object",
            Params={"Bucket": self._bucket, "Key": self._name(key)},
            ExpiresIn=_LINK_LASTS,
        )
        parts = urlsplit(url)
        return f"{parts.path.lstrip('/')}?{parts.query}"

    def send(self, key: str, content: bytes) -> None:
        """Store the content unless it is there."""
        try:
            if self.size(key) == len(content):
                return
        except MissingBlob:
            pass
        name = self._name(key)
        if len(content) < _IN_PARTS_FROM:
            # Its hash is signed, so the server refuses what was changed on the way.
            _asked(
                lambda: self._client.put_object(Bucket=self._bucket, Key=name, Body=content), key
            )
        else:
            _asked(
                lambda: self._client.upload_fileobj(
                    io.BytesIO(content),
                    self._bucket,
                    name,
                    Config=TransferConfig(multipart_threshold=_IN_PARTS_FROM),
                ),
                key,
            )
        BYTES.labels("written").inc(len(content))

    def _read(self, key: str, options: dict[str, str]) -> bytes:
        name = self._name(key)

        def read() -> bytes:
            answer = self._client.get_object(Bucket=self._bucket, Key=name, **options)
            with answer["Body"] as body:
                return bytes(body.read())

        try:
            return _asked(read, key)
        except StorageAway as away:
            # The library tries requests again, and not an answer that broke off.
            if not isinstance(away.__cause__, HTTPClientError | IncompleteReadError | OSError):
                raise
            return _asked(read, key)

    def _name(self, key: str) -> str:
        if not is_key(key):
            raise MissingBlob(key)
        return f"{self._prefix}{key[:2]}/{key[2:]}"

    @property
    def _client(self) -> Any:
        return self._clients.own()


class S3Batch:
    """Blobs on their way into the bucket, a few at a time."""

    def __init__(self, store: S3Store, pool: ThreadPoolExecutor) -> None:
        self._store = store
        self._pool = pool
        self._room = threading.BoundedSemaphore(_AT_ONCE)
        self._sent: dict[str, Future[None]] = {}

    def put(self, content: bytes) -> str:
        """Begin to send ``content`` and return its key; waits while many others are sent.

        Raises:
            NoRoom, StorageAway: an earlier one could not be stored.
        """
        key = key_of(content)
        if key in self._sent:
            return key
        self._raise_failed()
        self._room.acquire()
        sent = self._sent[key] = self._pool.submit(self._store.send, key, content)
        sent.add_done_callback(lambda _sent: self._room.release())
        return key

    def get(self, key: str) -> bytes:
        """Return the content, also of a blob that is being sent."""
        self._wait_for(key)
        return self._store.get(key)

    def size(self, key: str) -> int:
        """Bytes of the content; raises :class:`MissingBlob`."""
        self._wait_for(key)
        return self._store.size(key)

    def finish(self) -> None:
        """Wait until everything is stored.

        Raises:
            NoRoom, StorageAway: something could not be stored.
        """
        for sent in self._sent.values():
            sent.result()

    def _wait_for(self, key: str) -> None:
        if key in self._sent:
            self._sent[key].result()

    def _raise_failed(self) -> None:
        for sent in self._sent.values():
            if sent.done():
                sent.result()


class _Parts(io.RawIOBase):
    """A blob of which each read asks for a part."""

    def __init__(self, store: S3Store, key: str, size: int) -> None:
        super().__init__()
        self._store, self._key, self._size = store, key, size
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._at, os.SEEK_END: self._size}[whence]
        self._at = max(0, base + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        wanted = min(len(buffer), self._size - self._at)
        if wanted <= 0:
            return 0
        content = self._store.part(self._key, self._at, wanted)
        buffer[: len(content)] = content
        self._at += len(content)
        return len(content)


class _Clients:
    """One client a process: its connections must not be used by the children of a worker."""

    def __init__(self) -> None:
        self._mutex = threading.Lock()
        self._own: tuple[int, Any] | None = None

    def own(self) -> Any:
        """The client of this process; it may be used by all threads."""
        with self._mutex:
            if self._own is None or self._own[0] != os.getpid():
                self._own = (os.getpid(), _made(connect_timeout=3, read_timeout=30, tries=_TRIES))
            return self._own[1]


def _made(*, connect_timeout: float, read_timeout: float, tries: int) -> Any:
    own_endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    return boto3.session.Session().client(
        "s3",
        config=Config(
            connect_timeout=connect_timeout,
            read_timeout=read_timeout,
            retries={"mode": "standard", "total_max_attempts": tries},
            max_pool_connections=4 * _AT_ONCE,
            tcp_keepalive=True,
            signature_version="s3v4",
            # Servers of one's own seldom have a host name for each bucket.
            s3={
                "addressing_style": "path" if own_endpoint else "auto",
                "payload_signing_enabled": True,
            },
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
        ),
    )


def _asked(ask: Callable[[], Found], key: str = "") -> Found:
    """What the server answers; its errors become ours, and are counted."""
    try:
        return _answered(ask, key)
    except MissingBlob:
        raise  # most of the time it only was to be known whether it is there
    except NoRoom:
        FAILURES.labels("no_room").inc()
        raise
    except StorageAway:
        FAILURES.labels("away").inc()
        raise


def _answered(ask: Callable[[], Found], key: str) -> Found:
    try:
        return ask()
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise StorageAway("the store has no credentials") from error
    except ClientError as error:
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _GONE and key:
            raise MissingBlob(key) from error
        if code in _FULL:
            raise NoRoom(f"the store is full ({code})") from error
        raise StorageAway(f"the store answers {code or 'with an error'}") from error
    except (BotoCoreError, Boto3Error) as error:
        raise StorageAway(f"the store does not answer ({type(error).__name__})") from error
    except OSError as error:
        raise StorageAway(f"the store broke off ({type(error).__name__})") from error


def _problem_of(error: Exception) -> Problem:
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return Problem.REFUSED
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", ""))
        if code in _REFUSED:
            return Problem.REFUSED
        if code in _GONE | _NO_BUCKET:
            return Problem.MISSING
    return Problem.AWAY


def _chunks(keys: Iterable[str], size: int) -> Iterator[list[str]]:
    iterator = iter(keys)
    while some := list(islice(iterator, size)):
        yield some
