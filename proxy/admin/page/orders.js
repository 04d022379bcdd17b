// What the proxy can be told from here: to read its configuration again, and to stop. Nothing is sent unasked, stopping
// not without a second question, and where the proxy wants its token for an order, that is asked for.

import { $, el, put } from "./dom.js";
import { order, unlock } from "./live.js";
import { plural } from "./words.js";

let status = null;
let told = () => {};

// `tell(name, body)` takes what comes back as if the proxy had said it by itself.
export function begin(tell) {
  told = tell;
  $("reload").addEventListener("click", () => reload());
  $("drain").addEventListener("click", () => drain());
  $("order-no").addEventListener("click", () => $("order").close());
}

export function paint(now) {
  status = now;
  const stopping = now.state === "draining";
  $("reload").hidden = stopping || now.config === null || !now.takes_orders;
  $("drain").hidden = !now.takes_orders;
  put($("drain"), stopping ? "Stop at once…" : "Drain…");
}

async function reload() {
  const answer = await give("reload", "Read the configuration again");
  if (!answer) return;
  if (answer.status !== 200 && answer.status !== 422) return say(answer);
  told("last_reload", answer.body);
  if (!answer.body.ok) return say(null); // its mistakes are shown where those of every failed reload are
  const changed = answer.body.changed;
  say(null, el("p", { class: "fleeting" }, el("b", {}, "Reloaded. "), changed.length ? `New: ${changed.join(", ")}.` : "Nothing in it was different."));
}

async function drain() {
  const open = status.total.open;
  const stopping = status.state === "draining";
  const words = stopping
    ? `It waits for ${plural(open, "connection")} to end. To stop at once cuts ${open === 1 ? "it" : "them"} off.`
    : `From now on it takes no new connections. It waits for ${open ? `the ${plural(open, "connection")} it has` : "those it has"}, as long as its configuration says, and then it ends. What watches over it there (systemd, a container) may start it again.`;
  if (!(await confirmed(stopping ? "Stop at once?" : "Drain, and then stop?", words, stopping ? "Stop at once" : "Drain and stop"))) return;
  const answer = await give("drain", stopping ? "Stop at once" : "Drain and stop");
  if (answer) say(answer.status === 200 ? null : answer);
}

// The answer to an order, with a token if it takes one; null where somebody thought better of it.
async function give(name, what) {
  let wrong = false;
  for (;;) {
    let answer;
    try {
      answer = await order(name);
    } catch {
      say({ body: { error: "the proxy did not answer" } });
      return null;
    }
    if (answer.status !== 401) return answer;
    if (!(await confirmed(what, "An order needs the token: “token” under “admin” in the configuration.", what, { token: true, wrong }))) return null;
    wrong = true;
  }
}

// Asks in the middle of the page; whether the answer is yes.
function confirmed(title, words, yes, { token = false, wrong = false } = {}) {
  const dialog = $("order");
  put($("order-title"), title);
  put($("order-words"), words);
  put($("order-yes"), yes);
  $("order-token-field").hidden = !token;
  $("order-token").required = token;
  $("order-wrong").hidden = !wrong;
  dialog.showModal();
  return new Promise((done) => {
    let agreed = false;
    $("order-form").onsubmit = (event) => {
      event.preventDefault();
      agreed = true;
      if (token) unlock($("order-token").value);
      $("order-token").value = "";
      dialog.close();
    };
    dialog.onclose = () => {
      $("order-token").value = "";
      done(agreed);
    };
  });
}

// What came of the last order, until the next one.
function say(answer, fine = null) {
  $("ordered").replaceChildren();
  if (fine) $("ordered").append(el("div", { class: "notice", role: "status" }, fine));
  if (!answer) return;
  const error = answer.body?.error ?? `the answer was ${answer.status}`;
  const hint = answer.body?.do ?? "";
  $("ordered").append(el("div", { class: "notice bad", role: "alert" }, el("p", {}, el("b", {}, "That was not done: "), `${error}. `, hint)));
}
