"""What this process may do, once it has what it needs: as little as its configuration allows.

The ordinary modes need no privilege at all. Started by root, with ``user``, the process becomes that user when its
listeners are open, and keeps of root's capabilities those that its configuration cannot do without: ``CAP_NET_ADMIN``
for tproxy listeners and for marks, ``CAP_NET_RAW`` for a source interface, ``CAP_NET_BIND_SERVICE`` for ports that a
reload may want to open anew. They are made ambient, so that workers have them too (capabilities(7)).

Python has no calls for this, so it is prctl(2) and capset(2) of the C library; the numbers are from
``include/uapi/linux/prctl.h`` and ``capability.h``.
"""

from __future__ import annotations

import ctypes
import grp
import os
import pwd
import resource
from collections.abc import Iterable
from contextlib import suppress
from typing import NamedTuple

from proxy.core.snapshot import Mode, Snapshot

NET_BIND_SERVICE, NET_ADMIN, NET_RAW = 10, 12, 13
NAMES = {NET_BIND_SERVICE: "net_bind_service", NET_ADMIN: "net_admin", NET_RAW: "net_raw"}

_GET_DUMPABLE, _SET_DUMPABLE, _SET_KEEPCAPS, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 3, 4, 8, 24, 38
_AMBIENT, _AMBIENT_RAISE = 47, 2
_CAPABILITIES_VERSION = 0x20080522
_LAST_CAPABILITY = 63
_PORT_START = "/proc/sys/net/ipv4/ip_unprivileged_port_start"

_libc = ctypes.CDLL(None, use_errno=True)


class CannotDrop(Exception):
    """The process could not become who it should; the message says what stands in the way."""


