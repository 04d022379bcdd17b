"""Write ``docs/configuration.md`` from the schema: ``python -m docs.write_configuration``.

Keys, what may be written, defaults and meanings come from `proxy.config.schema`; the words around them and an example
for each section stand here. A section without an example, or an example without a section, is an error.
"""  # noqa: INP001

# ruff: noqa: E501  # prose is wrapped for its own page

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, cast

from msgspec import inspect as shapes

from proxy.config.fill import meaning, shape_of, shorthand
from proxy.config.scalars import Scalar
from proxy.config.schema import Config

PAGE = Path(__file__).with_name("configuration.md")

BEGINNING = """# The configuration file, key by key

<!-- Written by `python -m docs.write_configuration` from proxy/config/schema.py. Do not edit it here. -->

One YAML file. It is checked whole before anything is touched, and every mistake is told at once, with its line and
column:

```sh
tfo-proxy check config.example.yaml
tfo-proxy show config.example.yaml
tfo-proxy schema
```

`check` says whether a file is good, `show` prints it with every default filled in and every secret hidden, and `schema`
prints a JSON Schema: save it, begin your file with `# yaml-language-server: $schema=schema.json`, and an editor helps.
[config.example.yaml](../config.example.yaml) shows every key, too. The smallest useful file is:

```yaml
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: "api.example.com:443"}
```

## How values are written

| kind | how | mind |
|---|---|---|
| yes or no | `true`, `false` | YAML 1.2: `on`, `yes` and `off` are words, not booleans |
| a time | `250ms`, `5s`, `2m`, `1h`, `1h30m` | never without a unit |
| a size | `1200`, `64KiB`, `1MiB` | bytes |
| a rate | `100/s`, `30/m`, `500/h` | |
| an address | `127.0.0.1:8080`, `"[::1]:8080"`, `"*:8080"`, `unix:/run/x.sock` | quote what begins with `[` or `*` |
| a network | `10.0.0.0/8`, `2001:db8::/32`, `loopback`, `private`, `link_local`, `metadata` … | |
| a list | `[a, b]`, or one value alone | |
| a secret | `"${file:/run/secrets/x}"` | the file's text without the last line end |
| from the environment | `${NAME}`, `${NAME:-default}`, `${env:NAME}` | not set and no default is a mistake |
| a dollar | `$$` | |

A file changes while the proxy runs? It is read again as [operations.md](operations.md#reload) says: all of it or nothing.
"""

TOP = """## The top level

What is not in a section of its own:
"""

# Where a section is → what is to be said about it beyond the schema, and an example that is a whole file.
WORDS = {
    "listeners.NAME": """\
`bind` and `mode` must be said.

| `mode` | clients say where to |
|---|---|
| `forward` | not at all: every session goes to `to` |
| `socks`, `http`, `mixed` | by SOCKS 4, 4a or 5; by CONNECT or a plain `http://` request; by either |
| `sni` | by the name in their TLS hello; `to` takes those without one |
| `transparent`, `tproxy` | by dialling it: REDIRECT or TPROXY rules bring them here ([transparent.md](transparent.md)) |
| `tunnel` | another tfo-proxy says it for them |

A listener on which others can come in, and whose clients name the destination, must say who: `allow`, or `users`. An open
proxy by accident is refused at the start.
""",
    "listeners.NAME.timeouts": "All of them end a session with a reason of their own in the log.",
    "listeners.NAME.limits": "What these turn away is counted, and said once a second at the most. For all listeners together"
    " there is the same section at the top level.",
    "listeners.NAME.tls": "Only for mode `tunnel`. A `key` alone costs no round trip.",
    "clusters.NAME": """\
`endpoints` must be said. Every key but that one may stand in `defaults` too, for all clusters and for what clients name themselves.

`fast_open` and `replay` decide what rides in a SYN:

| | |
|---|---|
| `fast_open: auto` | learn for each endpoint what its path does, and dial plainly where Fast Open does not work |
| `fast_open: always` | also where the server is so near that nothing can be saved |
| `fast_open: off` | never; neither data nor option nor cookie |
| `replay: safe` | only first bytes that may safely arrive twice ([security.md](security.md#bytes-that-arrive-twice)) |
| `replay: any` | all first bytes: say it only of servers that do not mind |
| `replay: none` | no first bytes; the empty fast open, which carries none, is still used |
""",
    "clusters.NAME.endpoints": "One or a list of `host:port` or `unix:/path`; names are looked up for each dial."
    " `srv:_https._tcp.example.com` asks DNS for SRV records (needs the extra `dns`), `file:endpoints.yaml` is a file with such"
    " a list, read again when it changes. With a weight an endpoint is written as a mapping:",
    "clusters.NAME.connect": "",
    "clusters.NAME.keepalive": "`keepalive: off` switches it off.",
    "clusters.NAME.eject": "",
    "clusters.NAME.health": "Off unless the section is there.",
    "clusters.NAME.via": "One of `socks`, `http` and `tunnel`. Names are looked up by the gateway.",
    "clusters.NAME.via.tls": "Only for a tunnel whose far end has `tls`.",
    "clusters.NAME.source": "`source: 192.0.2.5` is short for `source: {address: 192.0.2.5}`.",
    "routes": "For listeners whose clients name the destination (`socks`, `http`, `mixed`, `sni`, `transparent`, `tproxy`)."
    " `tfo-proxy check FILE --route HOST:PORT` says which rule takes a destination.",
    "routes.match": "All that is said must hold, and of a list one. Nothing said: always.",
    "direct": "Checked after DNS, on the address that is really dialled.",
    "dns": "",
    "log": "Fields and events: [log.md](log.md).",
    "limits": "",
    "login": "How many wrong passwords one client may send before it has to wait: [security.md](security.md#where-clients-may-go).",
    "admin": "Metrics, the page, the API. Without the section nothing listens.",
}

