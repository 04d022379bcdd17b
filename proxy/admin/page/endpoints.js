// The endpoints: what is believed of each of them and why, and what it brings.

import { dumbbell, histogram } from "./charts.js";
import { $, el, fill, put, sync, term } from "./dom.js";
import { reachable } from "./tip.js";
import { bytes, condition, count, evidence, plural, reason, since, standing, time } from "./words.js";

const FIRST = 50;
const ORDERS = {
  sessions: (a, b) => b.tally.sessions - a.tally.sessions,
  saved: (a, b) => net(b) - net(a),
  rtt: (a, b) => (b.rtt ?? -1) - (a.rtt ?? -1),
  trouble: (a, b) => trouble(b) - trouble(a) || b.tally.sessions - a.tally.sessions,
  name: (a, b) => a.endpoint.localeCompare(b.endpoint, "en", { numeric: true }),
};
const WORST_FIRST = ["down", "ejected", "failing", "quarantined", "ok", "unused"];
const net = (one) => one.tally.seconds_saved - one.tally.seconds_lost;
const inTrouble = (one) => ["down", "ejected", "failing"].includes(one.condition);
const tone = (one) => (inTrouble(one) ? "bad" : standing(one.standing)[1]);
const trouble = (one) => -WORST_FIRST.indexOf(one.condition);

// The badge of an endpoint and its explanation: what is wrong with it, or what is known of Fast Open.
const badge_of = (one) => (inTrouble(one) ? condition(one.condition) : standing(one.standing));

// What is wrong and since when; else why it is dialled as it is.
function why_of(one, now) {
  if (!inTrouble(one)) return one.condition === "unused" && one.standing === "unknown" ? "not used yet" : one.why;
  const began = one.since ? `since ${since(one.since, now)}` : "";
  return [reason(one.error), began].filter(Boolean).join(", ");
}

let all = false;
let repaint = () => {};

export function begin(paint) {
  repaint = paint;
  for (const id of ["endpoints-find", "endpoints-which", "endpoints-order"]) $(id).addEventListener("input", paint);
  $("endpoints-more").addEventListener("click", () => {
    all = !all;
    paint();
  });
}

export function paint({ endpoints: ends, total }, status, listeners) {
  const found = ends.filter(wanted).sort(ORDERS[$("endpoints-order").value]);
  const shown = all ? found : found.slice(0, FIRST);
  const longest = Math.max(0.001, ...ends.flatMap(({ tally }) => [tally.first_byte_fast.median ?? 0, tally.first_byte_plain.median ?? 0]));
  put($("endpoints-count"), total ? (found.length === ends.length ? count(total) : `${count(found.length)} of ${count(total)}`) : "");
  sync($("endpoints-list"), shown, (one) => one.endpoint, () => card(longest));
  for (const row of $("endpoints-list").rows.values()) row.scale(longest, status);
  $("endpoints-legend").hidden = $("endpoints-head").hidden = !shown.length;
  $("endpoints-more").hidden = found.length <= FIRST;
  put($("endpoints-more"), all ? "Show fewer" : `Show all ${count(found.length)}`);
  $("endpoints-empty").hidden = shown.length > 0;
  if (!shown.length) fill($("endpoints-empty"), [ends.length, listeners.map((one) => [one.mode, one.places])], () => (ends.length ? ["None is like that."] : ["Nothing has been dialled yet. ", ...hint(listeners)]));
}

