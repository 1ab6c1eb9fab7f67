"""Stored files that the reverse proxy sends itself, where SULCUS_ACCEL_PREFIX names its location.

The portal checks who asks, and answers with the address of the file in a header that nginx follows
and removes (X-Accel-Redirect): a path in the folder, or a signed link of S3 for a few minutes. So
no thread of the portal waits for a slow client, and browsers see no other host.
"""

from flask import Response

from webapp.extensions import current_blobs, current_settings


def handed_to_proxy(response: Response, key: str) -> bool:
    """Let the proxy send the stored file ``key`` as the body of ``response``, if there is one.

    Call it when all checks are done. The content is not compared with its key.

    Returns:
        False if no proxy does so: the caller sends the content.

    Raises:
        MissingBlob: nothing is stored under ``key``.
        StorageAway: the store does not answer.
    """
    prefix = current_settings().accel_prefix
    if not prefix:
        return False
    response.headers["X-Accel-Redirect"] = prefix + current_blobs().link(key)
    return True