EXAMPLES = {
    "listeners.NAME": """\
listeners:
  office:
    bind: ["127.0.0.1:1080", "[::1]:1080"]
    mode: socks
  gateway:
    bind: "*:3128"
    mode: http
    allow: [10.0.0.0/8]
    users: {alice: "${file:/run/secrets/alice}"}
""",
    "listeners.NAME.timeouts": """\
listeners:
  web:
    bind: 127.0.0.1:8080
    mode: forward
    to: api.example.com:443
    timeouts: {first_bytes: 20ms, idle: 1h, lifetime: none}
""",
    "listeners.NAME.limits": """\
listeners:
  web:
    bind: "*:8080"
    mode: forward
    to: api.example.com:443
    limits: {connections: 10000, per_client: 256, accept_rate: 2000/s, client_rate: 50/s}
""",
    "listeners.NAME.tls": """\
listeners:
  far:
    bind: "*:7413"
    mode: tunnel
    key: "${file:/run/secrets/tunnel}"
    tls: {cert: /etc/tfo-proxy/far.pem}
""",
    "clusters.NAME": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api:
    endpoints: [203.0.113.10:443, api.example.com:443]
    balance: least_connections
    syn_data: 1200
    preconnect: auto
""",
    "clusters.NAME.endpoints": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api:
    endpoints:
      - {address: 203.0.113.10:443, weight: 3}
      - 203.0.113.11:443
""",
    "clusters.NAME.connect": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api: {endpoints: api.example.com:443, connect: {timeout: 3s, retries: 1}, hedge: 300ms}
""",
    "clusters.NAME.keepalive": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api: {endpoints: api.example.com:443, keepalive: {idle: 1m, interval: 15s, count: 4}}
""",
    "clusters.NAME.eject": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api: {endpoints: [203.0.113.10:443, 203.0.113.11:443], eject: {after: 5, time: 30s, most: 50}}
""",
    "clusters.NAME.health": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api: {endpoints: [203.0.113.10:443, 203.0.113.11:443], health: {every: 5s, timeout: 1s}}
""",
    "clusters.NAME.via": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api: {endpoints: api.example.com:443, via: {socks: "user:password@gw.example.com:1080"}}
""",
    "clusters.NAME.via.tls": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api:
    endpoints: api.example.com:443
    via: {tunnel: "gw.example.com:7413", key: "${file:/run/secrets/tunnel}", tls: {name: gw.example.com}}
""",
    "clusters.NAME.source": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: api}
clusters:
  api: {endpoints: api.example.com:443, source: {interface: eth1}}
""",
    "routes": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed}
clusters:
  api: {endpoints: [203.0.113.10:443]}
routes:
  - match: {host: "*.internal.example.com", port: [443, 8000-8100]}
    to: api
  - match: {network: private}
    refuse: private networks are off limits
  - to: direct
""",
    "routes.match": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed, users: {alice: "${file:/run/secrets/alice}"}}
routes:
  - match: {user: alice, listener: office, client: loopback, sni: "*.example.com"}
    to: direct
  - refuse: only alice, and only there
""",
    "direct": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed}
direct: {deny: [loopback, link_local, unspecified, multicast, broadcast, metadata, own, private], allow: [10.1.2.3/32]}
""",
    "dns": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed}
dns: {ttl: 1m, stale: 1h, family: ipv4}
""",
    "log": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed}
log: {level: warning, format: json, sessions: false}
""",
    "login": """\
listeners:
  office: {bind: "192.0.2.1:1080", mode: mixed, users: {alice: "${file:/run/secrets/alice}"}}
login: {attempts: 10, longest_wait: 5s}
""",
    "limits": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed}
limits: {connections: 50000, per_client: 1000}
""",
    "admin": """\
listeners:
  office: {bind: "127.0.0.1:1080", mode: mixed}
admin: {bind: [127.0.0.1:7414, "unix:/run/tfo-proxy/admin.sock"], token: "${file:/run/secrets/admin}"}
""",
    "": """\
listeners:
  web: {bind: "127.0.0.1:8080", mode: forward, to: "api.example.com:443"}
