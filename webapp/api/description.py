"""Adapts flask-smorest to the portal: errors, argument parsing and OpenAPI description."""

import json
from collections.abc import Iterator
from itertools import islice
from json import JSONDecodeError
from typing import Any, NoReturn

import flask_smorest
import marshmallow as ma
from apispec.ext.marshmallow import MarshmallowPlugin
from apispec.ext.marshmallow.openapi import OpenAPIConverter
from flask import Flask, Request, Response
from flask_babel import gettext as _
from webargs.flaskparser import FlaskParser
from webargs.multidictproxy import MultiDictProxy
from werkzeug.datastructures import FileStorage, MultiDict
from werkzeug.exceptions import BadRequest, UnsupportedMediaType

from webapp.accounts.access import public
from webapp.api.answer_schemas import ProblemSchema
from webapp.errors import InvalidInput

_MOST_SENTENCES = 100
_PROBLEM = "application/problem+json"
_DESCRIPTION = (
    "Brain MRI in, findings with their uncertainty out. "
    "Research software. Not a certified medical device; not for diagnosis."
)


class PortalParser(FlaskParser):
    """Reports invalid arguments as the portal's own errors, and so as problem documents."""

    def load_json(self, req: Request, schema: ma.Schema) -> Any:
        """Read a JSON body; raises 400 if it is malformed and 415 for another content type."""
        if not req.is_json:
            raise UnsupportedMediaType(_("Send JSON with the content type application/json."))
        try:
            found = super().load_json(req, schema)
            if found is not ma.missing:
                json.dumps(found, ensure_ascii=False).encode()  # refuses lone surrogates
        except (RecursionError, ValueError) as error:  # nested too deeply, or number too long
            raise _malformed() from error
        return found

    def load_form(self, req: Request, schema: ma.Schema) -> MultiDictProxy:
        """Merge the fields and files of a form, which are one multipart body."""
        values: MultiDict[str, str | FileStorage] = MultiDict(req.form)
        values.update(req.files)
        return MultiDictProxy(values, schema)

    def handle_error(
        self, error: ma.ValidationError, *_args: object, **_options: object
    ) -> NoReturn:
        """Raise :class:`InvalidInput` with the message of each invalid value."""
        fields: dict[str, str] = {}
        for messages in error.messages_dict.values():  # by location: json, query, …
            fields |= islice(_flattened(messages), _MOST_SENTENCES)
        name, sentence = next(iter(fields.items()))
        raise InvalidInput(f"{name}: {sentence}", fields=fields) from error

    def _handle_invalid_json_error(
        self, error: JSONDecodeError | UnicodeDecodeError, *_args: object, **_options: object
    ) -> NoReturn:
        raise _malformed() from error


class PortalBlueprint(flask_smorest.Blueprint):
    """A blueprint that reads arguments with :class:`PortalParser`."""

    ARGUMENTS_PARSER = PortalParser()


class ConditionsConverter(OpenAPIConverter):
    """Adds a schema's conditions on several fields (``Meta.conditions``) to its JSON Schema."""

    def schema2jsonschema(self, schema: ma.Schema | type[ma.Schema]) -> dict[str, Any]:
        """The JSON Schema of a marshmallow schema."""
        found: dict[str, Any] = super().schema2jsonschema(schema)  # type: ignore[no-untyped-call]
        if conditions := getattr(schema.Meta, "conditions", None):
            found["allOf"] = conditions
        return found


class ConditionsPlugin(MarshmallowPlugin):
    """The marshmallow plugin with :class:`ConditionsConverter`."""

    Converter = ConditionsConverter


class PortalApi(flask_smorest.Api):
    """Requires bearer tokens throughout and leaves errors to :mod:`webapp.errorpages`."""

    ERROR_SCHEMA = ProblemSchema
    DEFAULT_RESPONSE_CONTENT_TYPE = "application/json"

    def __init__(self, app: Flask) -> None:
        super().__init__(
            app,
            spec_kwargs={
                "marshmallow_plugin": ConditionsPlugin(),
                "info": {"description": _DESCRIPTION},
                "security": [{"bearer": []}],
                "servers": [{"url": "/"}],
            },
        )
        self.spec.components.security_scheme("bearer", {"type": "http", "scheme": "bearer"})

    def _register_error_handlers(self) -> None:
        """Register none: flask-smorest's handler would replace the portal's problem documents."""

    def _register_responses(self) -> None:
        """Describe errors as problem documents (RFC 9457)."""
        usual = self.DEFAULT_RESPONSE_CONTENT_TYPE
        self.DEFAULT_RESPONSE_CONTENT_TYPE = _PROBLEM
        try:
            super()._register_responses()
        finally:
            self.DEFAULT_RESPONSE_CONTENT_TYPE = usual

    @public
    def _openapi_json(self) -> Response:
        """The OpenAPI description; public, because it contains no secrets."""
        answer: Response = super()._openapi_json()
        return answer


def _malformed() -> BadRequest:
    return BadRequest(_("The body is not well-formed JSON."))


def _flattened(messages: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Flatten nested messages to pairs of a dotted path and a sentence."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from _flattened(inner, f"{path}.{name}" if path else str(name))
    elif isinstance(messages, list):
        yield path or "_schema", " ".join(map(str, messages))
    else:  # one lazily translated sentence
        yield path or "_schema", str(messages)
