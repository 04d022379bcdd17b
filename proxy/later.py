"""Modules that are read when something of them is first asked for: what most configurations have no use for.

They are imported as ever, at the top of a module, and what is imported is a stand-in until one of its attributes is
wanted: ``import ssl``, ``from proxy.admin import server``. (``from ssl import SSLContext`` wants one at once.) Which
ones, and why, is docs/decisions/0021-read-later.md; Python will have this itself (PEP 810).

Reading a file late has a price: it may be gone, newer, or out of reach of the user that the process has become. So
`proxy.service.parts` has everything read that a snapshot will use before that is served.
"""

from __future__ import annotations

import sys
from _thread import RLock  # that of threading, without the rest of it
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.abc import Loader
else:
    Loader = object  # importing the real one costs a megabyte

LATER = frozenset(
    {
        "difflib",  # a word of the configuration that is not known
        "hashlib",  # it and those that use it: libcrypto, 4 MiB
        "hmac",
        "idna",  # names that are not ASCII
        "proxy.admin.server",  # and all that answers there, h11 too
        "secrets",
        "ssl",  # trio imports it; 3 MiB
    }
)
_reading = RLock()


class _Later(ModuleType):
    """Stands in for a module, and becomes it."""

    def __getattr__(self, name: str) -> object:
        # What the import system itself asks for (``__path__``) is there or is not; ``import *`` wants ``__all__``.
        if not name.startswith("__") or name == "__all__":
            with _reading:
                if _become(self):
                    return getattr(self, name)
        raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")


class _Loader(Loader):
    """Loads a stand-in."""

    def __init__(self, real: Loader) -> None:
        self.real = real

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        """As `importlib.abc.Loader` has it."""
        return _Later(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """The same; that is for later."""


class _Finder:
    """Finds stand-ins, before anybody finds what they stand for."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, again: ModuleType | None = None
    ) -> ModuleSpec | None:
        """As `importlib.abc.MetaPathFinder` has it; ``again`` is a module that is there, to be read anew."""
        if name not in LATER or again is not None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


def install() -> None:
    """To be called before any of them is imported; those that are there already stay what they are."""
    if not any(finder is _Finder for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder)


def read(names: Iterable[str] = LATER) -> None:
    """Have these modules read now, where they are imported at all."""
    for name in names:
        module = sys.modules.get(name)
        if isinstance(module, _Later):
            with _reading:
                _become(module)


def unread() -> frozenset[str]:
    """Those that are imported and have not been read."""
    return frozenset(name for name in LATER if isinstance(sys.modules.get(name), _Later))


def _become(module: ModuleType) -> bool:
    """Read what stands behind a stand-in; whether there was anything to be read.

    While it is read, by this thread, the module asks for itself in vain, as any module does that is half read.
    """
    spec, loader = module.__spec__, module.__loader__
    if spec is None or not isinstance(loader, _Loader):
        return not isinstance(module, _Later)  # another thread was faster
    spec.loader = module.__loader__ = loader.real
    try:
        loader.real.exec_module(module)
    except BaseException:
        spec.loader = module.__loader__ = loader  # as it was: the next one who asks will be told the same
        raise
    module.__class__ = ModuleType
    return True
