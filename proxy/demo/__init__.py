"""``tfo-proxy demo``: the lab, the proxy and a plain connection beside it; their packets, drawn.

    scenes     what can be shown, by name: a path, what is in the way, who speaks first
    program    the proxy, as a user starts it, inside the lab
    play       one scene, played: connections made, packets collected
    story      packets → arrows between lifelines, in the reader's words
    words      what each connection came to, in sentences
    board      text: the arrows and the result on a terminal
    picture    the same as SVG
    obstacles  why the lab cannot be built here, and what would allow it

Every time and every flag comes from packets that crossed the lab's line or the client's loopback.
"""
