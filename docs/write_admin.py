"""Write ``docs/admin.md`` from the structs of the API: ``python -m docs.write_admin``.

Fields, types and meanings are those of proxy/admin/views.py, meanings from the comments beside the fields.
"""  # noqa: INP001

# ruff: noqa: E501  # prose is wrapped for its own page

from __future__ import annotations

import ast
import inspect
import io
import re
import tokenize
from pathlib import Path

from proxy.admin import views

PAGE = Path(__file__).with_name("admin.md")

BEGINNING = """# The admin address: page, health, API

<!-- Written by `python -m docs.write_admin` from proxy/admin/views.py. Do not edit it here. -->

```yaml
admin:
  bind: 127.0.0.1:7414
  token: "${file:/run/secrets/admin}"
```

Absent, nothing listens. `bind` may be a list, and `unix:/path` is one, too. With that:

| path | who answers what |
|---|---|
| `/` | the page: [watching.md](watching.md) |
| `/livez` | 200 while the program runs |
| `/readyz` | 200 while every listener is open; 503 while it starts or drains |
| `/metrics` | [metrics.md](metrics.md) |
| `/api/v1/…` | JSON, below |

In a terminal the same is

```sh
tfo-proxy status --admin unix:/run/tfo-proxy/admin.sock
tfo-proxy top --once --admin unix:/run/tfo-proxy/admin.sock
```

(without `--once` `top` is live). With the configuration file instead of `--admin` they find the address there; with neither, they try
`http://127.0.0.1:7414`. The token comes from the file, from `--token-file`, or from `$TFO_PROXY_TOKEN`.

## Who may ask

| from where | reads | orders (POST) |
|---|---|---|
| a unix socket | yes: the file system says who may open it | yes |
| this machine, over TCP | yes | with the token |
| elsewhere, over TCP | `/livez`, `/readyz`, `/metrics` and the page's own files; the rest with the token | with the token |

The token goes into the header `Authorization: Bearer TOKEN`. A `bind` that others can reach needs one, or the proxy does not
start. Without a token orders are taken over a unix socket only: any program of this machine can connect to loopback, and so can
pages in its browsers and whatever a proxy here is asked to connect to. `tfo-proxy reload` and `tfo-proxy drain` work all the same for
root and for the user that the proxy runs as: where the admin takes no order, they send the process a signal, and the kernel checks who may.

A browser can be made to ask for somebody else. So the `Host` header must be an address, `localhost`, or one of `admin.hosts`
(421 otherwise), and pages of other sites are refused (403). Answers to what is wrong are `{"error": …, "do": …}` with 400, 401,
403, 404, 405, 408, 413, 421 or 431.

## Paths of the API
"""

AFTER = """
`GET /api/v1/events` is a stream (`text/event-stream`): one event for each of the first five paths about once a second, the
event's name being the path's last word, and its data the same JSON. A reader that is too slow is let go.

With `curl`, over a unix socket and over TCP:

```sh
curl --unix-socket /run/tfo-proxy/admin.sock http://localhost/api/v1/status
curl --unix-socket /run/tfo-proxy/admin.sock -X POST http://localhost/api/v1/reload
curl -H "Authorization: Bearer $TOKEN" -d '{"level": "debug"}' http://127.0.0.1:7414/api/v1/loglevel
```

## What the bodies hold

Times of day are seconds since 1970 (UTC), durations seconds, sizes bytes. What is not known is null. Fields may be added; none is
renamed or changes its meaning without another version in the path.
"""

PATHS = re.compile(r"^\|.+\|$", re.MULTILINE)


def write() -> str:
    """The whole page."""
    source = inspect.getsource(views)
    table = "\n".join(PATHS.findall(views.__doc__ or "")).replace("``", "`")
    table = re.sub(r"`([A-Z]\w+)`", lambda name: f"[{name[1]}](#{name[1].lower()})", table)
    lines = [BEGINNING, table, AFTER]
    for node in ast.parse(source).body:
        if isinstance(node, ast.ClassDef):
            lines += [f"### {node.name}", "", ast.get_docstring(node) or "", *_fields(node, source), ""]
    return "\n".join(lines).rstrip() + "\n"


def _fields(node: ast.ClassDef, source: str) -> list[str]:
    fields = [one for one in node.body if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)]
    if not fields:
        return []
    notes = _comments(source)
    rows = ["", "| field | type | meaning |", "|---|---|---|"]
    for field in fields:
        assert isinstance(field.target, ast.Name)
        lines = range(field.lineno, (field.end_lineno or field.lineno) + 1)
        note = " ".join(notes[line] for line in lines if line in notes)
        kind = ast.unparse(field.annotation).replace(" | None", " or null").replace("|", "or")
        rows.append(f"| `{field.target.id}` | {_kind(kind)} | {note.replace('|', chr(92) + '|')} |")
    return rows


def _kind(annotation: str) -> str:
    words = {"str": "text", "int": "number", "float": "number", "bool": "true or false"}
    text = re.sub(r"dict\[str, (\w+)\]", lambda m: f"{words.get(m[1], m[1])}s by name", annotation)
    text = re.sub(r"list\[(\w+)\]", lambda m: f"list of {words.get(m[1], m[1])}", text)
    text = re.sub(
        r"Literal\[(.*)\]", lambda m: m[1].replace("'", "").replace(",", ", or").replace("  ", " "), text
    )
    return re.sub(r"\b(str|int|float|bool)\b", lambda m: words[m[1]], text)


def _comments(source: str) -> dict[int, str]:
    """Comments by line."""
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    return {one.start[0]: one.string.lstrip("# ") for one in tokens if one.type == tokenize.COMMENT}


if __name__ == "__main__":
    PAGE.write_text(write(), encoding="utf-8")
