"""Fixtures that start real processes."""

from tests.integration.orthanc import orthanc
from tests.portal_fixtures import broker, broker_url, portal

__all__ = ["broker", "broker_url", "orthanc", "portal"]
