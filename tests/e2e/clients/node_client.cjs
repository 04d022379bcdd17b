// A library's ways to fetch a page: LIBRARY PROXY NPM URL...; prints [seconds to the first byte, the page] for each.
// NPM is the folder of npm, which brings the libraries along. PROXY is "-" for none.
const [library, proxy, npm, ...urls] = process.argv.slice(2);
const load = require("module").createRequire(npm + "/package.json");
const through = proxy === "-" ? null : proxy;

function byUndici(url) {
  const { Agent, ProxyAgent, request } = load("undici");
  const ca = { ca: require("fs").readFileSync(process.env.NODE_EXTRA_CA_CERTS) };
  const parts = through && new URL(through);
  const token = parts && parts.username ? "Basic " + btoa(parts.username + ":" + parts.password) : undefined;
  const bare = parts && parts.protocol + "//" + parts.host;
  const dispatcher = through ? new ProxyAgent({ uri: bare, token, requestTls: ca }) : new Agent({ connect: ca });
  return async () => {
    const began = performance.now();
    const { body } = await request(url, { dispatcher });
    const first = (performance.now() - began) / 1000;
    return [first, await body.text()];
  };
}

function byAgent(url, make) {
  const secure = url.startsWith("https:");
  const { get, Agent } = require(secure ? "https" : "http");
  const agent = through ? make(secure) : new Agent({ keepAlive: true });
  const fetch = () =>
    new Promise((resolve, reject) => {
      const began = performance.now();
      get(url, { agent }, (response) => {
        const first = (performance.now() - began) / 1000;
        let text = "";
        response.on("data", (piece) => (text += piece));
        response.on("end", () => resolve([first, text]));
        response.on("error", reject);
      }).on("error", reject);
    });
  return fetch;
}

const LIBRARIES = {
  undici: byUndici,
  "proxy-agent": (url) =>
    byAgent(url, (secure) => {
      const name = secure ? "HttpsProxyAgent" : "HttpProxyAgent";
      return new (load(secure ? "https-proxy-agent" : "http-proxy-agent")[name])(through, { keepAlive: true });
    }),
  "socks-proxy-agent": (url) =>
    byAgent(url, () => new (load("socks-proxy-agent").SocksProxyAgent)(through, { keepAlive: true })),
};

(async () => {
  const found = [];
  for (const url of urls) {
    const kept = LIBRARIES[library](url);
    found.push(await kept(), await kept(), await LIBRARIES[library](url)());
  }
  console.log(JSON.stringify(found));
  process.exit(0);
})();
