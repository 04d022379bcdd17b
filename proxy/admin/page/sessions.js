// The last sessions and those that are open: where they went, how they were opened, and how they ended.

import { $, el, fill, put, sync } from "./dom.js";
import { bytes, clock, during, ending, failed, opening, time } from "./words.js";

const FIRST = 15;
const MOST = 100;
const WHICH = { "": () => true, saved: (one) => one.saved > 0, lost: (one) => one.lost > 0.0005, failed };

let held = null;
let all = false;

export function begin(paint) {
  for (const id of ["sessions-find", "sessions-which"]) $(id).addEventListener("input", paint);
  $("sessions-hold").addEventListener("click", () => {
    const hold = $("sessions-hold").getAttribute("aria-pressed") !== "true";
    $("sessions-hold").setAttribute("aria-pressed", String(hold));
    put($("sessions-hold"), hold ? "Paused" : "Pause");
    held = hold ? undefined : null;
    paint();
  });
  $("sessions-more").addEventListener("click", () => {
    all = !all;
    paint();
  });
}

export function paint(now) {
  if (held === undefined) held = now;
  const { recent, open } = held ?? now;
  const told = [...recent, ...open].map(whole).sort((a, b) => b.began + b.duration - (a.began + a.duration));
  const found = told.filter(wanted).slice(0, MOST);
  const shown = all ? found : found.slice(0, FIRST);
  sync($("sessions-list"), shown, (one) => one.id, row);
  $("sessions-empty").hidden = shown.length > 0;
  $("sessions-head").hidden = !shown.length;
  $("sessions-more").hidden = found.length <= FIRST;
  put($("sessions-more"), all ? "Show fewer" : `Show all ${found.length}`);
  put($("sessions-empty"), told.length ? "None is like that." : "No session yet. Those to come are listed here, the last one first.");
}

// What the proxy leaves out has its ordinary value.
function whole(one) {
  return { duration: 0, is_open: false, saved: 0, lost: 0, up_bytes: 0, down_bytes: 0, syn_bytes: 0, mode: "", user: "", protocol: "", open: "", ended_by: "", during: "", reason: "", detail: "", ...one };
}

function wanted(one) {
  const words = $("sessions-find").value.toLowerCase().split(/\s+/).filter(Boolean);
  const text = [one.id, one.client, one.listener, one.cluster, one.endpoint, one.authority, one.user, one.protocol, one.detail, ending(one), opening(one)].join(" ").toLowerCase();
  return WHICH[$("sessions-which").value](one) && words.every((word) => text.includes(word));
}

const gain = (one) => (one.is_open ? "" : one.saved > 0.00005 ? `+${time(one.saved)}` : one.lost > 0.0005 ? `−${time(one.lost)}` : "");

function row() {
  const part = (name) => el("div", { class: `s-${name}` });
  const [when, way, open, saved, size, end] = ["when", "way", "open", "saved", "size", "end"].map(part);
  const at = el("span", { class: "quiet" });
  when.append(at);
  const button = el("button", { type: "button", class: "s-name", "aria-expanded": "false" });
  const whence = el("span", { class: "why" });
  way.append(button, whence);
  const more = el("dl", { class: "facts s-more" });
  more.hidden = true;
  const ended = el("span");
  const stage = el("span", { class: "why" });
  end.append(ended, stage);
  const node = el("div", { class: "session", role: "listitem" }, when, way, open, saved, size, end, more);
  let last = null;
  const detail = () => more.hidden || fill(more, last, () => facts(last));
  button.addEventListener("click", () => {
    more.hidden = !more.hidden;
    button.setAttribute("aria-expanded", String(!more.hidden));
    detail();
  });
  return {
    nodes: [node],
    update(one) {
      last = one;
      put(at, clock(one.began + one.duration));
      put(button, one.authority ?? one.endpoint ?? (["accept", "sniff"].includes(one.during) ? "no destination" : one.cluster));
      put(whence, `from ${one.client}`);
      put(open, opening(one));
      put(saved, gain(one));
      saved.className = `s-saved ${one.saved > 0.00005 ? "good" : "bad"}`;
      put(size, `${bytes(one.up_bytes + one.down_bytes)} in ${time(one.duration)}`);
      put(ended, ending(one));
      put(stage, during(one));
      node.dataset.tone = one.is_open ? "open" : failed(one) ? "bad" : "fine";
      detail();
    },
  };
}

function facts(one) {
  const known = [
    ["Name in the log", one.id], ["Listener", one.listener], ["Cluster", one.cluster], ["Server", one.endpoint], ["Asked by", one.mode], ["User", one.user], ["Spoke", one.protocol],
    ["Waited for first bytes", one.waited ? time(one.waited) : ""], ["Handshake", one.dial_time ? time(one.dial_time) : ""], ["First byte", one.first_byte ? time(one.first_byte) : ""],
    ["Round trip", one.rtt ? time(one.rtt) : ""], ["Up, down", `${bytes(one.up_bytes)}, ${bytes(one.down_bytes)}`],
    ["Also tried", [one.hedged && "a second dial beside it", one.redialled && "a plain dial after it"].filter(Boolean).join(", ")], ["Detail", one.detail],
  ];
  return known.filter(([, value]) => value).map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value)));
}
