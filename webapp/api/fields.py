"""Fields of the API that accept exactly what the OpenAPI description says."""

import re
from typing import Any

import marshmallow as ma
from flask_babel import gettext as _
from flask_smorest.fields import Upload
from marshmallow import fields
from werkzeug.datastructures import FileStorage


class ReceivedFile(Upload):
    """An uploaded file; a text field of the same name is refused."""

    def _deserialize(
        self, value: object, _attr: str | None, _data: object, **_options: object
    ) -> FileStorage:
        if not isinstance(value, FileStorage):
            raise ma.ValidationError(_("This must be a file."))
        return value


class Flag(fields.Boolean):
    """A JSON boolean; the strings that forms use are refused."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:  # noqa: ARG002
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Coordinate(fields.Float):
    """A JSON number; a string with a number is refused."""

    def _validated(self, value: object) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid")
        return super()._validated(value)


class WholeNumber(fields.Integer):
    """An integer in a query string: only digits and an optional minus sign."""

    def _validated(self, value: object) -> int:
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise self.make_error("invalid")
        return super()._validated(value)


class Written(fields.List[Any]):
    """A list that is described with its schema but serialised unchanged.

    A series has hundreds of images, whose fields already have the schema's form.
    """

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return value
