"""Validation and normalisation of nodes' AE titles, addresses, ports and credentials."""

import ipaddress
import re
from urllib.parse import urlsplit

from flask_babel import gettext as _

from config import is_ae_title
from webapp.errors import InvalidInput

_LABEL = r"(?!-)[a-z0-9_-]{1,63}(?<!-)"
_HOST = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_AUTHORIZATION = re.compile(r"[A-Za-z][A-Za-z0-9-]* [\x21-\x7e]+")


def checked_ae_title(ae_title: str) -> str:
    """The title without surrounding spaces, which are not significant (PS3.5 6.2, AE).

    Raises:
        InvalidInput: it is not 1 to 16 printable ASCII characters, or contains a backslash.
    """
    title = ae_title.strip(" ")
    if not is_ae_title(title):
        message = _("An AE title has 1 to 16 ASCII characters and no backslash.")
        raise InvalidInput(message, fields={"ae_title": message})
    return title


def checked_address(address: str) -> str:
    """The normalised host name or IP address; raises :class:`InvalidInput`."""
    host = address.strip().rstrip(".").lower()
    if plain := plain_ip(host):
        return plain
    # Only digits and dots: meant as an IP address, but not a valid one.
    numeric = re.fullmatch(r"[0-9.]*", host)
    if numeric or len(host) > 253 or not _HOST.fullmatch(host):
        message = _("This is neither a host name nor an IP address.")
        raise InvalidInput(message, fields={"address": message})
    return host


def plain_ip(address: str) -> str | None:
    """The IP address in its shortest form, IPv4-mapped IPv6 as IPv4; None for other text."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def checked_port(port: int | None) -> int | None:
    """The port; raises :class:`InvalidInput` if it is out of range."""
    if port is not None and not 1 <= port <= 65535:
        message = _("The port must be a number from 1 to 65535.")
        raise InvalidInput(message, fields={"port": message})
    return port


def checked_stow_url(url: str) -> str:
    """The base URL of a DICOMweb service without a trailing slash, or an empty string.

    Raises:
        InvalidInput: not an http or https URL, or it has a password, query or fragment.
    """
    wanted = url.strip().rstrip("/")
    if not wanted:
        return ""
    message = None
    try:
        parts = urlsplit(wanted)
        host, _port = parts.hostname, parts.port
    except ValueError:
        parts, host = urlsplit(""), None
    if parts.scheme not in {"http", "https"} or not host or not wanted.isprintable():
        message = _("The address must start with http:// or https://.")
    elif " " in wanted or len(wanted) > 500:
        message = _("This address is not valid.")
    elif parts.username is not None or parts.password is not None:
        message = _(
            "Leave user name and password out of the address; there is a separate field for them."
        )
    elif parts.query or parts.fragment:
        message = _("The address must not have a part after ? or #.")
    if message:
        raise InvalidInput(message, fields={"stow_url": message})
    return wanted


def checked_authorization(authorization: str) -> str:
    """The value of an Authorization header, or an empty string; raises :class:`InvalidInput`."""
    value = authorization.strip()
    if value and not (len(value) <= 500 and _AUTHORIZATION.fullmatch(value)):
        message = _(
            "This must be a scheme, a space and the credentials, for example: Bearer abc123"
        )
        raise InvalidInput(message, fields={"stow_authorization": message})
    return value


def same_server(url: str | None, other: str | None) -> bool:
    """Whether two URLs have the same scheme, host and port."""
    first, second = urlsplit(url or ""), urlsplit(other or "")
    return (first.scheme, first.hostname, first.port) == (
        second.scheme,
        second.hostname,
        second.port,
    )
