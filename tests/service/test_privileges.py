from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from proxy.core.address import Endpoint
from proxy.core.clusters import Cluster, Source, Via
from proxy.core.routes import Routes
from proxy.core.snapshot import DIRECT, Admin, Bind, FarSide, Listener, Mode, Snapshot
from proxy.core.users import Users, read_secret
from proxy.service import privileges
from proxy.service.privileges import NET_ADMIN, NET_BIND_SERVICE, NET_RAW, CannotDrop, holds_secrets, needed

HOUSE = Path(__file__).parent.parent.parent
API = Cluster("api", (Endpoint("192.0.2.1", 443),))
WEB = Listener("web", (Bind("127.0.0.1", 8080),), Mode.FORWARD, API)


def snapshot(*listeners: Listener, cluster: Cluster = API) -> Snapshot:
    return Snapshot(listeners or (WEB,), {cluster.name: cluster}, Routes((), DIRECT))


@pytest.mark.parametrize(
    ("made", "capabilities"),
    [
        (snapshot(), set()),
        (snapshot(replace(WEB, mode=Mode.TRANSPARENT)), set()),
        (snapshot(replace(WEB, mode=Mode.TPROXY)), {NET_ADMIN}),
        (snapshot(cluster=replace(API, source=Source((), None, 7))), {NET_ADMIN}),
        (snapshot(cluster=replace(API, source=Source((), "eth1", None))), {NET_RAW}),
        (snapshot(cluster=replace(API, source=Source(("192.0.2.9",), None, None))), set()),
        (snapshot(replace(WEB, binds=(Bind("*", 1),))), {NET_BIND_SERVICE}),
        (snapshot(replace(WEB, binds=(Bind("*", 0), Bind("/run/x", 0)))), set()),
    ],
)
def test_what_a_configuration_needs(made: Snapshot, capabilities: set[int]) -> None:
    if privileges._first_unprivileged_port() <= 1:
        capabilities = capabilities - {NET_BIND_SERVICE}
    assert needed(made) == capabilities


def test_what_is_worth_hiding() -> None:
    assert not holds_secrets(snapshot())
    assert holds_secrets(replace(snapshot(), tfo_keys=(b"k" * 16,)))
    assert holds_secrets(snapshot(replace(WEB, users=Users({"a": read_secret("b")}))))
    assert holds_secrets(snapshot(cluster=replace(API, via=Via("socks", API.endpoints[0], "u", "p"))))  # type: ignore[arg-type]
    far = replace(WEB, mode=Mode.TUNNEL, far_side=FarSide((b"k" * 32,)))
    assert holds_secrets(snapshot(far))
    assert holds_secrets(replace(snapshot(), admin=Admin((Bind("127.0.0.1", 1),), "t" * 16)))


STATES = """
from proxy.service.privileges import *
from proxy.service.privileges import _libc, _Hidden
def dumpable(): return _libc.prctl(3, 0, 0, 0, 0)
states = [dumpable()]
for step in (hide, lambda: harden(secrets=False), hide, lambda: harden(secrets=False), lambda: harden(secrets=True),
             lambda: harden(secrets=False), hide):
    step()
    states.append(dumpable())
print(states)
"""


def test_memory_is_hidden_before_there_is_a_secret_and_for_good_after_it() -> None:
    done = subprocess.run(
        [sys.executable, "-c", STATES], capture_output=True, text=True, cwd=HOUSE, check=True
    )
    assert json.loads(done.stdout) == [1, 0, 1, 0, 1, 0, 0, 0]


@pytest.mark.root
def test_memory_is_hidden_after_a_change_of_user_too() -> None:
    code = MAKE.format(mode="FORWARD", user="nobody", group=None)
    code += "for number in (1, 2):\n    privileges.hide()\n    privileges.drop(snapshot)\n"
    code += "    privileges.harden(secrets=False)\n    print(privileges._libc.prctl(3, 0, 0, 0, 0))\n"
    command = [sys.executable, "-c", "import ctypes, grp, os, pwd\n" + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOUSE, check=True)
    assert done.stdout.split() == ["0", "0"]


@pytest.mark.root
def test_who_is_that_user_already_drops_what_it_does_not_need_and_says_what_is_left() -> None:
    held = "+net_admin,+net_bind_service,+net_raw"
    code = MAKE.format(mode="TPROXY", user="0", group=None).replace("'0'", "'65534'")
    code += "done = privileges.drop(snapshot)\nsys.stderr.write(repr(done.kept) + repr(done.groups))\n"
    raised = ["setpriv", "--reuid=65534", "--regid=65534", "--groups=65534,7", f"--inh-caps={held}"]
    command = [*raised, f"--ambient-caps={held}", sys.executable, "-c", "import os, sys\n" + code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOUSE, check=False, timeout=30)
    if "Permission denied" in done.stderr or "shared libraries" in done.stderr:
        pytest.skip("the interpreter is out of another user's reach here")
    assert done.stderr == "('net_admin',)(7, 65534)", "groups need CAP_SETGID, and are told"


