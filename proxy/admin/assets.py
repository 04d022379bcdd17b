"""The page's files, read with this module: they are part of the program."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import resources

from proxy.admin.exchange import Answer, BadRequest

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "webmanifest": "application/manifest+json",
}
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; manifest-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_HEADERS = [("content-security-policy", _POLICY)]


class Assets:
    """Every file below ``proxy/admin/page``, by its path on the admin; ``/`` is ``index.html``."""

    def answer(self, path: str) -> Answer:
        """A file; raises `BadRequest` where there is none."""
        found = _FILES.get("/index.html" if path == "/" else path)
        if found is None:
            raise BadRequest(404, "there is nothing here")
        return found


def _read() -> Iterator[tuple[str, Answer]]:
    for file in resources.files("proxy.admin").joinpath("page").iterdir():
        content_type = _TYPES.get(file.name.rpartition(".")[2])
        if content_type is not None:
            yield f"/{file.name}", Answer(200, file.read_bytes(), content_type, _HEADERS)


_FILES = dict(_read())
