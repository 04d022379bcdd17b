// Where clients come in, where they go, and who carries them: listeners, clusters and workers.

import { $, el, fill } from "./dom.js";
import { count, plural, policy, time } from "./words.js";

function row(cells) {
  return cells.map(([content, cls, name]) => el("td", { class: cls, "data-name": name }, ...[content].flat()));
}

export function listeners({ listeners: all }) {
  $("listeners").hidden = !all.length;
  fill($("listeners-table").tBodies[0], all, () => all.map((one) => {
    const takes = one.places.filter((place) => place.fast_open).length;
    const refused = Object.entries(one.refused).map(([reason, n]) => `${count(n)} ${reason.replaceAll("_", " ")}`).join(", ");
    return el("tr", {},
      el("th", { scope: "row" }, one.name, refused && el("span", { class: "why" }, `rejected: ${refused}`)),
      ...row([
        [one.places.map((place) => place.bind).join(", "), "address"],
        [one.to && one.mode === "forward" ? `${one.mode} to ${one.to}` : one.mode],
        [takes === one.places.length && takes ? "yes" : takes ? `${takes} of ${one.places.length}` : "no", "", "takes Fast Open:"],
        [count(one.tally.open), "n", "open"], [count(one.tally.sessions), "n", "sessions"], [time(one.tally.seconds_saved), "n", "saved"],
      ]));
  }));
}

// --- clusters: how many of their servers are fit to be used

const SHOWN = 4;
const some = (names) => (names.length > SHOWN ? `${names.slice(0, SHOWN - 1).join(", ")} and ${count(names.length - SHOWN + 1)} more` : names.join(", "));
const isDirect = (one) => !one.endpoints.length;

function servers(one) {
  if (isDirect(one)) return ["wherever clients ask to go"];
  const out = [...one.down, ...one.ejected];
  if (one.members === null) return [plural(one.endpoints.length, "name or address", "names or addresses"), el("span", { class: "why" }, "not looked up yet")];
  if (!out.length) return [one.members === 1 ? "1" : `${count(one.members)}, all in use`];
  const why = [];
  if (one.down.length) why.push(`down: ${some(one.down)}`);
  if (one.ejected.length) why.push(`ejected: ${some(one.ejected)}`);
  const fit = one.members - out.length;
  return [el("span", { class: "bad" }, fit > 0 ? `${count(fit)} of ${count(one.members)} in use` : "none is well: all are tried"), el("span", { class: "why" }, why.join("; "))];
}

function fastOpen({ fast_open: how }) {
  return { auto: "where it gets through", always: "always", off: "off" }[how] ?? "";
}

export function clusters({ clusters: all }) {
  $("clusters").hidden = !all.length;
  fill($("clusters-table").tBodies[0], all, () => {
    return all.map((one) => {
      const [words, meaning] = policy(isDirect(one) ? "" : one.balance);
      return el("tr", {},
        el("th", { scope: "row" }, one.name, !isDirect(one) && el("span", { class: "why" }, some(one.endpoints))),
        ...row([
          [words && el("span", { "data-tip": meaning, class: "tipped", tabindex: "0" }, words), "", "balance:"],
          [servers(one), "", "servers:"], [fastOpen(one), "", "Fast Open:"],
          [count(one.tally.open), "n", "open"], [count(one.tally.sessions), "n", "sessions"], [time(one.tally.seconds_saved), "n", "saved"],
        ]));
    });
  });
}

export function workers({ workers: all, now }) {
  $("workers").hidden = !all.length;
  fill($("workers-table").tBodies[0], all.map((one) => [one, time(Math.floor(now - one.began))]), (from) => from.map(([one, up]) =>
    el("tr", {}, el("th", { scope: "row" }, `${one.number + 1}`, el("span", { class: "why" }, `process ${one.pid}, ${one.state}`)),
      ...row([[up, "", "up for"], [count(one.open), "n", "open"], [count(one.restarts), "n", "restarts"]]))));
}