def test_who_is_who() -> None:
    assert privileges.identity_of("root", None)[:2] == (0, 0)
    assert privileges.identity_of("0", "0") == (0, 0, (0,))
    assert privileges.identity_of("4000000000", None) == (4000000000, 4000000000, (4000000000,))
    assert privileges.identity_of("nobody", "12345")[1:] == (12345, (12345,))
    with pytest.raises(CannotDrop, match="there is no user 'no such one' on this machine"):
        privileges.identity_of("no such one", None)
    with pytest.raises(CannotDrop, match="there is no group 'no such one' on this machine"):
        privileges.identity_of("root", "no such one")


def test_without_a_user_nothing_is_dropped() -> None:
    assert privileges.drop(snapshot()) is None


OWN_USER = """
import json, os
from dataclasses import replace
from proxy.core.snapshot import Snapshot
from proxy.service import privileges
dropped = privileges.drop(replace(Snapshot((), {}), user=str(os.getuid()), group=str(os.getgid())))
print(json.dumps([dropped.uid, dropped.gid, dropped.groups, len(dropped.kept), len(privileges.permitted())]))
"""


def test_its_own_user_drops_what_it_can_and_says_what_is_left() -> None:
    """In a process of its own: capabilities that are dropped do not come back."""
    done = subprocess.run([sys.executable, "-c", OWN_USER], capture_output=True, text=True, check=True)
    uid, gid, groups, told, left = json.loads(done.stdout)
    assert (uid, gid, groups) == (os.getuid(), os.getgid(), list(os.getgroups()))
    assert told == left


LOOK = """
status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
try:
    os.setuid(0)
    back = True
except OSError:
    back = False
child = subprocess.run(["cat", "/proc/self/status"], capture_output=True, text=True).stdout
ambient = [line.split()[1] for line in child.splitlines() if line.startswith("CapEff")]
print(json.dumps({"uid": os.getresuid(), "gid": os.getresgid(), "groups": os.getgroups(), "back": back,
    "core": resource.getrlimit(resource.RLIMIT_CORE), "child": ambient,
    **{key: status[key].strip() for key in ("CapEff", "CapPrm", "CapBnd", "CapAmb", "NoNewPrivs")}}))
"""
MAKE = """
from proxy.service import privileges
from proxy.core.snapshot import *
from proxy.core.address import Endpoint
api = Cluster("api", (Endpoint("192.0.2.1", 443),))
web = Listener("web", (Bind("127.0.0.1", 8080),), Mode.{mode}, api)
snapshot = Snapshot((web,), {{"api": api}}, user={user!r}, group={group!r})
"""


def looked(code: str, *prefix: str) -> dict[str, object]:
    # The interpreter itself may be out of the other user's reach, so all is imported before.
    early = "import json, os, pwd, resource, subprocess, sys\n"
    command = [*prefix, sys.executable, "-c", early + code + LOOK]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOUSE, check=False, timeout=30)
    assert done.returncode == 0, done.stderr
    told: dict[str, object] = json.loads(done.stdout)
    return told


def test_no_core_is_dumped_and_no_privilege_gained() -> None:
    told = looked(
        "from proxy.service.privileges import harden\nharden(secrets=True)\nopen('/proc/self/maps').close()\n"
    )
    assert (told["NoNewPrivs"], told["core"]) == ("1", [0, 0])


@pytest.mark.root
@pytest.mark.parametrize(
    ("mode", "mask"), [("FORWARD", 0), ("TPROXY", 1 << NET_ADMIN), ("SNI", 0), ("TRANSPARENT", 0)]
)
def test_root_becomes_somebody_for_good(mode: str, mask: int) -> None:
    code = MAKE.format(mode=mode, user="nobody", group=None)
    told = looked(code + "privileges.harden(secrets=False)\nprivileges.drop(snapshot)\n")
    nobody = privileges.identity_of("nobody", None)
    assert told["uid"] == [nobody.uid] * 3
    assert told["gid"] == [nobody.gid] * 3
    assert told["groups"] == [nobody.gid]
    assert not told["back"]
    for kind in ("CapEff", "CapPrm", "CapBnd", "CapAmb"):
        assert int(str(told[kind]), 16) == mask, kind
    assert told["child"] == [f"{mask:016x}"], "workers have what they need, too"


@pytest.mark.root
def test_a_group_of_its_own() -> None:
    told = looked(MAKE.format(mode="FORWARD", user="12345", group="54321") + "privileges.drop(snapshot)\n")
    assert (told["uid"], told["gid"], told["groups"]) == ([12345] * 3, [54321] * 3, [54321])


@pytest.mark.root
def test_who_is_not_root_cannot_become_another() -> None:
    code = MAKE.format(mode="FORWARD", user="nobody", group=None)
    code += (
        "try:\n    privileges.drop(snapshot)\nexcept privileges.CannotDrop as problem:\n    print(problem)\n"
    )
    command = ["setpriv", "--reuid=12345", "--clear-groups", "--regid=12345", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, cwd=HOUSE, check=False, timeout=30)
    if "Permission denied" in done.stderr or "shared libraries" in done.stderr:
        pytest.skip("the interpreter is out of another user's reach here")
    assert done.stdout == "only root can become nobody; this process is 12345\n"
