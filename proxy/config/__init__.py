"""The configuration: a YAML file, command line flags, or both, validated whole and compiled to one `Snapshot`.

``source`` reads YAML into nodes that know their place, ``schema`` says what a file may hold, ``fill`` brings the two
together, ``compile`` turns names into references. Every mistake is reported at once, in file order.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from proxy.config.compile import compile_config
from proxy.config.mistakes import ConfigError, Mistake, Place, Source, in_order
from proxy.config.schema import Config
from proxy.config.source import (
    Entry,
    MappingNode,
    ScalarNode,
    SequenceNode,
    compose,
    read_source,
    scalar_from_flag,
)
from proxy.core.snapshot import Snapshot

__all__ = ["ConfigError", "Loaded", "Mistake", "load"]


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration that can be run: ``config`` is the file with every default filled in."""

    path: str | None
    snapshot: Snapshot
    config: Config
    warnings: tuple[Mistake, ...]


def load(path: str | None = None, *, forwards: Iterable[str] = ()) -> Loaded:
    """The configuration of a file, of flags (``forwards`` are ``BIND=TO`` each), or of both together.

    Raises `ConfigError`, whose text is the whole report; nothing else, whatever the file holds.
    """
    mistakes: list[Mistake] = []
    root = _read(path, mistakes) if path is not None else MappingNode(Place(Source("the command line", "")))
    compiled = compile_config(_with_forwards(root, forwards, mistakes))
    mistakes += compiled.mistakes
    if mistakes:
        raise ConfigError(mistakes)
    return Loaded(path, compiled.snapshot, compiled.config, in_order(compiled.warnings))


def _read(path: str, mistakes: list[Mistake]) -> MappingNode:
    """The root of the file at ``path``."""
    source = read_source(path)
    root = compose(source, mistakes)
    if root is None or (isinstance(root, ScalarNode) and root.value is None and not root.broken):
        mistakes.append(Mistake(Place(source, 1, 1), "the file is empty; write at least one listener below `listeners:`"))
    elif not isinstance(root, MappingNode):
        what = "a list" if isinstance(root, SequenceNode) else "a single value"
        mistakes.append(Mistake(root.place, f"the file is {what}; it must be a mapping that has `listeners:`"))
    else:
        return root
    raise ConfigError(mistakes)


def _with_forwards(root: MappingNode, forwards: Iterable[str], mistakes: list[Mistake]) -> MappingNode:
    """``root`` with a forward listener added for each ``BIND=TO``."""
    added: dict[str, Entry] = {}
    listeners = root.get("listeners")
    present = listeners if isinstance(listeners, MappingNode) else MappingNode(root.place)
    for text in forwards:
        bind, equals, _ = text.partition("=")
        node = scalar_from_flag("--forward", text, slice(0, None))
        if not equals:
            mistakes.append(Mistake(node.place, f"{text!r} has no '='; write BIND=TO, like 127.0.0.1:8080=example.com:80"))
            continue
        name = _free_name("forward", present.entries.keys() | added.keys())
        keys = {
            "bind": scalar_from_flag("--forward", text, slice(0, len(bind))),
            "mode": replace(node, value="forward", text="forward"),
            "to": scalar_from_flag("--forward", text, slice(len(bind) + 1, None)),
        }
        entries = {key: Entry(value.place, value) for key, value in keys.items()}
        added[name] = Entry(node.place, MappingNode(node.place, entries))
    if not added:
        return root
    merged = replace(present, entries=present.entries | added)
    return replace(root, entries=root.entries | {"listeners": Entry(root.place, merged)})


def _free_name(stem: str, taken: Iterable[str]) -> str:
    """``stem``, or ``stem-2`` and so on if that is taken."""
    used = set(taken)
    names = (stem if number == 1 else f"{stem}-{number}" for number in range(1, len(used) + 2))
    return next(name for name in names if name not in used)
