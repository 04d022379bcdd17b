"""The command ``tfo-proxy``: it starts the package `proxy`, if that is its own.

Other distributions have a package of this name, too (proxy.py). Installed into one environment, each overwrites files
of the other, and the removal of one takes files of the other away.
"""

from __future__ import annotations

import sys

_MEND = (
    "install tfo-proxy into an environment of its own: `pipx install tfo-proxy`, or `uv tool install tfo-proxy`;"
    " where another distribution's `proxy` was removed, `pip install --force-reinstall tfo-proxy`"
)


def main() -> int:
    """Run the command line; the exit status."""
    try:
        import proxy  # noqa: PLC0415  # it may be another one, which does what it likes

        if getattr(proxy, "DISTRIBUTION", "") != "tfo-proxy":
            return _not_ours(f"the package `proxy` in {_where(proxy)} is another distribution's")
        from proxy.__main__ import main as run  # noqa: PLC0415  # as above
    except Exception as error:  # noqa: BLE001  # whatever another one raises
        return _not_ours(f"its package `proxy` is not whole: {error}")
    return run()


def _where(package: object) -> str:
    return str(getattr(package, "__file__", None) or next(iter(getattr(package, "__path__", [])), "?"))


def _not_ours(why: str) -> int:
    sys.stderr.write(f"tfo-proxy: {why}; {_MEND}\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
