from __future__ import annotations

import pytest

from proxy.core.protocol import Protocol
from proxy.core.replay import classify


def resp(command: str) -> bytes:
    words = command.encode().split(b" ")
    return b"*%d\r\n" % len(words) + b"".join(b"$%d\r\n%s\r\n" % (len(word), word) for word in words)


READS = [
    "PING",
    "ping hello",
    "HELLO 3 AUTH alice secret SETNAME app",
    "AUTH secret",
    "SELECT 3",
    "INFO server",
    "COMMAND DOCS",
    "CLIENT SETNAME app",
    "CLIENT SETINFO LIB-NAME redis-py",
    "GET a",
    "MGET a b c",
    "HGETALL h",
    "ZRANGE z 0 -1 WITHSCORES",
    "XREAD COUNT 2 STREAMS s 0",
    "CLUSTER SLOTS",
    "SENTINEL get-master-addr-by-name main",
    "OBJECT ENCODING a",
    "CONFIG GET maxmemory",
]
NOT_READS = [
    "SET a 1",
    "INCR a",
    "DEL a",
    "GETDEL a",
    "GETEX a EX 10",
    "GETSET a 1",
    "EXPIRE a 10",
    "LPOP l",
    "BLPOP l 0",
    "SPOP s",
    "SORT l STORE m",
    "GEORADIUS g 1 1 1 m STORE h",
    "ZRANGESTORE a b 0 -1",
    "MULTI",
    "EXEC",
    "EVAL return 0",
    "FCALL f 0",
    "PUBLISH c m",
    "SUBSCRIBE c",
    "XREAD BLOCK 0 STREAMS s $",
    "XREADGROUP GROUP g c STREAMS s >",
    "XADD s * a 1",
    "PFCOUNT p",
    "KEYS *",
    "CLIENT KILL TYPE normal",
    "CLIENT",
    "CONFIG SET maxmemory 1",
    "CLUSTER FAILOVER",
    "SCRIPT FLUSH",
    "OBJECT HELP",
    "SELECT name",
    "FLUSHALL",
    "SHUTDOWN",
    "DEBUG SLEEP 1",
    "REPLICAOF NO ONE",
    "NOSUCH a",
]


@pytest.mark.parametrize("command", READS)
def test_reads(command: str) -> None:
    array, line = resp(command), command.encode() + b"\r\n"
    assert classify(array) == (len(array), Protocol.REDIS)
    assert classify(line) == (len(line), Protocol.REDIS)
    for flight in (array, line):
        assert not any(classify(flight[:length])[0] for length in range(len(flight)))


@pytest.mark.parametrize("command", NOT_READS)
def test_not_reads(command: str) -> None:
    array, line = resp(command), command.encode() + b"\r\n"
    assert classify(array) == (0, Protocol.REDIS)
    assert classify(resp("PING") + array) == (len(resp("PING")), Protocol.REDIS)
    assert classify(b"PING\r\n" + line) == (6, Protocol.REDIS)
    for flight in (array, line):
        assert not any(classify(flight[:length])[0] for length in range(len(flight) + 1))


def test_a_pipeline_counts_as_far_as_it_reads() -> None:
    reads = resp("AUTH secret") + resp("SELECT 1") + resp("GET a")
    assert classify(reads + resp("INCR a") + resp("GET b")) == (len(reads), Protocol.REDIS)
    assert classify(reads + resp("GET b")[:-1]) == (len(reads), Protocol.REDIS)


@pytest.mark.parametrize(
    "flight",
    [
        b"*0\r\n",
        b"*-1\r\n",
        b"*1\n$4\nPING\n",
        b"*01\r\n$4\r\nPING\r\n",
        b"*1\r\n$5\r\nPING\r\n",
        b"*1\r\n+PING\r\n",
        b"*2\r\n$4\r\nPING\r\n",
        b"*10000\r\n$4\r\nPING\r\n",
        b"*1\r\n$-1\r\n",
        b"*2\r\n$3\r\nGET\r\n$9999999999\r\na\r\n",
    ],
)
def test_broken_arrays(flight: bytes) -> None:
    assert classify(flight) == (0, Protocol.UNKNOWN)


def test_an_empty_command() -> None:
    assert classify(b"*1\r\n$0\r\n\r\n") == (0, Protocol.REDIS)


@pytest.mark.parametrize(
    "flight",
    [
        b'ECHO "a\r\n',
        b"ECHO 'a'\r\n",
        b"ECHO a\\r\r\n",
        b"PING  a\r\n",
        b"PING \r\n",
        b" PING\r\n",
        b"PI\r\n",
        b"GET /\r\n",
        b"GET a HTTP/1.1\r\n",
        b"SELECT * FROM t\r\n",
        b"hello, world\r\n",
    ],
)
def test_inline_only_in_its_plain_form(flight: bytes) -> None:
    assert classify(flight)[0] == 0
