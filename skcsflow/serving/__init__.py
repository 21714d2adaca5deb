"""A detector on the line: a service that answers over HTTP, and a watch over a folder of images."""

try:
    from skcsflow.serving._app import create_app
    from skcsflow.serving._server import serve
    from skcsflow.serving._watch import watch
except ModuleNotFoundError as error:
    if (error.name or "").startswith("skcsflow"):
        raise
    raise ModuleNotFoundError(
        f'skcsflow.serving needs the package {error.name!r}: pip install "skcsflow[serve]"', name=error.name
    ) from error

__all__ = ["create_app", "serve", "watch"]