function wanted(one) {
  const which = $("endpoints-which").value;
  const words = $("endpoints-find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = `${one.endpoint} ${one.clusters.join(" ")} ${one.condition} ${one.standing} ${one.error} ${one.why}`.toLowerCase();
  return (!which || tone(one) === which) && words.every((word) => text.includes(word));
}

// What a newcomer can do next.
export function hint(listeners) {
  const ways = { mixed: "curl -x http://", http: "curl -x http://", socks: "curl -x socks5h://", forward: "curl http://" };
  for (const { mode, places } of listeners) {
    const bind = places.map((place) => place.bind).find((text) => !text.startsWith("unix:"));
    if (!ways[mode] || !bind) continue;
    const where = bind.replace(/^(\*|0\.0\.0\.0|\[::\]):/, `${location.hostname || "127.0.0.1"}:`);
    const command = ways[mode] + where + (mode === "forward" ? "/" : " http://example.com/");
    return ["Send something through, twice, because the first time only fetches the cookie: ", el("code", {}, command)];
  }
  return ["Send a connection through one of the listeners."];
}

function card(longest) {
  const part = (name) => el("div", { class: `e-${name}` });
  const [who, what, rtt, cookie, sessions, saved, first] = ["who", "what", "rtt", "cookie", "sessions", "saved", "first"].map(part);
  const address = el("span", { class: "address" });
  const button = el("button", { type: "button", class: "e-name", "aria-expanded": "false" }, address);
  const clusters = el("span", { class: "why" });
  who.append(button, clusters);
  const badge = el("span", { class: "badge", tabindex: "0" });
  const why = el("span", { class: "why" });
  what.append(badge, why);
  const value = (cell, name, words) => {
    const node = el("span", { class: "v" });
    cell.append(el("span", { class: "k" }, term(name, words)), node);
    return node;
  };
  const [rttText, cookieText, sessionsText, savedText] = [value(rtt, "rtt", "round trip"), value(cookie, "cookie", "cookie"), value(sessions, "sessions_n", "sessions"), value(saved, "saved", "saved")];
  const openText = el("span", { class: "why" });
  sessions.append(openText);
  const chart = el("div", { class: "e-chart" });
  const chartText = el("span", { class: "v quiet" });
  first.append(el("span", { class: "k" }, term("first_byte", "first byte")), chart, chartText);
  const more = el("div", { class: "e-more" });
  more.hidden = true;
  const node = el("div", { class: "endpoint", role: "listitem" }, who, what, rtt, cookie, sessions, saved, first, more);
  reachable(node);
  let last = null;
  button.addEventListener("click", () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
    repaint();
  });
  return {
    nodes: [node],
    update(one) {
      last = one;
      const [words, , meaning] = badge_of(one);
      put(address, one.endpoint);
      put(clusters, one.clusters.join(", "));
      node.dataset.tone = tone(one);
      put(badge, words);
      badge.dataset.tip = meaning;
      put(rttText, time(one.rtt));
      put(cookieText, one.cookie.known ? "held" : one.standing === "unsupported" ? "none" : one.tally.evidence.cookie_requested ? "asked for" : "–");
      put(sessionsText, count(one.tally.sessions));
      put(openText, one.tally.open ? `${count(one.tally.open)} open` : "");
      put(savedText, time(net(one)));
      savedText.className = net(one) < -0.0005 ? "v bad" : net(one) > 0.0005 ? "v good" : "v";
    },
    scale(far, status) {
      put(why, why_of(last, status.now));
      const { first_byte_fast: fast, first_byte_plain: plain } = last.tally;
      fill(chart, [fast.median, plain.median, far ?? longest], () => (fast.count || plain.count ? dumbbell(fast, plain, far) : []));
      put(chartText, shortWords(fast, plain));
      if (!more.hidden) fill(more, [last, Math.floor(status.now / 60)], () => details(last, status));
    },
  };
}

// A median of few says little: it comes with their number.
const middle = ({ median, count: of }) => (of < 5 ? `${time(median)} (of ${of})` : time(median));
const shortWords = (fast, plain) => (fast.count && plain.count ? `${middle(fast)} / ${middle(plain)}` : fast.count ? middle(fast) : plain.count ? `${middle(plain)} without` : "–");

function details(one, { now, bounds }) {
  const { tally, cookie } = one;
  const facts = [
    ["Condition", one.condition],
    ["Fast Open", `${one.standing}: ${one.why}`],
    ["Next try", one.until && one.until > now ? `${since(one.until, now)}, in ${time(Math.ceil(one.until - now))}` : null],
    ["Plain how often", one.times ? `${plural(one.times, "time")} in a row${one.cause ? `, last because: ${evidence(one.cause)}` : ""}` : null],
    ["Most bytes in a SYN", one.syn_data ? bytes(one.syn_data) : "what one packet holds"],
    ["Cookie", cookie.known ? `${cookie.size ? bytes(cookie.size) : "held"}${cookie.age === null ? "" : `, ${time(Math.floor(cookie.age))} old`}` : "none yet"],
    ["Round trip", one.rtt === null ? null : `${time(one.rtt)} ± ${time(one.rtt_variation)}`],
    ["Round trips saved", count(tally.round_trips_saved)],
    ["Seconds saved, lost", `${time(tally.seconds_saved)}, ${time(tally.seconds_lost)}`],
    ["Carried", `${bytes(tally.up_bytes)} up, ${bytes(tally.down_bytes)} down`],
    ["Second dials", tally.hedges || tally.redials ? `${count(tally.hedges)} beside a silent one, ${count(tally.redials)} after a refusal` : null],
    ["On ready connections", tally.on_spares ? count(tally.on_spares) : null],
    ["Never got through", tally.failed ? count(tally.failed) : null],
  ].filter(([, value]) => value !== null);
  const seen = Object.entries(tally.evidence).sort(([, a], [, b]) => b - a);
  const picture = histogram(tally.first_byte_fast, tally.first_byte_plain, bounds);
  return [
    el("dl", { class: "facts" }, ...facts.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)))),
    el("div", { class: "seen" }, ...[
      seen.length > 0 && el("h3", {}, "What its handshakes showed"),
      seen.length > 0 && el("ul", {}, ...seen.map(([name, n]) => el("li", {}, el("b", {}, count(n)), ` × ${evidence(name)}`))),
      picture && el("h3", {}, "First byte: with Fast Open above, without below"),
      picture,
    ].filter(Boolean)),
  ];
}
