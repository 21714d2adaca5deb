"""The service: requests in, answers out."""

import asyncio
import hmac
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from time import perf_counter
from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, HTTPException, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)

from skcsflow._version import __version__
from skcsflow.serving._answers import Answer, describe
from skcsflow.serving._batches import Batches
from skcsflow.serving._detectors import Detectors, Source
from skcsflow.serving._inspecting import Unreadable
from skcsflow.serving._uploads import check_image, read_image_bytes

__all__ = ["create_app"]

_BODY = {
    "required": True,
    "content": {
        "image/*": {"schema": {"type": "string", "format": "binary"}},
        "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        "multipart/form-data": {
            "schema": {"type": "object", "properties": {"image": {"type": "string", "format": "binary"}}}
        },
        "application/json": {
            "schema": {
                "type": "object",
                "required": ["image"],
                "properties": {"image": {"type": "string", "format": "byte"}},
            }
        },
    },
}
"""What may be posted, for the description of the service: the handler reads it itself, within limits."""

_REFUSALS: dict[int | str, dict[str, Any]] = {
    400: {"description": "What was sent is no image that the detector takes."},
    401: {"description": "The API key is missing or wrong."},
    404: {"description": "There is no detector of this name."},
    408: {"description": "The upload took too long."},
    413: {"description": "Too many bytes or pixels."},
    415: {"description": "Sent in a form that isn't taken."},
    503: {"description": "Too many requests are under way. Try again, after the seconds of Retry-After."},
}


class _Metrics:
    """Figures for Prometheus, of one application."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "skcsflow_requests",
            "Requests to inspect, by the detector and the status of the answer.",
            ["detector", "status"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "skcsflow_request_seconds",
            "Time from a request's header to its answer.",
            ["detector"],
            registry=self.registry,
            buckets=(0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
        )
        self.labels = Counter(
            "skcsflow_labels",
            "Images by the detector and what it called them: 1, or -1 where anomalous.",
            ["detector", "label"],
            registry=self.registry,
        )
        self.batch_size = Histogram(
            "skcsflow_batch_size",
            "Images that were inspected together.",
            registry=self.registry,
            buckets=(1, 2, 4, 8, 16, 32, 64),
        )
        self.under_way = Gauge(
            "skcsflow_requests_under_way",
            "Requests to inspect that have no answer yet.",
            registry=self.registry,
        )
        self.reloads = Counter(
            "skcsflow_reloads", "Reloads, by whether they succeeded.", ["succeeded"], registry=self.registry
        )


class _Service:
    """What the handlers share."""

    def __init__(
        self,
        detectors: Detectors,
        *,
        max_bytes: int,
        max_pixels: int,
        max_batch: int,
        max_waiting: int,
        upload_seconds: float,
    ) -> None:
        self.detectors = detectors
        self.max_bytes = max_bytes
        self.max_pixels = max_pixels
        self.max_waiting = max_waiting
        self.upload_seconds = upload_seconds
        self.metrics = _Metrics()
        self.batches = Batches(max_batch, self.metrics.batch_size.observe)
        self.n_under_way = 0  # counted in the event loop alone
        self.metrics.under_way.set_function(lambda: self.n_under_way)

    async def inspect(
        self, request: Request, name: str | None, *, min_area: int, with_map: bool, with_mask: bool
    ) -> Answer:
        """Answer a request."""
        names = self.detectors.names()
        if name is None or name not in names:
            wrong = "Several detectors are served" if name is None else f"There is no detector {name!r}"
            raise HTTPException(404, f"{wrong}: post to one of {', '.join(f'/inspect/{n}' for n in names)}.")
        with self._admitted():
            image = await read_image_bytes(request, self.max_bytes, self.upload_seconds)
            await run_in_threadpool(check_image, image, self.max_pixels)
            # Looked up now and kept: a reload doesn't change what is under way.
            detector = self.detectors[name].detector
            try:
                found = await asyncio.wrap_future(self.batches.submit(detector, image))
            except Unreadable as error:
                raise HTTPException(400, str(error)) from error
            answer = await run_in_threadpool(
                describe, name, detector, found, min_area=min_area, with_map=with_map, with_mask=with_mask
            )
        self.metrics.labels.labels(name, str(answer.label)).inc()
        return answer

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """A place among the requests under way. They are counted before they are read: so memory is bounded.

        Of who is refused uvicorn throws away what still comes, so that also clients which don't listen while they send
        find their answer.
        """
        if self.n_under_way >= self.max_waiting:
            raise HTTPException(
                503,
                f"{self.n_under_way} requests are under way, and no more are taken. Try again.",
                headers={"Retry-After": "1"},
            )
        self.n_under_way += 1
        try:
            yield
        finally:
            self.n_under_way -= 1

    @contextmanager
    def counted(self, name: str | None) -> Iterator[None]:
        """Count a request by its status; names that don't exist as one."""
        label = name if name is not None and name in self.detectors.names() else ""
        start, status = perf_counter(), 500
        try:
            yield
            status = 200
        except HTTPException as error:
            status = error.status_code
            raise
        finally:
            self.metrics.requests.labels(label, str(status)).inc()
            self.metrics.seconds.labels(label).observe(perf_counter() - start)


