// Small pictures, as SVG: the last hour, first bytes with and without Fast Open, and the two handshakes.

import { svg } from "./dom.js";
import { clock, count, plural, time } from "./words.js";
import { hide, show } from "./tip.js";

const MINUTES = [15, 60]; // a young proxy need not look for its bars
const WIDE = 600;
const HIGH = 120;

export const minuteWords = (m) =>
  `${clock(m.began, false)}: ${plural(m.round_trips_saved, "round trip")} saved, ${time(m.seconds_saved)}` +
  `${m.seconds_lost > 0.0005 ? `; lost by trying ${time(m.seconds_lost)}` : ""}; ${plural(m.sessions, "session")}`;

// How many minutes the chart spans.
export const span = (minutes) => Math.min(Math.max(minutes.length, MINUTES[0]), MINUTES[1]);

// Bars of seconds saved above the line, of seconds lost below it. `minutes` is the last hour, oldest first.
export function minutesChart(minutes) {
  const slots = span(minutes);
  const shown = minutes.slice(-slots);
  const most = Math.max(0.001, ...shown.map((m) => m.seconds_saved));
  const least = Math.max(0, ...shown.map((m) => m.seconds_lost));
  const zero = HIGH * (most / (most + Math.min(least, most))) - (least ? 0 : 1);
  const scale = zero / most;
  const step = WIDE / slots;
  const root = svg("svg", { viewBox: `0 0 ${WIDE} ${HIGH}`, preserveAspectRatio: "none", class: "minutes", role: "img", tabindex: "0" });
  root.setAttribute("aria-label", `Seconds saved in each of the last ${plural(shown.length, "minute")}. Arrow keys go from minute to minute.`);
  shown.forEach((m, i) => {
    const x = (slots - shown.length + i) * step;
    const up = m.seconds_saved ? Math.max(1.5, m.seconds_saved * scale) : 0;
    const down = m.seconds_lost > 0.0005 ? Math.max(1.5, Math.min(HIGH - zero, m.seconds_lost * scale)) : 0;
    root.append(svg("rect", { x: x + 1, y: zero - up, width: step - 2, height: up, class: "up" }));
    root.append(svg("rect", { x: x + 1, y: zero, width: step - 2, height: down, class: "down" }));
    const column = svg("rect", { x, y: 0, width: step, height: HIGH, class: "column" });
    column.dataset.tip = minuteWords(m);
    root.append(column);
  });
  root.append(svg("line", { x1: 0, x2: WIDE, y1: zero, y2: zero, class: "zero" }));
  walkable(root);
  return root;
}

// Left and right go from column to column, and tell what each stands for.
function walkable(root) {
  let at = -1;
  root.addEventListener("keydown", (event) => {
    const columns = [...root.querySelectorAll(".column")];
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !columns.length) return;
    event.preventDefault();
    columns[at]?.classList.remove("at");
    at = at < 0 ? columns.length - 1 : Math.min(Math.max(at + step, 0), columns.length - 1);
    columns[at].classList.add("at");
    root.setAttribute("aria-label", columns[at].dataset.tip);
    show(columns[at]);
  });
  root.addEventListener("blur", () => {
    root.querySelector(".at")?.classList.remove("at");
    at = -1;
    hide();
  });
}

// Median first bytes on a scale that all rows share (`longest` seconds): filled with Fast Open, hollow without.
export function dumbbell(fast, plain, longest) {
  const root = svg("svg", { viewBox: "0 0 160 20", class: "dumbbell", role: "img", "aria-label": firstByteWords(fast, plain) });
  const x = (seconds) => 8 + 144 * Math.sqrt(Math.min(seconds / longest, 1)); // near and far both fit
  root.append(svg("line", { x1: 2, x2: 158, y1: 10, y2: 10, class: "track" }));
  const a = fast.median ?? null;
  const b = plain.median ?? null;
  if (a !== null && b !== null) root.append(svg("line", { x1: x(a), x2: x(b), y1: 10, y2: 10, class: a <= b ? "gain" : "loss" }));
  if (b !== null) root.append(svg("circle", { cx: x(b), cy: 10, r: 4.5, class: "plain" }));
  if (a !== null) root.append(svg("circle", { cx: x(a), cy: 10, r: 5, class: "fast" }));
  return root;
}

