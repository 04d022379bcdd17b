"""A proxy to try by hand: it listens on this machine, and its upstream is a small web site at the far end of a lab.

The listening sockets are made before the lab is, so that they belong to this machine's network; the proxy itself runs
in the client's namespace (network_namespaces(7): a socket keeps the namespace that it was made in).
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from proxy.core.address import Endpoint, join_host_port
from proxy.demo.program import Program
from proxy.demo.scenes import Scene
from proxy.lab.servers import Conversation
from proxy.lab.wan import Wan

_PAGE = b"This page came from the far end of the demo's line.\n"
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
_HEAD_END = b"\r\n\r\n"
_BACKLOG = 128


def serve(  # one parameter an option
    scene: Scene,
    rtt: float,
    bind: Endpoint,
    admin: Endpoint,
    say: Callable[[str], None],
    stop: threading.Event,
) -> None:
    """Serve until ``stop`` is set; ``say`` gets what can be typed, once it works.

    ``rtt`` is in seconds. Raises `LabUnavailableError`, `ProxyFailedError`, and OSError where an address cannot be
    listened on or the lab not built.
    """
    with contextlib.ExitStack() as undo:
        sockets = [undo.enter_context(_listening(where)) for where in (bind, admin)]
        wan = undo.enter_context(Wan(rtt=rtt))
        undo.enter_context(wan.client.entered())
        wan.install_all([(name, dict(parameters), "") for name, parameters in scene.through])
        host, port = wan.serve(_site, port=80).address
        config = {
            "listeners": {"demo": {"bind": str(bind), "mode": "mixed"}},
            "admin": {"bind": str(admin)},
            "log": {"format": "json"},
        }
        undo.enter_context(Program(wan.client, config, sockets))
        say(
            f"Type this several times; the first one learns, the others save a round trip of {rtt * 1000:g} ms:"
        )
        say(f"    curl -x http://{bind} http://{join_host_port(host, port).removesuffix(':80')}/")
        say(f"See it on the page: http://{admin}/")
        stop.wait()


def _listening(where: Endpoint) -> socket.socket:
    family = socket.AF_INET6 if where.is_ipv6 else socket.AF_INET
    try:
        return socket.create_server((where.host, where.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {where}: {error.strerror}") from error


def _site(conversation: Conversation) -> None:
    """Answer one request, and end."""
    while _HEAD_END not in conversation.received:
        if not conversation.receive():
            return
    conversation.send(_ANSWER % (len(_PAGE), _PAGE))
    conversation.finish()
    conversation.receive_all()