def create_app(
    detectors: Mapping[str, Source],
    *,
    api_key: str | None = None,
    max_bytes: int = 32 * 2**20,
    max_pixels: int = 64_000_000,
    max_batch: int = 32,
    max_waiting: int = 64,
    upload_seconds: float = 30.0,
) -> FastAPI:
    """Make an ASGI application that inspects images.

    ``POST /inspect/{name}`` takes one image and answers with what the detector of that name says; ``POST /inspect``
    does where there is only one. ``GET /detectors`` lists them, ``POST /reload`` loads their files again, ``GET
    /metrics`` has figures for Prometheus, and ``GET /health`` says that the service runs. See :doc:`/serving`.

    Parameters
    ----------
    detectors : mapping of str to path or CSFlowDetector
        Detectors by name: a file that skops (``.skops``) or joblib has written, or a fitted detector, which is copied.
        Those whose backbones have the same weights share one in memory. A joblib file can run any code when it is
        loaded: load only your own.
    api_key : str or None, default=None
        What requests must bring along, as ``Authorization: Bearer <key>``, but for ``/health``. None: nothing.
    max_bytes : int, default=32 MiB
        Size of an image's file, at most.
    max_pixels : int, default=64,000,000
        Pixels of an image, at most. What its header says is checked before it is decoded.
    max_batch : int, default=32
        Images that are inspected together, at most.
    max_waiting : int, default=64
        Requests that are under way at a time. Others are refused with status 503. They hold up to `max_bytes` each.
    upload_seconds : float, default=30
        Time that an upload may take.

    Returns
    -------
    FastAPI
        The application, for uvicorn or another ASGI server, in one process.

    Raises
    ------
    OSError, TypeError, ValueError
        Where a detector can't be loaded or isn't fitted, a name can't stand in an address, or a limit isn't positive.

    Examples
    --------
    >>> from skcsflow import CSFlowDetector
    >>> from skcsflow.datasets import make_defects
    >>> from skcsflow.serving import create_app
    >>> images = make_defects(n_normal=12, n_defective=0, random_state=0).images
    >>> detector = CSFlowDetector(input_size=64, n_epochs=1, random_state=0).fit(images)
    >>> app = create_app({"tiles": detector}, api_key="a long secret")
    """
    limits = {
        "max_bytes": max_bytes,
        "max_pixels": max_pixels,
        "max_batch": max_batch,
        "max_waiting": max_waiting,
    }
    for limit, value in limits.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{limit} must be an int of at least 1, got {value!r}.")
    if (
        isinstance(upload_seconds, bool)
        or not isinstance(upload_seconds, int | float)
        or not upload_seconds > 0
    ):
        raise ValueError(f"upload_seconds must be a positive number, got {upload_seconds!r}.")
    if api_key is not None and (not isinstance(api_key, str) or not api_key.isascii() or not api_key.strip()):
        raise ValueError("api_key must be a string of ASCII characters that isn't empty, or None.")
    service = _Service(Detectors(detectors), **limits, upload_seconds=float(upload_seconds))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.batches.close)

    app = FastAPI(
        title="skcsflow",
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # these pages would load scripts from elsewhere
        redoc_url=None,
    )
    app.add_exception_handler(RequestValidationError, _in_one_sentence)

    @app.get("/health")
    async def health() -> dict[str, Any]:
        """Say that the service runs."""
        return {"status": "ok", "detectors": service.detectors.names(), "under_way": service.n_under_way}

    app.include_router(_protected(service, api_key))
    return app


