// The page of a running tfo-proxy: takes what the proxy says and puts it where it belongs.

import { handshakes, minutesChart, span } from "./charts.js";
import { $, el, fill, prose, put, sync, term } from "./dom.js";
import * as endpoints from "./endpoints.js";
import { follow, unlock } from "./live.js";
import * as orders from "./orders.js";
import * as places from "./places.js";
import * as sessions from "./sessions.js";
import * as tip from "./tip.js";
import { bytes, clock, count, percent, plural, since, time } from "./words.js";

const known = {};

// --- the head

function head({ version, state, uptime, config, pid }) {
  put($("version"), version);
  put($("state"), state);
  $("state").className = `state ${state}`;
  put($("uptime"), `for ${time(Math.floor(uptime))}`);
  $("uptime").dataset.tip = `Process ${pid}${config ? `, configured by ${config}` : ""}`;
}

const SHOWN_ABOVE = /^(The configuration was changed and refused|It is draining)/;

// How many endpoints are in trouble, by condition.
const troubles = (conditions = {}) => ["down", "ejected", "failing"].filter((name) => conditions[name]).map((name) => [name, conditions[name]]);

function notices({ state, last_reload: reload, notes, now }, ends) {
  const bad = troubles(ends?.conditions);
  fill($("notices"), { state, reload, notes, bad, total: ends?.total, day: reload && since(reload.at, now) }, () => [
    bad.length > 0 && el("div", { class: "notice bad", role: "status" }, el("p", {}, el("b", {}, `${count(bad.reduce((sum, [, n]) => sum + n, 0))} of ${plural(ends.total, "endpoint")} in trouble: `), bad.map(([name, n]) => `${count(n)} ${name}`).join(", "), ". They stand first below.")),
    state === "draining" && el("div", { class: "notice", role: "status" }, el("p", {}, el("b", {}, "Draining. "), "It takes no new connections, waits for those it has, and then stops.")),
    reload && !reload.ok && el("div", { class: "notice bad", role: "alert" },
      el("p", {}, el("b", {}, `The configuration was not reloaded at ${since(reload.at, now)}. `), "The one before it stays in force. ",
        `${plural(reload.mistakes.length, "mistake")}:`),
      el("ol", { class: "mistakes" }, ...reload.mistakes.map((mistake) => el("li", {}, mistake)))),
    reload?.ok && reload.warnings.length > 0 && el("div", { class: "notice" }, el("p", {}, el("b", {}, "The last reload had warnings:")), el("ul", { class: "mistakes" }, ...reload.warnings.map((w) => el("li", {}, w)))),
    ...notes.filter((note) => !SHOWN_ABOVE.test(note)).map((note) => el("div", { class: "notice" }, el("p", {}, ...prose(note)))),
  ]);
}

// --- the warm-up

function found(one) {
  const kinds = [[one.fetched, "gave a cookie"], [one.held, "had given one before"], [one.no_fast_open, "do no Fast Open"], [one.dropped, "lie behind something that swallows it"], [one.unreachable, "did not answer"]];
  return kinds.filter(([n]) => n).map(([n, words]) => `${count(n)} ${words}`).join(", ");
}

function warmUp({ warm_up: one, now }) {
  const running = one && !one.is_over;
  fill($("warming"), running && [one, Math.floor(now)], () => running && el("div", { class: "notice" },
    el("p", {}, el("b", {}, term("warm_up", "Warming up: ")), `${count(one.endpoints - one.waiting)} of ${plural(one.endpoints, "endpoint")}, for ${time(Math.floor(one.seconds))}${one.waiting < one.endpoints ? `: ${found(one)}` : ""}.`),
    el("progress", { max: one.endpoints, value: one.endpoints - one.waiting, "aria-label": "Warm-up" })));
  if (running) tip.reachable($("warming"));
  $("warmed").hidden = !one || running;
  if (one && !running) fill($("warmed"), [one.began, one.endpoints, found(one)], () => [term("warm_up", "Warmed up"), ` at ${since(one.began + one.seconds, now)} in ${time(one.seconds)}: of ${plural(one.endpoints, "configured endpoint")} ${found(one)}.`]);
  if (one && !running) tip.reachable($("warmed"));
}

// --- what is saved

function hero({ total, minutes, counted_since: began, now, saved_per_minute: trips, seconds_saved_per_minute: seconds }, places) {
  put($("trips"), count(total.round_trips_saved));
  fill($("hero-words"), [total.seconds_saved, total.seconds_lost, total.sessions, Math.round(trips * 10), Math.round(seconds * 1000), total.sessions ? "" : places.map((one) => one.places)], () => {
    if (!total.sessions) return ["Nothing has gone through yet. ", ...endpoints.hint(places)];
    const lost = total.seconds_lost >= 0.0005 ? ` Trying cost ${time(total.seconds_lost)}.` : "";
    return [
      el("b", {}, time(total.seconds_saved)), ` less waiting in ${plural(total.sessions, "connection")} since ${since(began, now)}.${lost} `,
      el("span", { class: "rate" }, trips ? `Right now ${trips < 10 ? trips.toFixed(1).replace(/\.0$/, "") : count(Math.round(trips))} round trips and ${time(seconds)} a minute.` : "None in the last five minutes."),
    ];
  });
  if ($("minutes").querySelector(":focus-visible")) return; // who walks through it by keyboard keeps the place
  fill($("minutes"), minutes, () => minutesChart(minutes));
  const most = Math.max(0, ...minutes.map((m) => m.seconds_saved));
  put($("minutes-most"), most ? `(at most ${time(most)})` : "");
  put($("minutes-from"), minutes.length ? clock(minutes.at(-1).began - 60 * (span(minutes) - 1), false) : "");
}

