"""What does not make sense about tunnels, on either side."""

from __future__ import annotations

import os

from proxy.config import schema
from proxy.config.addresses import FilePath
from proxy.config.mistakes import Findings
from proxy.config.nodes import Tree
from proxy.core.nonces import LONGEST_WINDOW

_MAKE_ONE = '`openssl rand -hex 32` makes one, and `"${file:/run/secrets/tunnel}"` reads it'


def check_near(via: schema.Via, path: tuple[str, ...], tree: Tree, findings: Findings) -> None:
    """A cluster's ``via``, of whatever kind."""
    label, place = ".".join((*path, "via")), tree.nearest(*path, "via").place
    if sum(one is not None for one in (via.socks, via.http, via.tunnel)) != 1:
        findings.wrong_once(
            place, f"{label}: write one of socks, http and tunnel, and host:port after it", hide=True
        )
    elif via.tunnel is not None and not via.key and tree.find(*path, "via", "key") is None:
        findings.wrong_once(place, f"{label}: a tunnel has no `key`; {_MAKE_ONE}")
    elif via.tunnel is None and (via.key or via.tls):
        findings.wrong_once(place, f"{label}: only a tunnel has a key or tls; leave them out", hide=True)
    if via.tls is not None:
        _check_tls(via.tls, (*path, "via"), tree, findings)


def check_far(listener: schema.Listener, name: str, tree: Tree, findings: Findings) -> None:
    """A listener in mode tunnel, or one that only looks like it."""
    path = ("listeners", name)
    label = f"listeners.{name}"
    if listener.mode != "tunnel":
        for key in (key for key, said in (("key", listener.key), ("tls", listener.tls)) if said):
            findings.wrong(
                tree.nearest(*path, key).place, f"{label}.{key}: only mode tunnel has one; leave it out"
            )
        return
    if not listener.key and tree.find(*path, "key") is None:
        findings.wrong(tree.nearest(*path).place, f"{label} has no `key`; {_MAKE_ONE}")
    if listener.window.value > LONGEST_WINDOW:
        place = tree.nearest(*path, "window").place
        findings.wrong(
            place, f"{label}.window: more than {LONGEST_WINDOW:g}s is not remembered; set the clocks"
        )
    if listener.proxy_protocol == "accept":
        place = tree.nearest(*path, "proxy_protocol").place
        problem = "a tunnel's opening looks like a PROXY header itself; write require or off"
        findings.wrong(place, f"{label}.proxy_protocol: {problem}")
    if listener.tls is not None:
        _check_tls(listener.tls, path, tree, findings)
        if listener.tls.cert is None:
            place = tree.nearest(*path, "tls").place
            findings.wrong(place, f"{label}.tls: a far side needs a certificate of its own; write `cert`")


def _check_tls(tls: schema.Tls, path: tuple[str, ...], tree: Tree, findings: Findings) -> None:
    for key in ("ca", "cert", "key"):
        file: FilePath | None = getattr(tls, key)
        if file is not None and not os.access(file.value, os.R_OK):
            place = tree.nearest(*path, "tls", key).place
            findings.pointless(place, f"{'.'.join(path)}.tls.{key}: {file.value} cannot be read here")
    if tls.key is not None and tls.cert is None:
        place = tree.nearest(*path, "tls").place
        findings.wrong_once(place, f"{'.'.join(path)}.tls: a key without a certificate; write `cert`")
