"""The configuration: a YAML file, command line flags, or both, validated whole and compiled to one `Snapshot`.

``source`` reads YAML into nodes that know their place, ``schema`` says what a file may hold, ``fill`` brings the two
together, ``compile`` turns names into references. Every mistake is reported at once, in file order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from proxy.config import loops
from proxy.config.compile import compile_config
from proxy.config.compose import read_document
from proxy.config.interpolate import files_in
from proxy.config.mistakes import ConfigError, Findings, Mistake, Place, Source, in_order
from proxy.config.nodes import (
    Entry,
    MappingNode,
    Node,
    ScalarNode,
    SequenceNode,
    Tree,
    is_empty,
    scalar_from_flag,
)
from proxy.config.schema import Config
from proxy.config.source import read_source
from proxy.core.snapshot import Snapshot

__all__ = ["ConfigError", "Loaded", "Mistake", "files_of", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be run: ``config`` is the file with every default filled in."""

    path: str | None
    snapshot: Snapshot
    config: Config
    warnings: tuple[Mistake, ...]
    tree: Tree | None = None  # what is written, with its places


def load(
    path: str | None = None,
    *,
    forwards: Iterable[str] = (),
    mixed: Iterable[str] = (),
    admin: str | None = None,
    allow_loopback: bool = False,
    once: bool = False,
) -> Loaded:
    """The configuration of a file, of flags (``forwards`` are ``BIND=TO``, ``mixed`` ``BIND`` each), or of both.

    ``admin`` is a ``BIND`` instead of the file's. ``allow_loopback`` adds loopback to ``direct.allow``: clients may
    name destinations on this machine. ``once``: the file is not going to be read again, so it may be a pipe, and ``-``
    is standard input.

    Raises `ConfigError`, whose text is the whole report; nothing else, whatever the file holds.
    """
    findings = Findings()
    root = MappingNode(Place(Source("the command line", "")))
    if path is not None:
        root = _read(path, findings, once=once)
    root = _with_admin(_with_flags(root, forwards, mixed, findings), admin)
    if allow_loopback:
        root = _with_loopback(root)
    compiled = compile_config(root, findings)
    if not findings.mistakes:
        loops.check(compiled.snapshot.listeners, Tree(root), findings)
    if findings.mistakes:
        raise ConfigError(findings.mistakes)
    return Loaded(path, compiled.snapshot, compiled.config, in_order(findings.warnings), Tree(root))


def files_of(path: str | None) -> tuple[str, ...]:
    """Files that another configuration would come from if they changed: the one at ``path``, and those it refers to.

    Files of endpoints are not among them, as they are read again by themselves. Raises nothing.
    """
    if path is None:
        return ()
    try:
        return (path, *files_in(read_source(path).text))
    except ConfigError:
        return (path,)


def _read(path: str, findings: Findings, *, once: bool) -> MappingNode:
    """The root of the file at ``path``."""
    source = read_source(path, once=once)
    root = read_document(source, findings.mistakes)
    if is_empty(root):
        meant = "write at least one listener below `listeners:`"
        findings.wrong(Place(source, 1, 1), f"the file is empty; {meant}")
    elif isinstance(root, MappingNode):
        return root
    elif root is not None and not (isinstance(root, ScalarNode) and root.broken):
        what = "a list" if isinstance(root, SequenceNode) else "a single value"
        findings.wrong(root.place, f"the file is {what}; it must be a mapping that has `listeners:`")
    raise ConfigError(findings.mistakes)


def _with_flags(
    root: MappingNode, forwards: Iterable[str], mixed: Iterable[str], findings: Findings
) -> MappingNode:
    """``root`` with a forward listener added for each ``BIND=TO``, and a mixed one for each ``BIND``."""
    listeners = root.get("listeners")
    added = listeners if isinstance(listeners, MappingNode) else MappingNode(root.place)
    for text in forwards:
        node = _forward_listener(text, findings)
        if node is not None:
            added = added.with_entry(_free_name("forward", added.entries), Entry(node.place, node))
    for text in mixed:
        node = _mixed_listener(text)
        added = added.with_entry(_free_name("mixed", added.entries), Entry(node.place, node))
    if added is listeners or not added.entries:
        return root
    return root.with_entry("listeners", Entry(root.place, added))


def _with_admin(root: MappingNode, bind: str | None) -> MappingNode:
    """``root`` with ``bind`` as the admin's, for ``--admin BIND``; what else the file says of it stays."""
    if bind is None:
        return root
    node = scalar_from_flag("--admin", bind, 0)
    written = root.get("admin")
    admin = written if isinstance(written, MappingNode) else MappingNode(node.place)
    return root.with_entry("admin", Entry(node.place, admin.with_entry("bind", Entry(node.place, node))))


def _with_loopback(root: MappingNode) -> MappingNode:
    """``root`` with loopback in ``direct.allow``, for ``--allow-loopback``; what else the file says there stays."""
    loopback = scalar_from_flag("--allow-loopback", "loopback", 0)
    written = root.get("direct")
    direct = written if isinstance(written, MappingNode) else MappingNode(loopback.place)
    allowed = direct.get("allow")
    before = allowed.items if isinstance(allowed, SequenceNode) else () if allowed is None else (allowed,)
    nodes = SequenceNode(loopback.place, (*before, loopback))
    return root.with_entry(
        "direct", Entry(loopback.place, direct.with_entry("allow", Entry(loopback.place, nodes)))
    )


def _forward_listener(text: str, findings: Findings) -> MappingNode | None:
    """The listener that ``--forward BIND=TO`` stands for."""
    whole = scalar_from_flag("--forward", text, 0)
    bind, equals, _ = text.partition("=")
    if not equals:
        meant = "write BIND=TO, like 127.0.0.1:8080=example.com:80"
        findings.wrong(whole.place, f"{text!r} has no '='; {meant}")
        return None
    nodes: dict[str, Node] = {
        "bind": scalar_from_flag("--forward", text, 0, len(bind)),
        "mode": replace(whole, value="forward", text="forward"),
        "to": scalar_from_flag("--forward", text, len(bind) + 1),
    }
    return MappingNode(whole.place, {key: Entry(node.place, node) for key, node in nodes.items()})


def _mixed_listener(text: str) -> MappingNode:
    """The listener that ``--mixed BIND`` stands for."""
    bind = scalar_from_flag("--mixed", text, 0)
    nodes: dict[str, Node] = {"bind": bind, "mode": replace(bind, value="mixed", text="mixed")}
    return MappingNode(bind.place, {key: Entry(node.place, node) for key, node in nodes.items()})


def _free_name(stem: str, taken: Iterable[str]) -> str:
    """``stem``, or ``stem-2`` and so on if that is taken."""
    used = set(taken)
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(used) + 2))
    return next(name for name in names if name not in used)
