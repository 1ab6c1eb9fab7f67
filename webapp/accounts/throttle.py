"""Rate limits for password attempts.

Each attempt is counted before the password is checked, in Redis, which all processes share. If
Redis does not respond, each process counts for itself. A successful attempt is not counted.

Attempts are counted per client and account, so that an attacker locks out only themselves and not
the account's owner. Guesses from many addresses meet a slower limit on the whole account, which
does not apply to devices on which the owner has signed in before.
"""

import hashlib
import hmac
import ipaddress
import math
import secrets
import time
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from flask import Flask, Request, Response, current_app
from itsdangerous import BadSignature, URLSafeTimedSerializer
from limits import RateLimitItem, parse_many
from limits.errors import StorageError
from limits.storage import MemoryStorage, storage_from_string
from limits.strategies import FixedWindowRateLimiter
from werkzeug.exceptions import TooManyRequests

from config import Settings
from webapp.accounts.checks import address_or_none
from webapp.extensions import current_settings

# Each further limit makes a persistent client wait longer.
_AT_ONE_ACCOUNT = "10/minute;20/10minute;40/hour;100/day"
_FROM_ONE_ADDRESS = "20/minute;100/hour"  # a ward may share one address
_AT_ONE_ACCOUNT_FROM_ANYWHERE = "100/hour"
_COOKIE = "sulcus_device"
_KNOWN_FOR = 180 * 24 * 3600  # seconds
_ACCOUNTS_OF_A_DEVICE = 8
_WITHOUT_REDIS = 5.0  # seconds until Redis is tried again


@dataclass(frozen=True)
class Rule:
    """Limits on the attempts that share a key; all of them apply."""

    key: str
    limits: Sequence[RateLimitItem]

    @classmethod
    def of(cls, limits: str, *key: str) -> "Rule":
        """A rule; the key is hashed, so that Redis and its log contain no address."""
        return cls(hashlib.sha256("\0".join(key).encode()).hexdigest(), parse_many(limits))


class Throttle:
    """Counts attempts in Redis, or in this process if Redis does not respond."""

    def __init__(self, url: str) -> None:
        shared = storage_from_string(
            url, wrap_exceptions=True, socket_timeout=1, socket_connect_timeout=1
        )
        self._shared = FixedWindowRateLimiter(shared)
        self._own = FixedWindowRateLimiter(MemoryStorage())
        self._shared_from = 0.0

    def count(self, rules: Sequence[Rule]) -> None:
        """Count an attempt.

        Raises:
            TooManyRequests: a limit is reached; ``retry_after`` is the time to wait in seconds.
        """
        self._do(_count, rules)

    def give_back(self, rules: Sequence[Rule]) -> None:
        """Undo the count of a successful attempt."""
        self._do(_give_back, rules)

    def _do(
        self,
        work: Callable[[FixedWindowRateLimiter, Sequence[Rule]], None],
        rules: Sequence[Rule],
    ) -> None:
        """Use Redis; after a failure use this process's counters for a while."""
        if time.monotonic() >= self._shared_from:
            try:
                return work(self._shared, rules)
            except StorageError:
                self._shared_from = time.monotonic() + _WITHOUT_REDIS
        return work(self._own, rules)


def init_app(app: Flask, settings: Settings) -> None:
    """Create the throttle of ``app``."""
    app.extensions["throttle"] = Throttle(settings.limits_url)


def current_throttle() -> Throttle:
    """The throttle of the current application."""
    throttle: Throttle = current_app.extensions["throttle"]
    return throttle


def rules_of_sign_in(request: Request, email: str) -> list[Rule]:
    """The limits for an attempt to sign in as ``email`` from this request's client."""
    account = _account(email)
    device, accounts = _device(request)
    if _mark(account) in accounts:
        return [Rule.of(_AT_ONE_ACCOUNT, "device", account, device)]
    client = client_of(request)
    return [
        Rule.of(_AT_ONE_ACCOUNT, "account from", account, client),
        Rule.of(_FROM_ONE_ADDRESS, "from", client),
        Rule.of(_AT_ONE_ACCOUNT_FROM_ANYWHERE, "account", account),
    ]


def rules_of_secret(request: Request, kind: str, owner: str = "") -> list[Rule]:
    """The limits for attempts other than signing in, per ``owner`` or else per client."""
    return [Rule.of(_AT_ONE_ACCOUNT, kind, owner or client_of(request))]


def client_of(request: Request) -> str:
    """The client's IP address; for IPv6 its /64 network, since one customer has a whole one."""
    given = request.remote_addr or ""
    try:
        address = ipaddress.ip_address(given.partition("%")[0])
    except ValueError:
        return given
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            return str(address.ipv4_mapped)
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)


def remember_device(request: Request, response: Response, email: str) -> None:
    """Mark the browser as one on which the account's owner has signed in."""
    device, accounts = _device(request)
    mark = _mark(_account(email))
    others = [one for one in accounts if one != mark][: _ACCOUNTS_OF_A_DEVICE - 1]
    response.set_cookie(
        _COOKIE,
        _signer().dumps([device or secrets.token_hex(16), mark, *others]),
        max_age=_KNOWN_FOR,
        secure=current_settings().cookie_secure,
        httponly=True,
        samesite="Lax",
    )


def _count(limiter: FixedWindowRateLimiter, rules: Sequence[Rule]) -> None:
    limits = [(item, rule.key) for rule in rules for item in rule.limits]
    # Test first without counting: a refused attempt must not use up the shared limits.
    for item, key in limits:
        if not limiter.test(item, key):
            raise _too_many(limiter, item, key)
    for item, key in limits:
        if not limiter.hit(item, key):
            raise _too_many(limiter, item, key)


def _too_many(limiter: FixedWindowRateLimiter, item: RateLimitItem, key: str) -> TooManyRequests:
    wait = limiter.get_window_stats(item, key).reset_time - time.time()
    return TooManyRequests(retry_after=max(1, math.ceil(wait)))


def _give_back(limiter: FixedWindowRateLimiter, rules: Sequence[Rule]) -> None:
    for rule in rules:
        for item in rule.limits:
            limiter.hit(item, rule.key, cost=-1)


def _account(email: str) -> str:
    """One form for all spellings of an account's address, such as full width or capitals."""
    address = address_or_none(email) or email.strip()[:254]
    return unicodedata.normalize("NFKC", address).casefold()


def _device(request: Request) -> tuple[str, list[str]]:
    """The browser's random id and the marks of the accounts used on it."""
    try:
        device, *accounts = _signer().loads(request.cookies.get(_COOKIE, ""), max_age=_KNOWN_FOR)
    except BadSignature:
        return "", []
    return device, accounts


def _mark(account: str) -> str:
    """A keyed hash of the account, which nobody can reverse without the key."""
    key = current_settings().secret_key.encode()
    return hmac.new(key, b"device " + account.encode(), hashlib.sha256).hexdigest()[:24]


def _signer() -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(current_settings().secret_key, salt="known-device")