def _protected(service: _Service, api_key: str | None) -> APIRouter:
    """All that needs the API key."""
    bearer = HTTPBearer(auto_error=False, description="The API key, where the service has one.")

    def check_key(given: Annotated[HTTPAuthorizationCredentials | None, Depends(bearer)]) -> None:
        if api_key is None:
            return
        key = given.credentials if given else ""
        # In constant time, which says nothing of how much of a guess is right.
        if not hmac.compare_digest(key.encode(), api_key.encode()):
            raise HTTPException(
                401,
                "The API key is missing or wrong. Send it as Authorization: Bearer <key>.",
                headers={"WWW-Authenticate": "Bearer"},
            )

    router = APIRouter(dependencies=[Depends(check_key)])

    @router.post("/inspect", openapi_extra={"requestBody": _BODY}, responses=_REFUSALS)
    @router.post("/inspect/{name}", openapi_extra={"requestBody": _BODY}, responses=_REFUSALS)
    async def inspect(
        request: Request,
        name: str | None = None,
        min_area: Annotated[int, Query(ge=1)] = 1,
        map: bool = False,
        mask: bool = False,
    ) -> Answer:
        """Inspect one image."""
        if name is None and len(names := service.detectors.names()) == 1:
            (name,) = names
        with service.counted(name):
            return await service.inspect(request, name, min_area=min_area, with_map=map, with_mask=mask)

    @router.get("/detectors")
    async def detectors() -> dict[str, dict[str, Any]]:
        """List the detectors."""
        return {
            name: {
                "file": served.file,
                "loaded": served.loaded,
                "threshold": float(served.detector.offset_),
                "map_threshold": float(served.detector.map_threshold_),
                "is_calibrated": hasattr(served.detector, "calibration_scores_"),
                "input_size": list(served.detector.model_.input_size),
            }
            for name, served in service.detectors.items()
        }

    @router.post("/reload")
    async def reload() -> dict[str, list[str]]:
        """Load the detectors' files again, and answer when the new ones are in service."""
        try:
            names = await run_in_threadpool(service.detectors.reload)
        except (OSError, TypeError, ValueError) as error:
            service.metrics.reloads.labels("no").inc()
            raise HTTPException(
                409, f"Nothing was reloaded, and the old detectors serve on. {error}"
            ) from error
        service.metrics.reloads.labels("yes").inc()
        return {"reloaded": names}

    @router.get("/metrics")
    async def metrics() -> Response:
        """Figures for Prometheus."""
        return Response(generate_latest(service.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    return router


async def _in_one_sentence(request: Request, error: Exception) -> JSONResponse:
    """Refuse parameters of an address by a sentence, as all else is."""
    assert isinstance(error, RequestValidationError)
    wrong = (f"{e['loc'][-1]}={e.get('input')!r}: {e['msg']}" for e in error.errors())
    return JSONResponse({"detail": f"The address can't be read: {'; '.join(wrong)}."}, status_code=422)
