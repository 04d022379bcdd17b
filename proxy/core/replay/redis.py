"""Redis: whole commands that only read, or only say who the client is, as RESP arrays or inline.

Not in the list: reads that delete, renew or store (GETDEL, GETEX, SORT, GEORADIUS), commands that run
scripts, block, subscribe, or stop the server for long (KEYS), and MULTI, whose queue may hold anything. AUTH,
HELLO and SELECT are in it: they change the memory of this connection alone.
"""

from __future__ import annotations

import re

__all__ = [
    "INLINE_FIRST_BYTES",
    "READING_SUBCOMMANDS",
    "READS",
    "RESP_FIRST_BYTES",
    "inline_safe_length",
    "resp_safe_length",
]

RESP_FIRST_BYTES = b"*"
INLINE_FIRST_BYTES = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

READS = frozenset(
    b"""
    AUTH COMMAND DBSIZE ECHO HELLO INFO LASTSAVE PING QUIT RANDOMKEY READONLY READWRITE ROLE TIME
    DUMP EXISTS EXPIRETIME PEXPIRETIME PTTL SCAN SORT_RO TTL TYPE
    BITCOUNT BITFIELD_RO BITPOS GET GETBIT GETRANGE LCS MGET STRLEN SUBSTR
    HEXISTS HGET HGETALL HKEYS HLEN HMGET HRANDFIELD HSCAN HSTRLEN HVALS
    LINDEX LLEN LPOS LRANGE
    SCARD SDIFF SINTER SINTERCARD SISMEMBER SMEMBERS SMISMEMBER SRANDMEMBER SSCAN SUNION
    ZCARD ZCOUNT ZDIFF ZINTER ZINTERCARD ZLEXCOUNT ZMSCORE ZRANDMEMBER ZRANGE ZRANGEBYLEX ZRANGEBYSCORE
    ZRANK ZREVRANGE ZREVRANGEBYLEX ZREVRANGEBYSCORE ZREVRANK ZSCAN ZSCORE ZUNION
    GEODIST GEOHASH GEOPOS GEORADIUS_RO GEORADIUSBYMEMBER_RO GEOSEARCH
    XLEN XPENDING XRANGE XREVRANGE
    """.split()
)

READING_SUBCOMMANDS = {
    b"ACL": frozenset(b"CAT WHOAMI".split()),
    b"CLIENT": frozenset(b"GETNAME ID INFO SETINFO SETNAME".split()),
    b"CLUSTER": frozenset(
        b"COUNTKEYSINSLOT INFO KEYSLOT LINKS MYID NODES REPLICAS SHARDS SLAVES SLOTS".split()
    ),
    b"CONFIG": frozenset(b"GET".split()),
    b"MEMORY": frozenset(b"USAGE".split()),
    b"MODULE": frozenset(b"LIST".split()),
    b"OBJECT": frozenset(b"ENCODING FREQ IDLETIME REFCOUNT".split()),
    b"PUBSUB": frozenset(b"CHANNELS NUMPAT NUMSUB SHARDCHANNELS SHARDNUMSUB".split()),
    b"SCRIPT": frozenset(b"EXISTS".split()),
    b"SENTINEL": frozenset(b"GET-MASTER-ADDR-BY-NAME MASTER MASTERS MYID REPLICAS SENTINELS SLAVES".split()),
    b"XINFO": frozenset(b"CONSUMERS GROUPS STREAM".split()),
}

_array_header = re.compile(rb"\*([1-9][0-9]{0,3})\r\n").match
_bulk_header = re.compile(rb"\$(0|[1-9][0-9]{0,8})\r\n").match
_line = re.compile(rb"([A-Za-z_]{3,24}(?: [!#-&(-\[\]-~]+)*)\r?\n").match  # no quotes, no backslashes


def resp_safe_length(early: bytes) -> int | None:
    """The reading commands at the start, as RESP arrays of bulk strings; `None` where these are none."""
    position = 0
    command, end = _resp_command(early, position)
    if not command:
        return None
    while command and _only_reads(command):
        position = end
        command, end = _resp_command(early, position)
    return position


def inline_safe_length(early: bytes) -> int | None:
    """The reading commands at the start, a line each; `None` where there is none.

    A line that could be HTTP is none: HTTP has stricter rules, which it did not pass.
    """
    position = 0
    while line := _line(early, position):
        if b" /" in line[1] or b" HTTP/" in line[1] or not _only_reads(line[1].split(b" ")):
            break
        position = line.end()
    return position or None


def _resp_command(early: bytes, position: int) -> tuple[list[bytes], int]:
    """The words of the command at `position` and where it ends; no words if it is not all there."""
    header = _array_header(early, position)
    if header is None:
        return [], position
    words: list[bytes] = []
    end = header.end()
    for _ in range(int(header[1])):
        bulk = _bulk_header(early, end)
        if bulk is None:
            return [], position
        start = bulk.end()
        end = start + int(bulk[1]) + 2
        if early[end - 2 : end] != b"\r\n":
            return [], position
        words.append(early[start : end - 2])
    return words, end


def _only_reads(words: list[bytes]) -> bool:
    command = words[0].upper()
    if command in READS:
        return True
    if command == b"SELECT":  # SQL has one too
        return len(words) == 2 and words[1].isdigit()
    if command == b"XREAD":
        return not any(word.upper() == b"BLOCK" for word in words)
    subcommands = READING_SUBCOMMANDS.get(command)
    return subcommands is not None and len(words) > 1 and words[1].upper() in subcommands
