"""How long the body of a request may be."""

from typing import Any

from flask import Blueprint, request


def limit_bodies(blueprint: Blueprint, largest: int) -> None:
    """Limit the bodies of a blueprint's requests before anything reads them, CSRF protection too.

    Args:
        largest: bytes.
    """

    @blueprint.url_value_preprocessor
    def limit(_endpoint: str | None, _values: dict[str, Any] | None) -> None:
        request.max_content_length = largest
