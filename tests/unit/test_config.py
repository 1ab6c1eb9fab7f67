"""Settings come from the environment, and a wrong value is named."""

import os
import stat
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from config import REPOSITORY, VERSION, InvalidSetting, Settings, WebServerSettings


def settings(home: Path, **environment: str) -> Settings:
    return Settings.from_environment({"SULCUS_HOME": str(home), **environment})


def test_everything_lies_in_the_home_folder_by_default(tmp_path: Path) -> None:
    found = settings(tmp_path)
    assert found.database_url == f"sqlite:///{tmp_path}/sulcus.sqlite3"
    assert found.storage_dir == tmp_path / "blobs"
    assert found.max_upload_bytes == 512 * 2**20
    assert found.max_pixels == 64_000_000
    assert not found.cookie_secure


def test_the_secret_key_is_made_once_and_kept_private(tmp_path: Path) -> None:
    home = tmp_path / "new"
    with ThreadPoolExecutor(4) as pool:
        keys = set(pool.map(lambda _: settings(home).secret_key, range(8)))
    assert len(keys) == 1
    assert len(keys.pop()) == 64
    assert stat.S_IMODE((home / "secret_key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SULCUS_SECRET_KEY", "short"),
        ("SULCUS_DATABASE_URL", "mysql://localhost/x"),
        ("SULCUS_BROKER_URL", "amqp://localhost"),
        ("SULCUS_PUBLIC_URL", "sulcus.example.org"),
        ("SULCUS_TRUSTED_PROXIES", "-1"),
        ("SULCUS_TRUSTED_PROXIES", "one"),
        ("SULCUS_TRUSTED_HOSTS", "sulcus.example.org, https://x"),
        ("SULCUS_SESSION_IDLE_MINUTES", "0"),
        ("SULCUS_MAX_UPLOAD_MB", "0"),
        ("SULCUS_MAX_MEGAPIXELS", "1e3"),
        ("SULCUS_COOKIE_SECURE", "perhaps"),
        ("SULCUS_DEVICE", "tpu"),
        ("SULCUS_LOG_LEVEL", "LOUD"),
    ],
)
def test_a_wrong_value_is_refused_by_name(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        settings(tmp_path, **{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "http"),
        ("PORT", "65536"),
        ("SULCUS_WEB_THREADS", "0"),
        ("SULCUS_WEB_WORKERS", "-1"),
    ],
)
def test_a_wrong_value_of_the_web_server_is_refused_by_name(name: str, value: str) -> None:
    with pytest.raises(InvalidSetting, match=name):
        WebServerSettings.from_environment({name: value})


def test_no_message_quotes_a_secret(tmp_path: Path) -> None:
    for name in ("SULCUS_SECRET_KEY", "SULCUS_DATABASE_URL", "SULCUS_BROKER_URL"):
        with pytest.raises(InvalidSetting) as caught:
            settings(tmp_path, **{name: "hunter2"})
        assert "hunter2" not in str(caught.value)
    assert settings(tmp_path).secret_key not in repr(settings(tmp_path))


def test_a_wrong_value_stops_the_start_with_one_line(tmp_path: Path) -> None:
    environment = {**os.environ, "SULCUS_HOME": str(tmp_path), "SULCUS_DEVICE": "tpu"}
    done = subprocess.run(
        [sys.executable, "-c", "import wsgi"],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip().splitlines() == [
        "Sulcus cannot start: SULCUS_DEVICE is 'tpu'. Input should be 'auto', 'cpu' or 'cuda'."
    ]


def test_a_damaged_secret_key_is_named(tmp_path: Path) -> None:
    (tmp_path / "secret_key").write_text("abc")
    with pytest.raises(InvalidSetting, match="secret_key is damaged"):
        settings(tmp_path)


def test_cookies_are_secure_behind_https(tmp_path: Path) -> None:
    assert settings(tmp_path, SULCUS_PUBLIC_URL="https://a.example/").cookie_secure
    assert settings(tmp_path, SULCUS_PUBLIC_URL="https://a.example/").public_url == (
        "https://a.example"
    )
    assert not settings(
        tmp_path, SULCUS_PUBLIC_URL="https://a.example", SULCUS_COOKIE_SECURE="0"
    ).cookie_secure


@pytest.mark.parametrize(
    ("broker", "redis"),
    [
        ("redis://host:1/2", "redis://host:1/2"),
        ("redis+socket:///run/my%20redis.sock", "unix:///run/my redis.sock"),
        ("valkey://host:1/2", "redis://host:1/2"),
        ("valkeys://host:1/2", "rediss://host:1/2"),
        ("valkey+socket:///run/valkey.sock", "unix:///run/valkey.sock"),
    ],
)
def test_the_broker_is_known_to_redis_as_well(tmp_path: Path, broker: str, redis: str) -> None:
    assert settings(tmp_path, SULCUS_BROKER_URL=broker).redis_url == redis


def test_rabbitmq_needs_a_redis_beside_it(tmp_path: Path) -> None:
    address = "amqp://somebody:secret@host//"
    with pytest.raises(InvalidSetting, match="SULCUS_REDIS_URL is needed beside RabbitMQ") as told:
        settings(tmp_path, SULCUS_BROKER_URL=address)
    assert "secret" not in str(told.value)
    found = settings(tmp_path, SULCUS_BROKER_URL=address, SULCUS_REDIS_URL="valkey://host:1/2")
    assert found.uses_rabbitmq
    assert (found.celery_url, found.redis_url) == (address, "redis://host:1/2")


def test_signs_of_life_may_be_in_another_redis_than_messages(tmp_path: Path) -> None:
    found = settings(
        tmp_path, SULCUS_BROKER_URL="redis://one:1/0", SULCUS_REDIS_URL="redis://other:1/0"
    )
    assert found.redis_url == found.limits_url == "redis://other:1/0"
    assert found.redis_broker_url == found.celery_url == "redis://one:1/0"


def test_storage_may_be_a_bucket_or_a_folder(tmp_path: Path) -> None:
    found = settings(tmp_path, SULCUS_STORAGE_URL="s3://bucket/some/prefix/")
    assert found.storage_url == "s3://bucket/some/prefix"
    found = settings(tmp_path, SULCUS_STORAGE_URL="file:///mnt/my%20files")
    assert found.storage_dir == Path("/mnt/my files")


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"SULCUS_STORAGE_URL": "s3://"}, "SULCUS_STORAGE_URL must be s3://bucket"),
        ({"SULCUS_STORAGE_URL": "s3://My_Bucket"}, "SULCUS_STORAGE_URL must be s3://bucket"),
        ({"SULCUS_STORAGE_URL": "https://a.example"}, "SULCUS_STORAGE_URL must be s3://bucket"),
        ({"SULCUS_STORAGE_URL": "s3://key:secret@bucket"}, "must hold no credentials"),
        (
            {"SULCUS_STORAGE_URL": "file:///a", "SULCUS_STORAGE_DIR": "/b"},
            "SULCUS_STORAGE_DIR and SULCUS_STORAGE_URL exclude each other",
        ),
        ({"SULCUS_ACCEL_PREFIX": "stored"}, "SULCUS_ACCEL_PREFIX must begin and end with a slash"),
        ({"SULCUS_REDIS_URL": "amqp://host//"}, "SULCUS_REDIS_URL must start with redis://"),
    ],
)
def test_wrong_back_ends_are_named(tmp_path: Path, given: dict[str, str], sentence: str) -> None:
    with pytest.raises(InvalidSetting, match=sentence):
        settings(tmp_path, **given)


def test_the_version_is_that_of_the_project() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))
    assert project["project"]["version"] == VERSION
