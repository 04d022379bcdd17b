// What the proxy says, as it happens: server-sent events, read by fetch so that a token can go with it; and where they
// do not come (a proxy in between that collects them), asking every two seconds.

const EVENTS = "api/v1/events";
const ASKED = { status: "api/v1/status", listeners: "api/v1/listeners", clusters: "api/v1/clusters", endpoints: "api/v1/endpoints?limit=500", sessions: "api/v1/sessions?limit=100" };
const SILENCE = 6000;
const POLL = 2000;
const LONGEST = 10000;
const LONGEST_ORDER = 60000; // names in a configuration are looked up

const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
const seen = () => new Promise((done) => {
  if (!document.hidden) return done();
  const look = () => {
    if (document.hidden) return;
    document.removeEventListener("visibilitychange", look);
    done();
  };
  document.addEventListener("visibilitychange", look);
});
export class Locked extends Error {}

let token = sessionStorage.getItem("token");
export function unlock(given) {
  token = given;
  if (given === null) sessionStorage.removeItem("token");
  else sessionStorage.setItem("token", given);
}

async function ask(path, signal, accept = "application/json") {
  const headers = { Accept: accept };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(path, { headers, signal, cache: "no-store" });
  if (answer.status === 401 || answer.status === 403) throw new Locked();
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer;
}

// Tells the proxy to do something; its answer, whatever it is.
export async function order(name) {
  const headers = { Accept: "application/json" };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  const answer = await fetch(`api/v1/${name}`, { method: "POST", headers, cache: "no-store", signal: AbortSignal.timeout(LONGEST_ORDER) });
  return { status: answer.status, body: await answer.json().catch(() => null) };
}

// The events of a stream (WHATWG HTML 9.2.6), as [name, data].
async function* events(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let name = "message";
  let data = [];
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    alive();
    const lines = (rest + value).split(/\r\n|\n|\r/);
    rest = lines.pop();
    for (const line of lines) {
      if (line === "") {
        if (data.length) yield [name, data.join("\n")];
        name = "message";
        data = [];
      } else if (line.startsWith("event:")) name = line.slice(6).trim();
      else if (line.startsWith("data:")) data.push(line.slice(5).replace(/^ /, ""));
    }
  }
}

async function stream(take) {
  const stop = new AbortController();
  let timer = 0;
  const alive = () => {
    clearTimeout(timer);
    timer = setTimeout(() => stop.abort(), SILENCE);
  };
  alive();
  const away = () => document.hidden && stop.abort();
  document.addEventListener("visibilitychange", away);
  let heard = false;
  try {
    const answer = await ask(EVENTS, stop.signal, "text/event-stream");
    if (!answer.headers.get("Content-Type")?.startsWith("text/event-stream")) return false;
    for await (const [name, data] of events(answer.body, alive)) {
      heard = true;
      take(name, JSON.parse(data), "live");
    }
  } catch (error) {
    if (error instanceof Locked || !heard) throw error;
  } finally {
    clearTimeout(timer);
    document.removeEventListener("visibilitychange", away);
    stop.abort();
  }
  return heard;
}

async function poll(take) {
  const limit = AbortSignal.timeout(SILENCE);
  const bodies = await Promise.all(Object.entries(ASKED).map(async ([name, path]) => [name, await (await ask(path, limit)).json()]));
  for (const [name, body] of bodies) take(name, body, "asked every 2 s");
}

// Never ends. `take(name, body, how)` gets everything, `gone(ms)` is told that nobody answers and when it is tried
// again, `locked()` is awaited when a token is wanted.
export async function follow(take, gone, locked) {
  let failures = 0;
  for (;;) {
    await seen(); // nobody looks: nothing is asked
    try {
      await poll(take); // the whole picture at once; and what the stream does not bring
      failures = 0;
      if (!(await stream(take).catch((error) => { if (error instanceof Locked) throw error; return false; }))) {
        for (let round = 0; round < 15; round++) { // then the stream gets another chance
          await sleep(POLL);
          await seen();
          await poll(take);
        }
      }
    } catch (error) {
      if (error instanceof Locked) {
        await locked(token !== null);
        continue;
      }
      failures += 1;
      const pause = Math.min(500 * 2 ** failures, LONGEST);
      gone(pause);
      await sleep(pause);
    }
  }
}