function figures({ total, minutes }) {
  const taken = total.evidence.syn_data_acked ?? 0;
  const dialled = Object.values(total.evidence).reduce((sum, n) => sum + n, 0);
  const last = minutes.slice(-6, -1);
  const rate = last.length ? last.reduce((sum, m) => sum + m.sessions, 0) / last.length : (minutes.at(-1)?.sessions ?? 0);
  const shown = [
    ["syn_data", "data in the SYN", percent(taken, dialled)],
    ["per_session", "saved by each", total.round_trips_saved ? time(total.seconds_saved / total.round_trips_saved) : "–"],
    ["lost", "lost by trying", time(total.seconds_lost), total.seconds_lost > total.seconds_saved ? "bad" : ""],
    ["open_now", "open now", count(total.open)],
    ["session", "sessions a minute", rate < 10 ? rate.toFixed(1).replace(/\.0$/, "") : count(Math.round(rate))],
    ["carried", "carried", bytes(total.up_bytes + total.down_bytes)],
    ["failed", "reached no server", count(total.failed)],
  ];
  sync($("figures"), shown, ([name]) => name, ([name, words]) => {
    const value = el("dd");
    const node = el("div", {}, el("dt", {}, term(name, words)), value);
    tip.reachable(node);
    return { nodes: [node], update: ([, , text, tone]) => { put(value, text); value.className = tone ?? ""; } };
  });
}

// --- from the proxy to the page

function paint() {
  const { status, listeners, clusters, endpoints: ends, sessions: last } = known;
  if (!status) return;
  $("content").hidden = false;
  $("door").hidden = true;
  head(status);
  notices(status, ends);
  warmUp(status);
  orders.paint(status);
  hero(status, listeners?.listeners ?? []);
  figures(status);
  if (ends) endpoints.paint(ends, status, listeners?.listeners ?? []);
  if (last) sessions.paint(last, status.now);
  if (listeners) places.listeners(listeners);
  if (clusters) places.clusters(clusters);
  places.workers(status);
  const mark = troubles(ends?.conditions).length || (status.last_reload && !status.last_reload.ok) ? "⚠ " : "";
  document.title = mark + (status.state === "ready" ? `${count(status.total.round_trips_saved)} saved · tfo-proxy` : `${status.state} · tfo-proxy`);
}

let painting = false;
let countdown = 0;

function take(name, body, how) {
  clearInterval(countdown);
  known[name] = body;
  if (name === "status" && !known.first) openPrimer(body);
  put($("live-words"), how);
  $("live").className = "bar-live on";
  document.body.classList.remove("stale");
  $("gone")?.remove();
  if (painting) return;
  painting = true;
  requestAnimationFrame(() => {
    painting = false;
    paint();
  });
}

function openPrimer(status) {
  known.first = true;
  $("primer").open = !status.total.sessions;
}

function gone(pause) {
  clearInterval(countdown);
  let left = Math.ceil(pause / 1000);
  const tell = () => {
    put($("live-words"), `no answer, again in ${left} s`);
    left = Math.max(left - 1, 0);
  };
  $("live").className = "bar-live off";
  document.body.classList.add("stale");
  if (!$("gone")) {
    const last = known.status ? ` All numbers are those of ${clock(known.status.now)}.` : "";
    $("notices").before(el("div", { class: "notice bad", id: "gone", role: "alert" }, el("p", {}, el("b", {}, "The proxy does not answer. "), `It may have been stopped, or the way to it is interrupted.${last} This page comes back by itself.`)));
  }
  tell();
  countdown = setInterval(tell, 1000);
}

function locked(wrong) {
  $("door").hidden = false;
  $("content").hidden = true;
  $("door-wrong").hidden = !wrong;
  put($("live-words"), "locked");
  $("live").className = "bar-live off";
  $("token").focus();
  return new Promise((done) => {
    $("door").onsubmit = (event) => {
      event.preventDefault();
      unlock($("token").value);
      $("token").value = "";
      done();
    };
  });
}

// --- colours

const THEMES = { auto: ["Auto", "as the system says"], light: ["Light", "light"], dark: ["Dark", "dark"] };

function theme(name) {
  document.documentElement.dataset.theme = name;
  put($("theme"), THEMES[name][0]);
  $("theme").setAttribute("aria-label", `Colours: ${THEMES[name][1]}`);
}

$("theme").addEventListener("click", () => {
  const names = Object.keys(THEMES);
  const next = names[(names.indexOf(document.documentElement.dataset.theme) + 1) % names.length];
  localStorage.setItem("theme", next);
  theme(next);
});

theme(localStorage.getItem("theme") in THEMES ? localStorage.getItem("theme") : "auto");
$("handshakes").append(...handshakes());
tip.begin();
endpoints.begin(paint);
sessions.begin(paint);
orders.begin((name, body) => {
  known.status[name] = body;
  paint();
});
follow(take, gone, locked);
