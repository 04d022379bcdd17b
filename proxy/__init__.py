"""tfo-proxy: a TCP Fast Open (RFC 7413) forward proxy for Linux.

The way of the data, and the rooms it passes::

    accept ──► sniff ──► route ──► dial ──► relay ──► account
    Downstream  Request   Route    Upstream  Transfer  SessionRecord

``core``      nouns: pure values and decisions; no I/O, no clock, no logging
``net``       verbs: one room a stage, on sockets; neither logs nor reads configuration
``config``    the YAML file, validated whole, compiled to one immutable ``Snapshot``
``telemetry`` a finished session as a log line
``session``   one connection from accepted to accounted for: the only place where the stages meet; its neighbours
              ``asking`` (clients that name their destination), ``reception``, ``routing``, ``pools``, ``dialling``
              each carry it through one of them
``warmup``    cookies before they are needed; ``spares`` connections before they are needed
``memory``    what was learned, and ``state``, the file that keeps it
``probe``     what a path does with Fast Open; ``diagnosis`` what this machine does
``worker``    one process: listeners, sessions, drain
``crew``      the workers, as the supervisor has them: one in its own process, or several processes
``supervisor`` the whole program: signals, ``listeners`` (its sockets), ``reload``, ``upgrade``, drain, and what the
              admin shows (``front``)
``admin``     a page, metrics and an API, over HTTP
``commands``  the command line, one module a command
``lab``       a WAN in a box for tests, benchmarks and demonstrations; ``demo`` draws what happens in it

Read ``session.py`` first, then ``core/fastopen.py`` and ``net/dial.py``.
"""

__version__ = "0.1.0"
