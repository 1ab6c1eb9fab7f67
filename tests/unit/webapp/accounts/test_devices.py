"""Browsers and systems by the User-Agent header that they send."""

import pytest

from webapp.accounts.devices import LONGEST_FAMILY, Device, device_of

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"


@pytest.mark.parametrize(
    ("user_agent", "device"),
    [
        (f"Mozilla/5.0 (X11; Linux x86_64) {_WEBKIT} Chrome/140.0.0.0 Safari/537.36",
         Device("Chrome", "Linux")),
        (f"Mozilla/5.0 (Windows NT 10.0) {_WEBKIT} Chrome/140.0 Safari/537.36 Edg/140.0",
         Device("Edge", "Windows")),
        (f"Mozilla/5.0 (Linux; Android 15; SM-S931B) {_WEBKIT} SamsungBrowser/28.0 Chrome/130.0 "
         "Mobile Safari/537.36", Device("Samsung Internet", "Android")),
        (f"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) {_WEBKIT} Chrome/140.0 Safari/537.36 "
         "OPR/120.0", Device("Opera", "macOS")),
        ("Mozilla/5.0 (Macintosh; Intel Mac OS X 15_5) AppleWebKit/605.1.15 (KHTML, like Gecko) "
         "Version/18.5 Safari/605.1.15", Device("Safari", "macOS")),
        ("Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, "
         "like Gecko) FxiOS/140.0 Mobile/15E148 Safari/605.1.15", Device("Firefox", "iPhone")),
        (f"Mozilla/5.0 (X11; CrOS x86_64 16181.61.0) {_WEBKIT} Chrome/140.0 Safari/537.36",
         Device("Chrome", "ChromeOS")),
        ("Mozilla/5.0 (Android 15; Mobile; rv:140.0) Gecko/140.0 Firefox/140.0",
         Device("Firefox", "Android")),
        ("python-requests/2.34.2", Device()),
        ("", Device()),
        ("x" * 100_000 + " Firefox/1", Device()),
    ],
)  # fmt: skip
def test_families_are_told_apart(user_agent: str, device: Device) -> None:
    assert device_of(user_agent) == device
    assert max(len(device.browser), len(device.system)) <= LONGEST_FAMILY
