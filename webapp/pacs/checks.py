"""What titles and addresses of nodes have to look like before they are kept."""

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
    """The title without the blanks around it, which do not count (PS3.5 6.2, AE).

    Raises:
        InvalidInput: it is not 1 to 16 printable ASCII characters, or has a backslash.
    """
    title = ae_title.strip(" ")
    if not is_ae_title(title):
        message = _("An AE title has 1 to 16 ASCII characters and no backslash.")
        raise InvalidInput(message, fields={"ae_title": message})
    return title


def checked_address(address: str) -> str:
    """A host name or an IP address, in the one form that is kept; raises :class:`InvalidInput`."""
    host = address.strip().rstrip(".").lower()
    if plain := plain_ip(host):
        return plain
    # What is made of digits and dots alone was meant to be an IP address.
    numeric = re.fullmatch(r"[0-9.]*", host)
    if numeric or len(host) > 253 or not _HOST.fullmatch(host):
        message = _("This is neither a host name nor an IP address.")
        raise InvalidInput(message, fields={"address": message})
    return host


def plain_ip(address: str) -> str | None:
    """The IP address in its shortest form, IPv4 also where it is written as IPv6; else None."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return None
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return str(mapped or found)


def checked_port(port: int | None) -> int | None:
    """The port itself; raises :class:`InvalidInput` where there can be none of that number."""
    if port is not None and not 1 <= port <= 65535:
        message = _("The port must be a number from 1 to 65535.")
        raise InvalidInput(message, fields={"port": message})
    return port


def checked_stow_url(url: str) -> str:
    """The base address of a DICOMweb service without the slash at its end, or nothing.

    Raises:
        InvalidInput: it is no http or https address, or holds a password, query or fragment.
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
    """The value of an Authorization header, or nothing; raises :class:`InvalidInput`."""
    value = authorization.strip()
    if value and not (len(value) <= 500 and _AUTHORIZATION.fullmatch(value)):
        message = _(
            "This must be a scheme, a space and the credentials, for example: Bearer abc123"
        )
        raise InvalidInput(message, fields={"stow_authorization": message})
    return value


def same_server(url: str | None, other: str | None) -> bool:
    """Whether two addresses lead to the same scheme, host and port."""
    first, second = urlsplit(url or ""), urlsplit(other or "")
    return (first.scheme, first.hostname, first.port) == (
        second.scheme,
        second.hostname,
        second.port,
    )
