"""Who may use a listener: names and passwords, plain or as scrypt hashes.

A hash is written ``$scrypt$ln=14,r=8,p=1$salt$hash`` (the PHC string format, unpadded base64).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Mapping
from typing import NamedTuple

from proxy.core.request import Credentials

__all__ = ["BadSecret", "Secret", "Users", "read_secret"]

_PHC = re.compile(
    r"\$scrypt\$ln=([0-9]{1,2}),r=([0-9]{1,2}),p=([0-9]{1,2})\$([\w+/]+)\$([\w+/]+)\Z", re.ASCII
)
_MOST_MEMORY = 128 * 1024 * 1024
_DECOY = "decoy"


class BadSecret(ValueError):
    """A text that begins like a hash and is none."""


class Secret(NamedTuple):
    """A password, or its scrypt hash: then ``salt`` is set and ``cost`` is (n, r, p)."""

    text: bytes
    salt: bytes = b""
    cost: tuple[int, int, int] = (0, 0, 0)

    def matches(self, password: str) -> bool:
        """Whether this is the password; a hash takes its time (tens of milliseconds)."""
        given = password.encode(errors="surrogateescape")
        if self.salt:
            n, r, p = self.cost
            given = hashlib.scrypt(
                given, salt=self.salt, n=n, r=r, p=p, maxmem=_MOST_MEMORY + (1 << 20), dklen=len(self.text)
            )
            return hmac.compare_digest(given, self.text)
        # Digests are of one length, so the time tells nothing of the password's.
        return hmac.compare_digest(hashlib.blake2b(given).digest(), hashlib.blake2b(self.text).digest())


_NOBODY = Secret(_DECOY.encode())


def read_secret(text: str) -> Secret:
    """A password as it is written in a configuration; raises `BadSecret`."""
    if not text.startswith("$scrypt$"):
        return Secret(text.encode())
    match = _PHC.match(text)
    if match is None:
        raise BadSecret("it begins like a scrypt hash; write $scrypt$ln=14,r=8,p=1$salt$hash")
    n, r, p = 1 << int(match[1]), int(match[2]), int(match[3])
    salt, key = _unpadded(match[4]), _unpadded(match[5])
    if not (n > 1 and r and p and 128 * n * r * p <= _MOST_MEMORY):
        raise BadSecret("the hash would take more than 128 MiB, or nothing, to check; ln=14,r=8,p=1 is usual")
    if len(key) < 16 or len(salt) < 8:
        raise BadSecret("its salt is below 8 bytes or its hash below 16; make it anew")
    return Secret(key, salt, (n, r, p))


class Users:
    """All users of a listener. ``check`` may be slow the first time a hashed password is given."""

    __slots__ = ("_known", "_secrets", "slow")

    def __init__(self, secrets: Mapping[str, Secret]) -> None:
        self._secrets = dict(secrets)
        self._known: dict[str, bytes] = {}  # user → fingerprint of the password that was right last time
        self.slow = any(secret.salt for secret in secrets.values())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Users) and self._secrets == other._secrets

    def __hash__(self) -> int:
        return hash(frozenset(self._secrets.items()))

    def known(self, credentials: Credentials) -> bool:
        """Whether they were right before, or are plain to see: never slow."""
        secret = self._secrets.get(credentials.user)
        if secret is None:
            _NOBODY.matches(credentials.password)  # as long as a wrong password takes
            return False
        if not secret.salt:
            return secret.matches(credentials.password)
        fingerprint = self._known.get(credentials.user)
        return fingerprint is not None and hmac.compare_digest(fingerprint, _fingerprint(secret, credentials))

    def check(self, credentials: Credentials) -> bool:
        """Whether there is such a user with this password. An unknown one takes as long as a wrong password."""
        secret = self._secrets.get(credentials.user)
        if secret is None:
            decoy = max(self._secrets.values(), key=lambda secret: secret.cost)
            decoy.matches(_DECOY)
            return False
        if not secret.matches(credentials.password):
            return False
        if secret.salt:
            self._known[credentials.user] = _fingerprint(secret, credentials)
        return True


def _fingerprint(secret: Secret, credentials: Credentials) -> bytes:
    password = credentials.password.encode(errors="surrogateescape")
    return hashlib.blake2b(password, key=secret.text[:64], salt=secret.salt[:16]).digest()


def _unpadded(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raise BadSecret("its salt or hash is not base64") from None
