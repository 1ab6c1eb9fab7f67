"""Browser and operating system from a User-Agent header, under their common names."""

import re
from dataclasses import dataclass

from flask_babel import gettext as _

LONGEST_FAMILY = 20
# The first match counts: most browsers also name others for compatibility.
_BROWSERS = (
    ("Edge", re.compile(r"\bEdg(e|A|iOS)?/")),
    ("Opera", re.compile(r"\bOPR/|\bOpera\b")),
    ("Samsung Internet", re.compile(r"\bSamsungBrowser/")),
    ("Firefox", re.compile(r"\b(Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(Chrome|Chromium|CriOS|HeadlessChrome)/")),
    ("Safari", re.compile(r"\bVersion/.*\bSafari/")),
)
_SYSTEMS = (
    ("iPhone", re.compile(r"\biPhone\b|\biPod\b")),
    ("iPad", re.compile(r"\biPad\b")),
    ("Android", re.compile(r"\bAndroid\b")),
    ("ChromeOS", re.compile(r"\bCrOS\b")),
    ("Windows", re.compile(r"\bWindows\b")),
    ("macOS", re.compile(r"\bMacintosh\b|\bMac OS X\b")),
    ("Linux", re.compile(r"\bLinux\b|\bX11\b")),
)
_LONGEST_READ = 1024


@dataclass(frozen=True)
class Device:
    """Browser and operating system; empty if unknown.

    Both come from the lists above, never from the header itself.
    """

    browser: str = ""
    system: str = ""

    def __str__(self) -> str:
        if self.browser and self.system:
            return str(_("%(browser)s on %(system)s", browser=self.browser, system=self.system))
        return self.browser or self.system or str(_("Unknown device"))


def device_of(user_agent: str) -> Device:
    """The device described by a User-Agent header (RFC 9110 10.1.5)."""
    text = user_agent[:_LONGEST_READ]
    return Device(_first(_BROWSERS, text), _first(_SYSTEMS, text))


def _first(families: tuple[tuple[str, re.Pattern[str]], ...], text: str) -> str:
    return next((family for family, pattern in families if pattern.search(text)), "")
