"""How places are written: where to listen, where to dial, files, and the keys of our own SYN cookies."""

from __future__ import annotations

import re
from typing import ClassVar, Self

from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import (
    BadAddress,
    check_name,
    is_absolute,
    is_numeric,
    normal_ip,
    parse_target,
    parse_unix,
    split_host_port,
)
from proxy.core.clusters import EndpointFile, Origin, Service
from proxy.core.snapshot import Bind
from proxy.core.users import BadSecret, Secret, read_secret


class BindAddress(Scalar[Bind]):
    """Where to listen: ``127.0.0.1:8080``, ``"[::1]:8080"``, ``"*:8080"`` or ``unix:/run/x.sock``."""

    __slots__ = ()
    kind = 'an address to listen on like 127.0.0.1:8080, "[::1]:8080", "*:8080" or unix:/run/x.sock'
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": "^unix:[/@].+$|^.+:[0-9]{1,5}$"}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        try:
            if text.startswith("unix:"):
                return cls(Bind(parse_unix(text).host, 0))
            host, port = split_host_port(text)
        except BadAddress as error:
            raise BadScalar(str(error)) from None
        if host == "*":
            return cls(Bind("*", port))
        if not host:
            raise BadScalar(f'{text!r} has no address; write "*{text}" for every address, or 127.0.0.1{text}')
        if not is_numeric(host):
            raise BadScalar(
                f"{text!r}: a listener binds to numbers, not names; write 127.0.0.1:{port} or [::1]:{port}"
            )
        return cls(Bind(normal_ip(host), port))


class EndpointAddress(Scalar[Origin]):
    """A server to dial: ``203.0.113.10:443``, ``api.example.com:443``, ``"[2001:db8::1]:443"``, ``unix:/run/x``.

    Or where servers are named: ``srv:_https._tcp.example.com``, ``file:/etc/tfo-proxy/endpoints.yaml``.
    """

    __slots__ = ()
    kind = "an address to dial like 203.0.113.10:443, api.example.com:443 or unix:/run/x.sock"
    json_schema: ClassVar[dict[str, object]] = {
        "type": "string",
        "pattern": "^unix:[/@].+$|^.+:[0-9]{1,5}$|^srv:.+$|^file:.+$",
    }

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        scheme, _, rest = text.partition(":")
        if "://" in text:
            raise BadScalar(f"{text!r} is not an address; write host:port or unix:/path")
        try:
            if scheme == "srv":
                return cls(Service(check_name(rest) + ("." if is_absolute(rest) else "")))
            if scheme == "file":
                return cls(EndpointFile(FilePath.read(rest).value))
            return cls(parse_target(text))
        except BadAddress as error:
            raise BadScalar(str(error)) from None


class Destination(Scalar[str]):
    """Where sessions go: the name of a cluster, or a bare ``host:port`` or ``unix:/path``."""

    __slots__ = ()
    kind = "the name of a cluster, or an address like api.example.com:443"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`; what it names is looked up when the file is compiled."""
        if not text:
            raise BadScalar(f"it is empty; write {cls.kind}")
        return cls(text)

    @property
    def is_bare(self) -> bool:
        """Whether this is an address rather than a cluster's name, which cannot hold a colon."""
        return ":" in self.value


class FilePath(Scalar[str]):
    """The path of a file."""

    __slots__ = ()
    kind = "the path of a file"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if not text or "\0" in text or text.endswith("/"):
            raise BadScalar(f"{text!r} does not name a file; write a path like /var/lib/tfo-proxy/state.json")
        return cls(text)


class Password(Scalar[Secret]):
    """A password, or its scrypt hash: ``$scrypt$ln=14,r=8,p=1$salt$hash``."""

    __slots__ = ()
    kind = "a password, or $$scrypt$$ln=14,r=8,p=1$$salt$$hash (a dollar is written twice)"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1}
    secret = True

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if not text:
            raise BadScalar("it is empty; write a password")
        try:
            return cls(read_secret(text))
        except BadSecret as error:
            raise BadScalar(str(error)) from None


class TfoKeys(Scalar[tuple[bytes, ...]]):
    """One or more 16-byte keys for SYN cookies, in hexadecimal (dashes as in net.ipv4.tcp_fastopen_key allowed)."""

    __slots__ = ()
    kind = "32 hexadecimal digits a key, several keys parted by commas"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "pattern": r"^[0-9a-fA-F,\s-]+$"}
    secret = True

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        words = [word for word in re.split(r"[,\s]+", text) if word]
        keys = [word.replace("-", "") for word in words]
        if not keys or any(re.fullmatch(r"[0-9a-fA-F]{32}", key) is None for key in keys):
            raise BadScalar("a key is not 32 hexadecimal digits; `openssl rand -hex 16` makes one")
        return cls(tuple(bytes.fromhex(key) for key in keys))

    def __str__(self) -> str:
        return ",".join(key.hex() for key in self.value)