state: /var/lib/tfo-proxy/state.json
tfo_keys: "${file:/run/secrets/tfo}"
drain: 1m
""",
}


class Part(NamedTuple):
    """A section of the file: where it stands, and its struct."""

    path: str
    shape: shapes.StructType


def parts() -> list[Part]:
    """Every section, in the order of the file; one that stands in several places, where it is met first."""
    return list(_below("", shape_of(Config), set()))


def _below(path: str, shape: shapes.StructType, seen: set[type]) -> Iterator[Part]:
    for key in shape.fields:
        for inner, suffix in _structs(key.type):
            where = f"{path}.{key.name}{suffix}" if path else f"{key.name}{suffix}"
            if path == "" and key.name == "defaults":
                continue
            if inner.cls in seen and not where.endswith((".tls", "limits")):
                continue
            seen.add(inner.cls)
            yield Part(where, inner)
            yield from _below(where, inner, seen)


def _structs(shape: shapes.Type) -> Iterator[tuple[shapes.StructType, str]]:
    """The sections that a value of this shape may be, and what is written after the key."""
    match shape:
        case shapes.Metadata():
            yield from _structs(shape.type)
        case shapes.UnionType():
            for one in shape.types:
                yield from _structs(one)
        case shapes.DictType():
            yield from ((inner, f".NAME{suffix}") for inner, suffix in _structs(shape.value_type))
        case shapes.VarTupleType():
            yield from _structs(shape.item_type)
        case shapes.StructType():
            yield shape, ""
        case _:
            return


def write() -> str:
    """The whole page. Raises ValueError where words or an example are missing, or left over."""
    found = parts()
    paths = {part.path for part in found}
    if paths != WORDS.keys() or paths | {""} != EXAMPLES.keys():
        raise ValueError(
            f"mend WORDS and EXAMPLES: {sorted(paths ^ WORDS.keys())} {sorted(paths ^ EXAMPLES.keys())}"
        )
    lines = [BEGINNING, TOP, *_table(shape_of(Config), plain=True), "", *_example("")]
    for part in found:
        depth = "##" if part.path.count(".") <= part.path.count("NAME") else "###"
        lines += ["", f"{depth} {_title(part.path)}", ""]
        said = "\n\n".join(text for text in (_said(part.shape), WORDS[part.path].rstrip()) if text)
        lines += [said, "", *_table(part.shape), "", *_example(part.path)]
    return "\n".join(lines).rstrip() + "\n"


def _title(path: str) -> str:
    return path.replace(".NAME", "").replace(".", ": ") if path.count(".") else path


def _said(shape: shapes.StructType) -> str:
    return (shape.cls.__doc__ or "").partition("\n")[0]


def _example(path: str) -> list[str]:
    return ["```yaml", EXAMPLES[path].rstrip(), "```"]


def _table(shape: shapes.StructType, *, plain: bool = False) -> list[str]:
    """A row for each key. With ``plain`` only those that are no section."""
    keys = [key for key in shape.fields if not (plain and next(_structs(key.type), None))]
    rows = [
        f"| `{key.name}` | {_default(key)} | {_written(key.type)} | {_meaning(key.type)} |" for key in keys
    ]
    return ["| key | default | what is written | what it means |", "|---|---|---|---|", *rows]


def _default(key: shapes.Field) -> str:
    default: object = key.default
    if key.required:
        return "must be said"
    if isinstance(default, Scalar):
        default = cast("Scalar[object]", default).plain()
    if default is None:
        return "none"
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if isinstance(default, tuple):
        words = ", ".join(f"`{one}`" for one in cast("tuple[object, ...]", default))
        return words or "none"
    return f"`{default}`" if isinstance(default, str | int | float) else ""


def _written(shape: shapes.Type) -> str:
    inner = next(_structs(shape), None)
    if _is_mapping(shape):
        return "names, and a value for each"
    if inner is None:
        return meaning(shape).removeprefix("write ").replace("|", "\\|")
    short = shorthand(inner[0])
    if short is not None:
        return f"{meaning(short.type).removeprefix('write ')}; or a section"
    return "a section" if _is_whole(shape) else "a section, or `off`"


def _is_mapping(shape: shapes.Type) -> bool:
    match shape:
        case shapes.Metadata():
            return _is_mapping(shape.type)
        case shapes.UnionType():
            return any(isinstance(one, shapes.DictType) for one in shape.types)
        case _:
            return isinstance(shape, shapes.DictType)


def _is_whole(shape: shapes.Type) -> bool:
    """Whether nothing but a section may stand there."""
    match shape:
        case shapes.Metadata():
            return _is_whole(shape.type)
        case shapes.UnionType():
            return not any(isinstance(one, shapes.LiteralType) for one in shape.types)
        case _:
            return True


def _meaning(shape: shapes.Type) -> str:
    if not isinstance(shape, shapes.Metadata):
        return ""
    extra = cast("dict[str, object]", shape.extra_json_schema or {})  # pyright: ignore[reportUnknownMemberType]
    return str(extra.get("description", "")).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(write(), encoding="utf-8")
