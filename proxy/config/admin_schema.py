"""The admin's part of the file: where it listens, and who may give orders."""

from __future__ import annotations

import re
from typing import Annotated, ClassVar, Self

from msgspec import Meta

from proxy.config.addresses import BindAddress
from proxy.config.cluster_schema import Section
from proxy.config.scalars import BadScalar, Scalar
from proxy.core.address import BadAddress, check_name

SHORTEST = 16  # characters: more than anybody can try


class Token(Scalar[str]):
    """A secret that an ``Authorization: Bearer`` header brings (RFC 6750 section 2.1)."""

    __slots__ = ()
    kind = f"{SHORTEST} or more letters, digits and -._~+/=; `openssl rand -hex 16` makes one"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": SHORTEST}
    secret = True

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        if re.fullmatch(r"[A-Za-z0-9._~+/=-]*", text) is None:
            raise BadScalar(f"it has characters that no token has; write {cls.kind}")
        if len(text) < SHORTEST:
            raise BadScalar(f"it is too short; write {cls.kind}")
        return cls(text)


class HostName(Scalar[str]):
    """A name that browsers and scrapers call this machine by."""

    __slots__ = ()
    kind = "a host name like proxy.example.com"
    json_schema: ClassVar[dict[str, object]] = {"type": "string", "minLength": 1}

    @classmethod
    def read(cls, text: str) -> Self:
        """As `Scalar.read`."""
        try:
            return cls(check_name(text))
        except BadAddress as error:
            raise BadScalar(f"{error}; write {cls.kind}") from None


class Admin(Section, frozen=True):
    """The admin address: health, metrics, a page, and orders."""

    bind: Annotated[
        tuple[BindAddress, ...],
        Meta(
            description="Where it listens: 127.0.0.1:7414, unix:/run/tfo-proxy/admin.sock, or a list of these."
        ),
    ]
    token: Annotated[
        Token | None,
        Meta(
            description="The secret that orders need (reload, drain, log level), and all but health, metrics and the "
            "page for those who are not on this machine. Without it orders are taken on a unix socket only."
        ),
    ] = None
    hosts: Annotated[
        tuple[HostName, ...],
        Meta(description="Names by which it may be called, besides numbers and localhost."),
    ] = ()
