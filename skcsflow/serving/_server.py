"""The service in a process of its own."""

import signal
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import uvicorn

from skcsflow._checks import warn
from skcsflow.serving._app import create_app
from skcsflow.serving._detectors import Source

__all__ = ["serve"]


def serve(
    detectors: Mapping[str, Source],
    *,
    host: str = "127.0.0.1",
    port: int = 8000,
    api_key: str | None = None,
    max_bytes: int = 32 * 2**20,
    max_pixels: int = 64_000_000,
    max_batch: int = 32,
    max_waiting: int = 64,
    upload_seconds: float = 30.0,
    stop_seconds: float = 30.0,
) -> None:
    """Serve detectors over HTTP until Ctrl-C or SIGTERM.

    Then no more connections are taken, requests that are under way are answered, and the function returns.

    Parameters
    ----------
    detectors : mapping of str to path or CSFlowDetector
        Detectors by name, see :func:`create_app`.
    host : str, default="127.0.0.1"
        Address to listen at; by default only this machine can reach it. Connections aren't encrypted: leave that to a
        reverse proxy.
    port : int, default=8000
        Port to listen at; 0: any that is free, which the log says.
    api_key, max_bytes, max_pixels, max_batch, max_waiting, upload_seconds
        As of :func:`create_app`.
    stop_seconds : float, default=30
        Time that requests under way have at the end.

    Raises
    ------
    OSError, TypeError, ValueError
        As :func:`create_app` does.
    SystemExit
        Where it can't listen at the address; the log says why.

    Warns
    -----
    UserWarning
        Where others can reach it, and there is no API key.
    """
    if host not in ("127.0.0.1", "::1", "localhost") and api_key is None:
        warn(
            f"host={host!r} can be reached from other machines, and api_key is None: whoever reaches it may use it."
        )
    app = create_app(
        detectors,
        api_key=api_key,
        max_bytes=max_bytes,
        max_pixels=max_pixels,
        max_batch=max_batch,
        max_waiting=max_waiting,
        upload_seconds=upload_seconds,
    )
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        access_log=False,  # a line for each image; /metrics has the figures
        timeout_keep_alive=65,  # clients close first: a request on a connection that is being closed is lost
        timeout_graceful_shutdown=max(1, round(stop_seconds)),
    )
    with _signals_end_quietly():
        uvicorn.Server(config).run()


@contextmanager
def _signals_end_quietly() -> Iterator[None]:
    """Uvicorn raises the signal that has stopped it again: that would end the process by it, and not return."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: None) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