export function firstByteWords(fast, plain) {
  const said = [];
  if (fast.count) said.push(`with Fast Open ${time(fast.median)} (of ${fast.count})`);
  if (plain.count) said.push(`without ${time(plain.median)} (of ${plain.count})`);
  return said.length ? said.join(", ") : "no answer yet";
}

// Two histograms over the same bounds, one up, one down.
export function histogram(fast, plain, bounds) {
  const used = [...bounds.keys(), bounds.length].filter((i) => (fast.counts[i] ?? 0) + (plain.counts[i] ?? 0));
  if (!used.length) return null;
  const first = Math.max(0, used[0] - 1);
  const last = Math.min(bounds.length, used[used.length - 1] + 1);
  const sum = (spread) => spread.counts.reduce((a, b) => a + b, 0);
  const [all, others] = [sum(fast), sum(plain)];
  const share = (spread, i) => (spread.counts[i] ?? 0) / ((spread === fast ? all : others) || 1);
  let most = 0;
  for (let i = first; i <= last; i++) most = Math.max(most, share(fast, i), share(plain, i));
  const width = 420;
  const step = width / (last - first + 1);
  const root = svg("svg", { viewBox: `0 0 ${width} 132`, class: "histogram", role: "img", "aria-label": `First byte: ${firstByteWords(fast, plain)}` });
  const every = Math.ceil((last - first + 1) / 7);
  for (let i = first; i <= last; i++) {
    const x = (i - first) * step;
    const [up, down] = [(54 * share(fast, i)) / most, (54 * share(plain, i)) / most];
    root.append(svg("rect", { x: x + 1, y: 56 - up, width: step - 2, height: up, class: "fast" }));
    root.append(svg("rect", { x: x + 1.5, y: 58, width: step - 3, height: down, class: "plain" }));
    const column = svg("rect", { x, y: 0, width: step, height: 114, class: "column" });
    const upto = i < bounds.length ? `up to ${time(bounds[i])}` : `over ${time(bounds[bounds.length - 1])}`;
    column.dataset.tip = `${upto}: ${count(fast.counts[i] ?? 0)} with Fast Open, ${count(plain.counts[i] ?? 0)} without`;
    root.append(column);
    if (i < bounds.length && (i - first) % every === 0 && x + step < width - 10) {
      const label = svg("text", { x: x + step, y: 129, class: "tick" });
      label.textContent = time(bounds[i]);
      root.append(label);
    }
  }
  root.append(svg("line", { x1: 0, x2: width, y1: 57, y2: 57, class: "zero" }));
  return root;
}

// The two handshakes, for those who have never seen one.
export function handshakes() {
  const ladder = (title, steps) => {
    const end = 40 + steps.length * 36;
    const root = svg("svg", { viewBox: "0 0 240 206", role: "img", class: "ladder", "aria-label": `${title}: ${steps.map(([words]) => words).join(", ")}` });
    const say = (x, y, anchor, words, cls) => {
      const node = svg("text", { x, y, "text-anchor": anchor, class: cls });
      node.textContent = words;
      root.append(node);
    };
    say(120, 12, "middle", title, "title");
    say(24, 28, "middle", "proxy", "who");
    say(216, 28, "middle", "server", "who");
    root.append(svg("line", { x1: 24, x2: 24, y1: 34, y2: 184, class: "life" }), svg("line", { x1: 216, x2: 216, y1: 34, y2: 184, class: "life" }));
    steps.forEach(([words, out, strong], i) => {
      const [y1, y2] = [52 + i * 36, 66 + i * 36];
      const [x1, x2] = out ? [26, 212] : [214, 28];
      const tail = out ? -1 : 1;
      const cls = strong ? "arrow strong" : "arrow";
      root.append(svg("line", { x1, y1, x2, y2, class: cls }));
      root.append(svg("path", { d: `M${x2} ${y2}l${7 * tail} -4.6M${x2} ${y2}l${8 * tail} 3.4`, class: cls }));
      say(120, (y1 + y2) / 2 - 6, "middle", words, strong ? "words strong" : "words");
    });
    say(32, end + 8, "start", title === "ordinary" ? "2 round trips" : "1 round trip", "sum");
    return root;
  };
  return [
    ladder("ordinary", [["SYN", true], ["SYN-ACK", false], ["request", true, true], ["answer", false, true]]),
    ladder("with Fast Open", [["SYN + request", true, true], ["SYN-ACK + answer", false, true]]),
  ];
}
