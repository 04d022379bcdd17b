// Every word the page says about numbers, times, terms and what became of a connection.

export const TERMS = {
  state: "ready: it takes new connections. draining: it takes no new ones and lets those it has come to their end. starting: it is not listening everywhere yet.",
  round_trip: "A message to the other computer and its answer back. It takes twice the distance, and nothing can make it shorter; one can only need fewer of them. Each connection whose first bytes were taken in the SYN needed one less.",
  seconds: "How much sooner the servers could answer, all connections added up. Below the line: what trying cost, by waits and repeated packets.",
  endpoint: "One server address and port that this proxy connects to. What is learned about Fast Open is learned for each of them alone, because it depends on the server and on every box on the way there.",
  standing: "What this proxy believes of Fast Open to this server, from what really happened there.",
  cookie: "A token the server has given this machine. A connection's first packet (the SYN) that shows it may carry data. The kernel keeps it, and gets a new one whenever that is needed. “asked for”: none has come yet.",
  rtt: "Round-trip time: from a packet to its answer. One of these is what Fast Open saves on every connection.",
  session: "One client's connection through this proxy, from being accepted to its end.",
  sessions_n: "How many connections to this server have come to an end, and how many are open now.",
  saved: "Time won: what the same connections would have waited longer without Fast Open. A minus: what trying cost.",
  first_byte: "How long from a client's connecting to the first byte of the server's answer. Half of the connections had it by the time that is marked. The filled mark is with Fast Open, the hollow one without.",
  listener: "An address where this proxy waits for clients.",
  mode: "How a client says where it wants to go. forward: it need not, all go to the same place. socks, http, mixed: it asks as one asks such a proxy. sni: by the server name in its TLS hello. transparent, tproxy: the network sends it here unasked. tunnel: it comes from another tfo-proxy.",
  listener_tfo: "Whether this machine's kernel takes data in the first packets (SYNs) of clients here, so that they save a round trip to the proxy, too.",
  cluster: "Servers that are as good as each other. Connections are shared out among them. “direct” is for clients that say themselves where they want to go.",
  policy: "How connections are shared out among the servers of a cluster.",
  members: "How many addresses the cluster has, and how many of them connections are sent to now. A server that health checks find down, or that refused several connections in a row, is left alone for a while.",
  fast_open_policy: "where it gets through: this proxy finds out for each server. always: it tries even where that has failed. off: ordinary connections only.",
  warm_up: "Cookies are fetched before anybody needs them: every configured server is connected to once, with nothing in it, eight at a time.",
  reload: "Read the configuration again. Connections that are open stay. Where there is a mistake in it, nothing changes.",
  drain: "Take no new connections, wait for those that are open, then end the program. You are asked once more.",
  worker: "A process that carries connections. If one dies, another takes its place.",
  restarts: "How often this process had to be replaced.",
  syn: "SYN: the first packet of a TCP connection. Ordinarily it is empty, and the data waits a round trip for the answer to it.",
  syn_data: "Connections whose first bytes travelled in their very first packet (the SYN) and were taken by the server: they waited one round trip less.",
  per_session: "What each of those connections saved, on average: about one round-trip time.",
  lost: "What trying Fast Open has cost, all connections together: waits for first bytes that did not come, and packets that had to be sent again.",
  open_now: "Connections that are being carried at this moment.",
  carried: "Bytes relayed in both directions by connections that have ended.",
  failed: "Connections that ended before any server was reached: refused, not allowed, not found, or given up by the client.",
  spare: "A connection that was made ready before anybody needed it: the way to save the round trip where Fast Open does not get through.",
  hedge: "A second, ordinary attempt beside one that stays silent too long. Whichever is through first is used.",
  saved_s: "How much sooner the server could answer. A minus: what trying cost this one.",
  opening: "What the first packet carried, and what became of that.",
  ending: "Who ended it, how, and what it was doing by then.",
  went: "What the client asked to be connected to, and where it asked from. Press a name to see more of its session.",
};

