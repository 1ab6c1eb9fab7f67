"""Fields of the API that take exactly what its description says."""

import re
from typing import Any

import marshmallow as ma
from flask_babel import gettext as _
from flask_smorest.fields import Upload
from marshmallow import fields
from werkzeug.datastructures import FileStorage


class ReceivedFile(Upload):
    """An uploaded file, and not a text field of the same name."""

    def _deserialize(
        self, value: object, _attr: str | None, _data: object, **_options: object
    ) -> FileStorage:
        if not isinstance(value, FileStorage):
            raise ma.ValidationError(_("This must be a file."))
        return value


class Flag(fields.Boolean):
    """Yes or no in JSON, and none of the words that forms use for it."""

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:  # noqa: ARG002
        if not isinstance(value, bool):
            raise self.make_error("invalid")
        return value


class Coordinate(fields.Float):
    """A number in JSON, and no text that could be read as one."""

    def _validated(self, value: object) -> float:
        if not isinstance(value, int | float):
            raise self.make_error("invalid")
        return super()._validated(value)


class WholeNumber(fields.Integer):
    """A number in an address: digits alone."""

    def _validated(self, value: object) -> int:
        if isinstance(value, str) and not re.fullmatch(r"-?[0-9]{1,9}", value):
            raise self.make_error("invalid")
        return super()._validated(value)


class Written(fields.List[Any]):
    """A list that is described like others and written as it is.

    A series has hundreds of images, whose fields are what the schema says already.
    """

    def _serialize(self, value: Any, attr: str | None, obj: Any, **kwargs: Any) -> Any:  # noqa: ARG002
        return value
