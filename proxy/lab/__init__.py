"""A WAN in a box: two network namespaces, a delay line between them, middleboxes that misbehave on request.

The tests, the benchmarks and ``tfo-proxy demo`` stand on this package; the proxy itself imports nothing of it.

    namespaces   network namespaces held by a file descriptor; run code, sockets and programs in one
    rtnetlink    the few messages that give a namespace its links, addresses and routes
    wire         the two ends of the line: TUN devices with root, veth and packet sockets without
    packets      IPv4, IPv6, TCP and ICMP headers, decoded
    rewrite      changed and invented packets, with lengths and checksums right
    middleboxes  what can go wrong on a path, by name
    rules        the vocabulary the middleboxes are written in
    forwarder    the process between the two ends: delays, asks the middleboxes, records
    ports        the ends of the line as that process reads and writes them
    line         the handle on that process
    loopback     what a client and the proxy beside it say to each other
    capture      every packet that crossed, in order, as objects, text or pcap
    servers      small upstreams that remember every byte, and when it came
    behaviours   what such an upstream does with a connection
    clients      one request by hand, fast open or plain, with its times and TCP_INFO
    wan          all of it together

How a test uses it (the fixture ``wan`` of ``tests/conftest.py`` is an open `wan.Wan`)::

    from proxy.lab.behaviours import answers
    from proxy.lab.clients import ask
    from proxy.lab.wan import Wan

    with Wan(rtt=0.1) as wan:
        server = wan.serve(answers(b"pong"), fast_open=256)   # on an address nobody has dialled before
        with wan.client.entered():                            # this thread's new sockets are the client's
            first = ask(server.address, b"ping")              # fetches the cookie: 2 round trips
            second = ask(server.address, b"ping")             # "ping" travels in the SYN: 1 round trip
        assert second.first_byte < 1.1 * wan.rtt
        assert wan.capture().syns(dst=server.address)[1].payload == b"ping"
        assert server.received == [b"ping", b"ping"]

        with wan.through("drops-syn-data"):                   # a middlebox for a while
            ...
        wan.client.popen(["curl", "http://..."])              # a real program in the client's namespace
        wan.server.sysctl("net.ipv4.tcp_fastopen", 0)
        print(wan.capture().text())
        wan.capture().write_pcap("session.pcap", seen_from="client")

Times are ``time.monotonic()`` everywhere, so server, client and capture can be compared. A namespace goes away
with its last user; there is nothing to clean up after a crash.
"""