export const STANDINGS = {
  confirmed: ["confirmed", "good", "The last data sent in a connection's first packet (the SYN) was taken: every connection saves a round trip."],
  learning: ["learning", "wait", "The Fast Open option gets through. Whether the server takes data in a SYN will show soon."],
  unknown: ["unknown", "wait", "No connection there has shown anything yet: none was tried, or nobody answered."],
  probing: ["probing", "wait", "Its time of plain connections is over; one connection is finding out whether Fast Open works now."],
  option_doubted: ["doubted", "wait", "A SYN with the Fast Open option got lost. Once is chance; a second time in a row (a few times, where packets often get lost) means ordinary connections for a while."],
  data_doubted: ["doubted", "wait", "A SYN with data got lost or was refused. Once is chance; a second time in a row (a few times, where packets often get lost) means ordinary connections for a while."],
  quarantined: ["quarantined", "plain", "Something on the way swallows or refuses Fast Open. Connections are made the ordinary way until the next try, so nobody waits for it."],
  unsupported: ["unsupported", "plain", "The server does no Fast Open, or something on the way takes it out. That is harmless: connections are as fast as ordinary ones."],
};

const CONDITIONS = {
  down: ["down", "bad", "Health checks cannot reach it. It gets no connections until they can, unless every endpoint of the cluster is down."],
  ejected: ["ejected", "bad", "Several dials in a row failed. It gets no connections for a while, then one to try."],
  failing: ["failing", "bad", "The last connection could not reach it. It still gets connections."],
};

export const condition = (name) => CONDITIONS[name];

const POLICIES = {
  round_robin: ["round_robin", "Each new connection goes to the next server."],
  least_connections: ["least_connections", "Each new connection goes to the server that has the fewest."],
  random: ["random", "Of two servers taken at random, the less busy one gets the connection."],
  source_hash: ["source_hash", "Connections of one client always go to the same server, as long as that is well."],
  first: ["first", "All connections go to the first server; the others are there in case it fails."],
};

export const policy = (name) => POLICIES[name] ?? [name, ""];

export const standing = (name) => STANDINGS[name] ?? [name, "wait", ""];

const EVIDENCE = {
  syn_data_acked: (s) => `${bytes(s.syn_bytes)} travelled in the SYN`,
  empty_open: () => "opened by cookie, so the server could speak at once",
  cookie_requested: () => "asked for a cookie, for the next time",
  cookie_withheld: () => "asked for a cookie again; none ever comes",
  syn_data_not_acked: () => "SYN data was not taken, and sent again at once",
  syn_data_ignored: () => "SYN data was not taken, as always here",
  syn_data_lost: () => "the SYN with data got lost, an ordinary one did not",
  option_lost: () => "the SYN with the Fast Open option got lost, an ordinary one did not",
  syn_ack_lost: () => "the answer to the SYN got lost or came late",
  path_mtu: () => "the SYN was too large for the way, and went again smaller",
  refused: () => "Fast Open was refused, an ordinary SYN was not",
  silent: () => "silence after Fast Open, an answer without it",
  answer_dropped: () => "the answer came before the SYN-ACK and was dropped; it came again later",
  plain: () => "ordinary handshake",
  no_handshake: () => "no handshake came about, an ordinary one neither",
  unavailable: () => "ordinary handshake: the kernel would not do Fast Open",
};

export function opening(session) {
  if (session.open === "spare") return "on a connection made ready beforehand";
  if (session.evidence) return (EVIDENCE[session.evidence] ?? (() => session.evidence))(session);
  if (session.endpoint?.startsWith("unix:")) return "a unix socket has no SYN";
  return session.is_open ? "being opened" : session.endpoint ? "no handshake came about" : "never got as far as a SYN";
}

export const evidence = (name) => (EVIDENCE[name] ?? (() => name))({ syn_bytes: 0 }).replace(/^0 B/, "data");

