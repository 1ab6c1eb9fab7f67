"""The account page in the hand: one's own devices, by keyboard, on a narrow screen."""

import pytest
from playwright.sync_api import expect

from tests.browser.visits import Visit
from tests.factories import Account
from tests.portal import Portal
from webapp.accounts.devices import device_of
from webapp.accounts.queries import find_user_by_address
from webapp.accounts.sessions import open_session

IPAD = "Mozilla/5.0 (iPad; CPU OS 18_5 like Mac OS X) Version/18.5 Safari/604.1"


@pytest.mark.browser
@pytest.mark.integration
@pytest.mark.parametrize("visit", ["phone"], indirect=True)
def test_devices_are_signed_out_by_keyboard(portal: Portal, visit: Visit, reader: Account) -> None:
    with portal.app.app_context():
        user = find_user_by_address(reader.email)
        for _number in range(2):
            open_session(user=user, device=device_of(IPAD))
    page = visit.page
    visit.open("/account")
    devices = page.get_by_role("region", name="Devices on which you are signed in")
    expect(devices.get_by_text("this device")).to_have_count(1)
    visit.picture("account-devices")
    one = devices.get_by_role("button", name="Sign out the device Safari on iPad")
    expect(one).to_have_count(2)
    one.first.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("The device has been signed out.")).to_be_visible()
    expect(one).to_have_count(1)
    page.get_by_role("button", name="Sign out all other devices").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text("All other devices have been signed out.")).to_be_visible()
    expect(one).to_have_count(0)
    expect(devices.get_by_text("this device")).to_have_count(1)
