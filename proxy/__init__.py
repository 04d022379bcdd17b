"""tfo-proxy: a TCP Fast Open (RFC 7413) forward proxy for Linux.

The way of the data, and the rooms it passes::

    accept ──► sniff ──► route ──► dial ──► relay ──► account
    Downstream  Request   Route    Upstream  Transfer  SessionRecord

``core``      nouns: pure values and decisions; no I/O, no clock, no logging
``net``       verbs: one room a stage, on sockets; neither logs nor reads configuration
``config``    the YAML file, validated whole, compiled to one immutable ``Snapshot``
``telemetry`` a finished session as a log line
``sessions``  one connection from accepted to accounted for: ``session`` is where the stages meet; ``asking`` and
              ``arriving`` are its kinds, ``reception``, ``routing``, ``pools`` and ``dialling`` carry it through one
              stage each; ``spares`` are connections before they are needed
``service``   the program: ``supervisor`` (signals, drain), ``listeners`` (its sockets), ``reload``, ``upgrade``
              and ``bequest`` (what a successor gets), ``crew`` (one worker in this process, or several), ``worker``
              (sessions and their clocks), ``admission`` (limits), ``memory`` and ``state`` (what was learned, and its
              file), ``warmup`` and ``checks`` (what is done between sessions)
``probe``     what a path does with Fast Open; ``diagnosis`` what this machine does
``admin``     a page, metrics and an API, over HTTP; ``top`` the same in a terminal
``commands``  the command line, one module a command
``lab``       a WAN in a box for tests, benchmarks and demonstrations; ``demo`` draws what happens in it

``later``     modules that few configurations need are read when one does

Read ``sessions/session.py`` first, then ``core/fastopen.py`` and ``net/dial.py``.
"""

from proxy import later

later.install()  # before trio imports any of them

DISTRIBUTION = "tfo-proxy"  # as opposed to others that have a package of this name
__version__ = "0.1.0"
