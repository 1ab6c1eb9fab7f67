"""Follow a piece of work from the request to its result: ids for logs, spans for a collector.

A request gets an id, which its messages carry on to the worker, so that the logs of all processes
can be put together. Where SULCUS_OTLP_ENDPOINT is set, spans go to a collector as well. Ids and
spans hold rules of addresses, names of tasks and random ids, never what a request is about; so
the instrumentation packages for Flask and Celery, which record addresses and arguments, are not
used.
"""

import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from functools import wraps
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from flask import Flask, Response, current_app, g, has_app_context, request

from config import VERSION, Settings

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Tracer

REQUEST_ID = "request_id"
"""Name of the id of a request: in logs and in the headers of messages."""
TRACEPARENT = "traceparent"
"""Header of requests and messages (W3C Trace Context)."""
REQUEST_ID_HEADER = "X-Request-ID"
ENVIRONMENT_KEY = "sulcus.request"
"""Key of the WSGI environment, for the access log."""
_KNOWN_ID = re.compile(r"[0-9a-f]{32}|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_NOT_TRACED = frozenset({"static", "monitoring.healthz", "monitoring.readyz", "monitoring.metrics"})
_TRACER = "tracer"
_PROVIDER = "tracer_provider"

Given = ParamSpec("Given")
Found = TypeVar("Found")

_ids: ContextVar[Mapping[str, str]] = ContextVar("sulcus_ids", default=MappingProxyType({}))


def init_app(app: Flask, settings: Settings) -> None:
    """Give every request an id, and spans where they are wanted."""
    if settings.otlp_endpoint:
        provider = _make_provider(settings.otlp_endpoint)
        app.extensions[_PROVIDER] = provider
        app.extensions[_TRACER] = provider.get_tracer("sulcus", VERSION)
    app.before_request(_begin)
    app.after_request(_name_answer)
    app.teardown_request(_end)


def ids() -> Mapping[str, str]:
    """The ids of the work at hand, by name, for logs."""
    return _ids.get()


@contextmanager
def identified(**further: str | None) -> Iterator[None]:
    """Add ids to all logs inside the block."""
    token = _ids.set(
        {**_ids.get(), **{name: value for name, value in further.items() if value is not None}}
    )
    try:
        yield
    finally:
        _ids.reset(token)


@contextmanager
def span(
    name: str, *, kind: str = "INTERNAL", parent: str | None = None, **facts: Any
) -> Iterator[Any]:
    """A span around the block; nothing where spans are not wanted.

    Args:
        kind: of OpenTelemetry's ``SpanKind``.
        parent: the ``traceparent`` that it goes on from; by default the span around it.
        facts: attributes, with ``_`` for ``.``; never what a patient could be known by.

    Yields:
        The span, or None.
    """
    tracer: Tracer | None = current_app.extensions.get(_TRACER) if has_app_context() else None
    if tracer is None:
        yield None
        return
    from opentelemetry.trace import SpanKind, StatusCode

    attributes = {key.replace("_", "."): value for key, value in facts.items() if value is not None}
    with (
        tracer.start_as_current_span(
            name,
            context=_context_of(parent),
            kind=SpanKind[kind],
            attributes=attributes,
            # Texts of exceptions quote the data that could not be read.
            record_exception=False,
            set_status_on_exception=False,
        ) as current,
        identified(trace_id=f"{current.get_span_context().trace_id:032x}"),
    ):
        try:
            yield current
        except Exception as error:
            current.set_attribute("error.type", type(error).__qualname__)
            current.set_status(StatusCode.ERROR)
            raise


def traced(name: str) -> Callable[[Callable[Given, Found]], Callable[Given, Found]]:
    """A span around every call of a function."""

    def decorate(function: Callable[Given, Found]) -> Callable[Given, Found]:
        @wraps(function)
        def call(*args: Given.args, **kwargs: Given.kwargs) -> Found:
            with span(name):
                return function(*args, **kwargs)

        return call

    return decorate


def message_headers() -> dict[str, str]:
    """What a message takes along, so that its task goes on from here."""
    headers = {}
    if request_id := ids().get(REQUEST_ID):
        headers[REQUEST_ID] = request_id
    if has_app_context() and _TRACER in current_app.extensions:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        TraceContextTextMapPropagator().inject(headers)
    return headers


@contextmanager
def working(task: str, headers: Mapping[str, Any], job: str | None) -> Iterator[None]:
    """Inside the block a task of this name goes on from what its message took along."""
    with (
        identified(request_id=headers.get(REQUEST_ID), job=job, task=task),
        span(
            task,
            kind="CONSUMER",
            parent=headers.get(TRACEPARENT),
            sulcus_task=task,
            sulcus_job=job,
            sulcus_request=headers.get(REQUEST_ID),
        ),
    ):
        yield


def flush() -> None:
    """Send what has not been sent; call it when a process ends."""
    provider = current_app.extensions.get(_PROVIDER)
    if provider is not None:
        provider.force_flush()


def _begin() -> None:
    # From a proxy, but only if it looks like a random id: a client may write anything there.
    given = request.headers.get(REQUEST_ID_HEADER, "").lower()
    g.request_id = given if _KNOWN_ID.fullmatch(given) else uuid.uuid4().hex
    request.environ[ENVIRONMENT_KEY] = g.request_id
    g.tracing = stack = ExitStack()
    stack.enter_context(identified(request_id=g.request_id))
    if request.endpoint in _NOT_TRACED:
        return
    rule = request.url_rule.rule if request.url_rule else "(no such address)"
    method = request.method if request.url_rule else "other"
    g.request_span = stack.enter_context(
        span(
            f"{method} {rule}",
            kind="SERVER",
            parent=request.headers.get(TRACEPARENT),
            http_request_method=method,
            http_route=rule,
            sulcus_request=g.request_id,
        )
    )


def _name_answer(response: Response) -> Response:
    if "request_id" in g:
        response.headers[REQUEST_ID_HEADER] = g.request_id
    if (current := g.get("request_span")) is not None:
        current.set_attribute("http.response.status_code", response.status_code)
        if response.status_code >= 500:
            from opentelemetry.trace import StatusCode

            current.set_status(StatusCode.ERROR)
    return response


def _end(_error: BaseException | None) -> None:
    if (stack := g.pop("tracing", None)) is not None:
        stack.close()


def _context_of(parent: str | None) -> Any:
    if parent is None:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    # Without tracestate and baggage, which are free text.
    return TraceContextTextMapPropagator().extract({TRACEPARENT: parent})


def _make_provider(endpoint: str) -> "TracerProvider":
    """Batches go to the collector in a thread; a collector that is away loses them."""
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor

    # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES are read by the library.
    resource = Resource({"service.name": "sulcus"}).merge(
        Resource.create({"service.version": VERSION})
    )
    provider = TracerProvider(resource=resource)
    exporter = OTLPSpanExporter(endpoint=f"{endpoint}/v1/traces", timeout=5)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    return provider
