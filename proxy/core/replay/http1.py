"""HTTP/1: the head of a GET, HEAD, OPTIONS or TRACE without a body (RFC 9110, 9.2.1; RFC 9112).

Decisions:

* A pipelined second request waits: it is not part of the prefix, whatever it is.
* A head not all there counts as far as it has come, from the first byte of its target on. A header still to
  come may announce a body, but no server acts before the head ends, and the copy of a SYN brings no more.
* `GET http://…`, as sent to a proxy, is as safe as `GET /…`. CONNECT opens a tunnel: 0.
* `Upgrade` is 0: what is spoken after it is not HTTP, and may act at once (Kubernetes runs commands in pods
  by a GET that upgrades). Only `h2c` passes: the request is still answered as the GET it is (RFC 7540, 3.2).
* `Expect`, and headers that make another method of this one, are 0. So is any body, even an empty chunked.
* Grammar is strict: CRLF, no folded lines, no spaces before the colon, visible ASCII in the target. Servers
  that forgive such things may see another request than we do.
"""

from __future__ import annotations

import re

__all__ = ["FIRST_BYTES", "safe_length"]

FIRST_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ"

_HARMLESS = {b"content-length": b"0", b"upgrade": b"h2c"}

_TOKEN = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
_VALUE = rb"[\t\x20-\x7e\x80-\xff]"
_SAFE = rb"(?:(?:GET|HEAD|OPTIONS|TRACE) (?:/|https?://[!-~])[!-~]*|OPTIONS \*)"

_any_request_line = re.compile(rb"[A-Z]{2,16} [!-~]+ HTTP/1\.[01]\r\n").match
_request_line = re.compile(_SAFE + rb" HTTP/1\.[01]\r\n").match
_partial_request_line = re.compile(
    _SAFE + rb"(?: (?:H(?:T(?:T(?:P(?:/(?:1(?:\.(?:[01]\r?)?)?)?)?)?)?)?)?)?\Z"
).match
_fields = re.compile(rb"(?:" + _TOKEN + rb"+:" + _VALUE + rb"*\r\n)*").match
_partial_field = re.compile(_TOKEN + rb"*(?:(?<!\n):" + _VALUE + rb"*)?\r?\Z").match
_dangers = re.compile(
    rb"\n(content-length|transfer-encoding|upgrade|expect|x-http-method(?:-override)?|x-method-override)"
    rb":([^\r\n]*)(\r(?=\n))?",
    re.IGNORECASE,
).findall


def safe_length(early: bytes) -> int | None:
    """The first request's head if it is safe, else 0; `None` if these bytes are no HTTP/1 request."""
    line = _request_line(early)
    if line is None:
        if _partial_request_line(early):
            return len(early)
        return 0 if _any_request_line(early) else None
    fields = _fields(early, line.end())
    end = fields.end() if fields else line.end()
    ending = early[end : end + 2]
    if ending == b"\r\n":
        head = early[: end + 2]
    elif _partial_field(early, end):
        head = early
    else:
        return 0
    return len(head) if all(_is_harmless(*danger) for danger in _dangers(head)) else 0


def _is_harmless(name: bytes, value: bytes, ending: bytes) -> bool:
    """Does this field ask for nothing, or may it still turn out so while its line is unfinished?"""
    harmless = _HARMLESS.get(name.lower())
    value = value.strip(b" \t").lower()
    return harmless is not None and (value == harmless or (not ending and harmless.startswith(value)))