class _Hidden:
    """How far the memory of this process is hidden; a process has one memory."""

    before: bool | None = None  # whether it could be read when `hide` was called first
    for_good = False
    became_another = False  # then the kernel has hidden it (credentials(7)), and so it stays


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Sets(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


class Identity(NamedTuple):
    """Who a process is."""

    uid: int
    gid: int
    groups: tuple[int, ...]


class Dropped(NamedTuple):
    """What became of the process."""

    user: str
    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary ones
    kept: tuple[str, ...]  # names of capabilities


def hide() -> None:
    """Let no other process of the user read the memory (``PR_SET_DUMPABLE``), before there is any secret in it.

    `harden` takes it back where there is none.
    """
    if _Hidden.before is None:
        _Hidden.before = _libc.prctl(_GET_DUMPABLE, 0, 0, 0, 0) == 1
    _try_prctl(_SET_DUMPABLE, 0)


def harden(*, secrets: bool) -> None:
    """What is right for every process of ours, whoever runs it: no core dumps, no gaining of privileges.

    ``secrets``: it holds keys or passwords, so its memory stays hidden, for good: what was in memory once may be there
    still. To be called for each configuration and after each change of user. A sandbox that forbids one of these has
    its reasons.
    """
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _try_prctl(_SET_NO_NEW_PRIVS, 1)
    _Hidden.for_good = _Hidden.for_good or secrets
    if _Hidden.for_good:
        _try_prctl(_SET_DUMPABLE, 0)
    elif _Hidden.before and not _Hidden.became_another:
        _try_prctl(_SET_DUMPABLE, 1)


def holds_secrets(snapshot: Snapshot) -> bool:
    """Whether there is anything in it that must not be read."""
    if snapshot.tfo_keys or any(listener.users or listener.far_side for listener in snapshot.listeners):
        return True
    if snapshot.admin is not None and snapshot.admin.token:
        return True
    return any(cluster.via is not None for cluster in (*snapshot.clusters.values(), snapshot.direct))


def needed(snapshot: Snapshot) -> frozenset[int]:
    """The capabilities without which it cannot be served, nor be loaded again."""
    wanted: set[int] = set()
    if any(listener.mode is Mode.TPROXY for listener in snapshot.listeners):
        wanted.add(NET_ADMIN)
    for cluster in (*snapshot.clusters.values(), snapshot.direct):
        if cluster.source is not None and cluster.source.mark is not None:
            wanted.add(NET_ADMIN)
        if cluster.source is not None and cluster.source.interface is not None:
            wanted.add(NET_RAW)
    first_free = _first_unprivileged_port()
    binds = [bind for listener in snapshot.listeners for bind in listener.binds]
    binds += snapshot.admin.binds if snapshot.admin is not None else ()
    if any(0 < bind.port < first_free and not bind.is_unix for bind in binds):
        wanted.add(NET_BIND_SERVICE)
    return frozenset(wanted)


def drop(snapshot: Snapshot) -> Dropped | None:
    """Become the user and group of ``snapshot``, for good; None: nobody is named. Raises `CannotDrop`.

    To be called before the process has threads of its own making: capabilities are a thread's.
    """
    if snapshot.user is None and snapshot.group is None:
        return None
    identity = identity_of(snapshot.user, snapshot.group)
    if _is_already(identity):
        return _drop_as(identity, snapshot)
    if os.geteuid() != 0:
        who = snapshot.user or snapshot.group
        raise CannotDrop(f"only root can become {who}; this process is {_name(os.geteuid())}")
    kept = needed(snapshot) & permitted()
    try:
        _bound(kept)
        os.setgroups(identity.groups)
        os.setresgid(identity.gid, identity.gid, identity.gid)
        _prctl(_SET_KEEPCAPS, 1)
        os.setresuid(identity.uid, identity.uid, identity.uid)
        _Hidden.became_another = True
        _keep(kept)
    except OSError as error:
        raise CannotDrop(f"it cannot become {_name(identity.uid)}: {error.strerror}") from error
    return Dropped(_name(identity.uid), identity.uid, identity.gid, tuple(os.getgroups()), _names(kept))


def _drop_as(identity: Identity, snapshot: Snapshot) -> Dropped:
    """For a process that is that user already: drop what capabilities and groups it can do without.

    Root stays what it is: without its capabilities it would be a user that owns the system's files. What is told is
    what is left.
    """
    if identity.uid != 0:
        kept = needed(snapshot) & permitted()
        _bound(kept)
        with suppress(OSError):
            os.setgroups(identity.groups)  # needs CAP_SETGID
        with suppress(OSError):
            _keep(kept)
    return Dropped(
        _name(identity.uid), identity.uid, identity.gid, tuple(os.getgroups()), _names(permitted())
    )


def _names(capabilities: Iterable[int]) -> tuple[str, ...]:
    return tuple(NAMES.get(number, f"cap_{number}") for number in sorted(capabilities))


def identity_of(user: str | None, group: str | None) -> Identity:
    """The numbers of a user and a group, which may be numbers already; raises `CannotDrop`.

    With a group said, there are no others; else they are those of the user.
    """
    uid, own, name = os.geteuid(), os.getegid(), None
    if user is not None:
        try:
            known = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
        except KeyError:
            if not user.isdecimal():
                raise CannotDrop(f"there is no user {user!r} on this machine") from None
            uid = own = int(user)
        else:
            uid, own, name = known.pw_uid, known.pw_gid, known.pw_name
    if group is None:
        return Identity(uid, own, tuple(os.getgrouplist(name, own)) if name else (own,))
    if group.isdecimal():
        return Identity(uid, int(group), (int(group),))
    try:
        gid = grp.getgrnam(group).gr_gid
    except KeyError:
        raise CannotDrop(f"there is no group {group!r} on this machine") from None
    return Identity(uid, gid, (gid,))


def _is_already(identity: Identity) -> bool:
    return {identity.uid} == set(os.getresuid()) and {identity.gid} == set(os.getresgid())


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _first_unprivileged_port() -> int:
    try:
        with open(_PORT_START, encoding="ascii") as file:
            return int(file.read())
    except (OSError, ValueError):
        return 1024


def permitted() -> frozenset[int]:
    """The capabilities that this thread has."""
    sets = (_Sets * 2)()
    _check(_libc.capget(ctypes.byref(_Header(_CAPABILITIES_VERSION, 0)), sets))
    mask = sets[0].permitted | sets[1].permitted << 32
    return frozenset(number for number in range(_LAST_CAPABILITY + 1) if mask >> number & 1)


def _bound(kept: Iterable[int]) -> None:
    """Nothing that this process becomes shall ever have others."""
    for number in set(range(_LAST_CAPABILITY + 1)) - set(kept):
        _try_prctl(_CAPBSET_DROP, number)


def _keep(kept: Iterable[int]) -> None:
    mask = sum(1 << number for number in kept)
    sets = (_Sets * 2)()
    for half in (0, 1):
        part = mask >> 32 * half & 0xFFFFFFFF
        sets[half].effective = sets[half].permitted = sets[half].inheritable = part
    _check(_libc.capset(ctypes.byref(_Header(_CAPABILITIES_VERSION, 0)), sets))
    for number in kept:
        _try_prctl(_AMBIENT, _AMBIENT_RAISE, number)


def _prctl(*arguments: int) -> None:
    filled = [ctypes.c_ulong(number) for number in (*arguments, 0, 0, 0, 0)[:5]]
    _check(_libc.prctl(*filled))


def _try_prctl(*arguments: int) -> None:
    with suppress(OSError):
        _prctl(*arguments)


def _check(result: int) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