const WHO = { downstream: "client", upstream: "server" };
const STAGE = {
  accept: "when it was accepted", sniff: "at its first bytes", route: "before its way was known", dial: "while it was dialled", relay: "while it was served",
};
const DID = {
  closed: "hung up", reset: "broke off (RST)", vanished: "vanished", refused: "refused", unreachable: "could not be reached", net_unreachable: "could not be reached",
  connect_timeout: "did not answer in time",
};
const WHY = {
  no_such_host: "no such name", no_endpoint: "no server to dial", no_ports: "no local port left", no_descriptors: "no file descriptor left",
  no_memory: "no memory left", not_permitted: "not permitted here", bad_request: "the request made no sense", handshake_timeout: "never said where to",
  no_request: "left without a request", not_authenticated: "wrong user or password", not_allowed: "not allowed in", bad_response: "the server's answer broke the rules", denied: "destination denied", loop: "would have led back here",
  idle: "silent too long", half_closed: "half closed too long", lifetime: "too old", drain: "ended so as to stop", fault: "a mistake of ours", limited: "over a limit",
  no_source: "no address to come from", wrong_key: "no key of the tunnel fits", old_clock: "sealed too long ago, or a clock is wrong", replayed: "a copy of an opening, thrown away",
  nonces_full: "too many openings to remember", taken_over: "went on, on another connection",
};
const FINE = new Set(["closed", "drain", "lifetime", "taken_over"]);

// A reason of the log in words; a health check's own words stay.
export const reason = (name) => DID[name] ?? WHY[name] ?? name;

export function ending(session) {
  if (session.is_open) return "open";
  const did = DID[session.reason];
  return did ? `${WHO[session.ended_by] ?? "server"} ${did}` : (WHY[session.reason] ?? session.reason);
}
export const during = (session) => (session.is_open || (session.during === "relay" && session.reason === "closed") ? "" : (STAGE[session.during] ?? session.during));
export const failed = (session) => !session.is_open && (session.during !== "relay" || !FINE.has(session.reason));

const NUMBER = new Intl.NumberFormat("en");
export const count = (n) => NUMBER.format(n);
export const plural = (n, one, many = `${one}s`) => `${count(n)} ${n === 1 ? one : many}`;

const digits = (n) => (n < 10 ? n.toFixed(1) : n.toFixed(0));

// 0.4 ms, 48 ms, 1.2 s, 6 min 42 s, 3 h 12 min, 2 d 4 h; a non-breaking space between number and unit
export function time(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  if (seconds < 0) return `−${time(-seconds)}`;
  if (seconds === 0) return "0 s";
  if (seconds < 0.9995) return `${digits(seconds * 1000)} ms`;
  if (seconds < 59.95) return `${digits(seconds)} s`;
  const whole = Math.round(seconds);
  for (const [size, unit, less, lesser] of [[86400, "d", 3600, "h"], [3600, "h", 60, "min"], [60, "min", 1, "s"]]) {
    if (whole >= size) {
      const rest = Math.floor((whole % size) / less);
      return `${Math.floor(whole / size)} ${unit}${rest ? ` ${rest} ${lesser}` : ""}`;
    }
  }
  return `${whole} s`;
}

export function bytes(n) {
  for (const unit of ["B", "KiB", "MiB", "GiB", "TiB"]) {
    if (n < 1024 || unit === "TiB") return `${unit === "B" ? n : digits(n)} ${unit}`;
    n /= 1024;
  }
  return "";
}

export const clock = (seconds, exactly = true) =>
  new Date(seconds * 1000).toLocaleTimeString("en-GB", exactly ? {} : { hour: "2-digit", minute: "2-digit" });

export function since(then, now) {
  const day = (s) => new Date(s * 1000).toDateString();
  const at = clock(then, false);
  return day(then) === day(now) ? at : `${new Date(then * 1000).toLocaleDateString("en-GB", { day: "numeric", month: "short" })}, ${at}`;
}

export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)} %` : "–");
