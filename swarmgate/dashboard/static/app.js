// Shows what the API tells. Whatever comes from there is set as text, never as markup.

const API = new URL("../api/", document.baseURI);
API.username = API.password = ""; // Whoever opens the page as http://user:password@host is known to the browser by now.
const EVERY = 2000; // Milliseconds between two questions for numbers.
const AGAIN = 4000; // Milliseconds until a page is drawn anew of which nothing has been heard.
const KEPT = 90; // Points of a plot.
const SHOWN = 50; // Items of a list at a time.

const main = document.getElementById("main");
const state = document.getElementById("state");
const moments = []; // What traffic was, oldest first.
let changes = []; // What has changed since the page was opened, newest first.
let lastHeard = 0;
let page = null; // What is shown: {name, refresh}.
let features = {}; // What the gate lets do, as the overview tells.

// ---- building blocks

function el(name, options = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(options)) {
    if (key.startsWith("on")) element.addEventListener(key.slice(2), value);
    else if (value !== false && value !== undefined) element.setAttribute(key, value === true ? "" : value);
  }
  element.append(...children.flat(2).filter((one) => one !== null && one !== undefined));
  return element;
}

// Put *children* into *box*; what had the focus has it still, found again by its data-key.
function swap(box, ...children) {
  const held = box.contains(document.activeElement) ? document.activeElement.dataset.key : "";
  box.replaceChildren(...children);
  if (held) box.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
}

async function ask(path, query = {}) {
  const url = new URL(path, API);
  for (const [key, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== "") url.searchParams.append(key, one);
  }
  const answer = await fetch(url, { cache: "no-store" });
  const told = await answer.json().catch(() => ({ message: `${answer.status} ${answer.statusText}` }));
  if (!answer.ok) throw new Error(told.message || `${answer.status}`);
  lastHeard = Date.now();
  return { told, next: Number(answer.headers.get("X-Next-Page") || 1) };
}

const number = (value) => value.toLocaleString("en", { maximumFractionDigits: value < 10 ? 1 : 0 });
const percent = (value) => `${(100 * value).toFixed(value && value < 0.1 ? 2 : 0)} %`;
const duration = (seconds) =>
  seconds === null ? "–" : seconds < 1 ? `${number(seconds * 1000)} ms` : `${number(seconds)} s`;

const TONES = { enabled: "good", running: "good", ready: "good", active: "good", warning: "warn", draining: "warn" };
const tag = (text, tone) => el("span", { class: `tag ${tone || TONES[text] || "bad"}` }, text);

function table(heads, rows, empty) {
  if (!rows.length) return el("p", { class: "soft" }, empty);
  const row = (cells) => el("tr", {}, cells.map((cell, at) => el("td", { class: heads[at].number && "number", "data-head": heads[at].number && heads[at].text }, cell)));
  const head = el("tr", {}, heads.map((one) => el("th", { scope: "col", class: one.number && "number" }, one.text)));
  return el("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": heads[0].text },
    el("table", {}, el("thead", {}, head), el("tbody", {}, rows.map(row))));
}

const head = (text) => ({ text });
const figure = (text) => ({ text, number: true });
const path = (parts) => el("div", { class: "path" }, parts.filter(Boolean).map((one) => el("span", {}, one)));
const faults = (item) => (item.error || []).map((one) => one.replace(/^(router|service|middleware) [^ ]+: /, ""));
const errors = (item) => faults(item).map((one) => el("div", { class: item.status === "warning" ? "warn" : "bad" }, one));

// ---- numbers

// What has come between two moments: requests a second, the share of errors, and quantiles from the buckets.
function between(before, after, bounds, seconds) {
  const none = { requests: 0, errors: 0, counts: bounds.map(() => 0).concat(0) };
  const from = before || none;
  if (!after || after.requests < from.requests) return null;
  const counts = after.counts.map((count, at) => count - from.counts[at]);
  const requests = after.requests - from.requests;
  const quantile = (share) => {
    // How long a WebSocket was open is in no bucket.
    const known = counts.reduce((sum, count) => sum + count, 0);
    if (!known) return null;
    let left = share * known;
    for (let at = 0; at < counts.length; at++) {
      if (left <= counts[at]) {
        const low = at ? bounds[at - 1] : 0;
        return at < bounds.length ? low + ((bounds[at] - low) * left) / counts[at] : low;
      }
      left -= counts[at];
    }
    return null;
  };
  return {
    rate: requests / seconds, errors: requests ? (after.errors - from.errors) / requests : 0,
    half: quantile(0.5), most: quantile(0.95), nearly: quantile(0.99),
  };
}

function sum(tallies) {
  const all = Object.values(tallies);
  if (!all.length) return null;
  return all.reduce((total, one) => ({
    requests: total.requests + one.requests, errors: total.errors + one.errors,
    counts: total.counts.map((count, at) => count + one.counts[at]),
  }));
}

// The numbers of the last while for what *pick* takes of a moment.
function recent(pick, span = 5) {
  const last = moments.at(-1);
  const first = moments.at(-1 - Math.min(span, moments.length - 1));
  if (!last || first === last) return null;
  return between(pick(first), pick(last), last.bounds, last.at - first.at);
}

function history(pick) {
  const points = [];
  for (let at = 1; at < moments.length; at++) {
    const [from, to] = [moments[at - 1], moments[at]];
    points.push(between(pick(from), pick(to), to.bounds, to.at - from.at));
  }
  return points;
}

// A plot; *text* says what its highest value is.
function plot(label, series, text) {
  const highest = Math.max(...series.flat().filter(Number.isFinite), 0);
  const points = Math.max(...series.map((values) => values.length));
  const seconds = (points * EVERY) / 1000;
  const span = el("span", {}, !points ? "" : seconds < 120 ? `last ${Math.round(seconds)} s` : `last ${Math.round(seconds / 60)} min`);
  return el("div", { class: "plot" }, draw(label, series, highest || 1),
    el("div", { class: "soft scale" }, span, el("span", {}, highest ? `highest ${text(highest)}` : "")));
}

function draw(label, series, highest) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const put = (name, attributes) => {
    const shape = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) shape.setAttribute(key, value);
    svg.append(shape);
  };
  const width = Math.max(...series.map((values) => values.length), 15);
  svg.setAttribute("viewBox", `0 0 ${width} 30`);
  svg.setAttribute("preserveAspectRatio", "none");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", label);
  series.forEach((values, at) => {
    const line = values
      .map((value, place) => [width - values.length + place + 1, 29 - (27 * (value || 0)) / highest])
      .map(([x, y]) => `${x},${y.toFixed(2)}`);
    if (line.length < 2) return;
    const start = width - values.length + 1;
    if (series.length === 1) put("polygon", { class: "area", points: `${start},30 ${line.join(" ")} ${width},30` });
    put("polyline", { class: `stroke ${["", "two", "three"][at]}`, points: line.join(" ") });
  });
  return svg;
}

const card = (title, text, extra, tone = "") =>
  el("div", { class: "card" }, el("h3", {}, title), el("p", { class: `figure ${tone}` }, text), extra);

// Three durations in the colours of their lines.
const quantiles = (now) => el("span", { class: "quantiles" }, [["half", "50 %"], ["most", "95 %"], ["nearly", "99 %"]].map(([key, text], at) =>
  el("span", { class: ["one", "two", "three"][at] }, duration(now ? now[key] : null), el("small", {}, text))));
const capital = (text) => text[0].toUpperCase() + text.slice(1);

// ---- pages; each gives a function that shows what is new

function ofSwarm({ nodes, services }) {
  const ready = nodes.filter((one) => one.state === "ready" && one.availability === "active").length;
  const tasks = services.flatMap((one) => one.tasks);
  const running = tasks.filter((one) => one.state === "running").length;
  const coming = tasks.filter((one) => !one.error && !["running", "draining"].includes(one.state)).length;
  return [
    card("Nodes", number(nodes.length), el("span", { class: ready === nodes.length ? "soft" : "warn" }, `${ready} ready and active`)),
    card("Tasks running", number(running), el("span", { class: coming ? "warn" : "soft" }, `${coming} on their way`)),
  ];
}

async function overview() {
  const figures = el("div", { class: "cards" });
  const counts = el("div", { class: "cards counts" });
  const problems = el("div");
  main.replaceChildren(
    el("h2", {}, "Problems"), problems, el("h2", {}, "Traffic"), figures, el("h2", {}, "What there is"), counts);
  const all = (moment) => sum(moment.entryPoints);
  const numbers = () => {
    const now = recent(all);
    const past = history(all);
    const rates = past.map((one) => one && one.rate);
    const failed = past.map((one) => one && one.errors);
    const seconds = ["half", "most", "nearly"].map((key) => past.map((one) => one && one[key]));
    figures.replaceChildren(
      card("Requests a second", now ? number(now.rate) : "–", plot("requests a second", [rates], number)),
      card("Answered with 5xx", now ? percent(now.errors) : "–", plot("share of errors", [failed], percent), now && now.errors ? "bad" : ""),
      card("Answered within", quantiles(now), plot("duration of half, of 95 and of 99 percent of the requests", seconds, duration)));
  };
  const things = async () => {
    const { told } = await ask("overview");
    counts.replaceChildren(...Object.entries(told.http).map(([name, one]) => card(
      capital(name), number(one.total), el("div", {},
        el("span", { class: one.errors ? "bad" : "soft" }, `${one.errors} off`), " · ",
        el("span", { class: one.warnings ? "warn" : "soft" }, `${one.warnings} with warnings`)))),
    card("Providers", told.providers.join(", ") || "none"));
    const found = [];
    const heard = [];
    for (const kind of ["routers", "services", "middlewares"]) {
      for (const status of ["disabled", "warning"]) {
        const { told: items } = await ask(`http/${kind}`, { status, per_page: 20 });
        heard.push(...items.flatMap((item) => item.error || []));
        found.push(...items.map((item) => el("div", { class: `problem ${status === "warning" ? "warn" : ""}` },
          `${kind.slice(0, -1)} `, el("strong", {}, item.name), `: `, faults(item).join("; ") || "no entry point has it")));
      }
    }
    for (const status of ["disabled", "warning"]) {
      const { told: items } = await ask("certificates", { status, per_page: 20 });
      found.push(...items.map((item) => el("div", { class: `problem ${status === "warning" ? "warn" : ""}` },
        "certificate for ", el("strong", {}, item.name), `: ${faults(item).join("; ")}`)));
    }
    const { told: swarm } = await ask("swarm");
    for (const node of swarm.nodes.filter((one) => one.state !== "ready")) {
      found.push(el("div", { class: "problem" }, "node ", el("strong", {}, node.hostname), ` is ${node.state}`));
    }
    for (const service of swarm.services) {
      const unsaid = service.problems.filter((one) => !heard.includes(one));
      if (unsaid.length) found.unshift(el("div", { class: "problem" }, "Swarm service ", el("strong", {}, service.name), `: ${unsaid.join("; ")}`));
      for (const task of service.tasks.filter((one) => one.error)) {
        found.push(el("div", { class: "problem warn" }, "task ", el("strong", {}, `${service.name}.${task.slot || task.id}`),
          ` ${task.state} on ${task.node || "no node"}: ${task.error}`));
      }
    }
    if (swarm.nodes.length) counts.append(...ofSwarm(swarm));
    problems.replaceChildren(...(found.length ? found.slice(0, SHOWN) : [el("p", { class: "good" }, "None.")]));
    if (found.length > SHOWN) problems.append(el("p", { class: "soft" }, `and ${found.length - SHOWN} more`));
  };
  numbers();
  await things();
  return { numbers, things };
}

// A list with a search, in pages.
function list(kind, heads, row, where = `http/${kind}`) {
  return async () => {
    const search = el("input", { type: "search", "aria-label": `Search ${kind}`, placeholder: `Search ${kind}` });
    const status = el("select", { "aria-label": "Status" }, ["", "enabled", "warning", "disabled"].map((one) =>
      el("option", { value: one }, one || "any status")));
    const rows = el("div");
    const pages = el("div", { class: "tools" });
    let at = 1;
    const things = async () => {
      const query = { search: search.value, status: status.value, page: at, per_page: SHOWN };
      const { told, next } = await ask(where, query);
      const scrolled = rows.querySelector(".scroll")?.scrollLeft || 0;
      rows.replaceChildren(table(heads, told.map(row), "Nothing of that kind."));
      const shown = rows.querySelector(".scroll");
      if (shown) shown.scrollLeft = scrolled;
      pages.replaceChildren(
        el("button", { type: "button", disabled: at === 1, onclick: () => { at -= 1; things(); } }, "Back"),
        `Page ${at}`,
        el("button", { type: "button", disabled: next === 1, onclick: () => { at = next; things(); } }, "More"));
      pages.hidden = at === 1 && next === 1;
    };
    const anew = () => { at = 1; things(); };
    search.addEventListener("input", anew);
    status.addEventListener("change", anew);
    main.replaceChildren(el("h2", {}, capital(kind)),
      el("div", { class: "tools" }, search, status), rows, pages);
    await things();
    return { things };
  };
}

const routers = list("routers", [head("Router"), head("Way of a request"), figure("Priority"), head("Status")],
  (item) => [
    el("div", {}, el("strong", {}, item.name), el("span", { class: "rule" }, item.rule)),
    path([(item.using || []).join(", ") || "no entry point", ...(item.middlewares || []), item.service]),
    item.priority > Number.MAX_SAFE_INTEGER ? "highest" : String(item.priority),
    el("div", {}, tag(item.status), errors(item)),
  ]);

const services = list("services", [head("Service"), head("Servers"), figure("Requests/s"), figure("5xx"), figure("99 % within"), head("Status")],
  (item) => {
    const now = recent((moment) => moment.services[item.name]);
    const servers = Object.entries(item.serverStatus || {});
    const up = servers.filter(([, one]) => one === "UP").length;
    return [
      el("div", {}, el("strong", {}, item.name), el("div", { class: "soft" }, `for ${(item.usedBy || []).join(", ") || "no router"}`)),
      servers.length ? el("span", { class: up === servers.length ? "good" : "warn" }, `${up} of ${servers.length} up`) : el("span", { class: "soft" }, item.type === "internal" ? "the gate itself" : "none"),
      now ? number(now.rate) : "–", now ? percent(now.errors) : "–", duration(now ? now.nearly : null),
      el("div", {}, tag(item.status), errors(item)),
    ];
  });

const middlewares = list("middlewares", [head("Middleware"), head("Kind"), head("Settings"), head("Used by"), head("Status")],
  (item) => [
    el("strong", {}, item.name), item.type, el("code", {}, JSON.stringify(item[item.type] || {})),
    (item.usedBy || []).join(", ") || "none", el("div", {}, tag(item.status), errors(item)),
  ]);

// What is to be known of a certificate's time, from now on.
function left(item) {
  const days = Math.floor((item.notAfter * 1000 - Date.now()) / 86400000);
  return el("div", {}, el("time", { datetime: new Date(item.notAfter * 1000).toISOString() }, new Date(item.notAfter * 1000).toISOString().slice(0, 10)),
    el("div", { class: item.status === "enabled" ? "soft" : item.status === "warning" ? "warn" : "bad" },
      days < 0 ? "expired" : days === 1 ? "1 day left" : `${days} days left`));
}

const certificates = list("certificates", [head("For"), head("Ends"), head("Issuer"), head("Key"), head("Where from"), head("Status")],
  (item) => [
    el("div", {}, el("strong", {}, item.name), item.isDefault ? " (default)" : "",
      el("div", { class: "soft" }, item.names.slice(1).join(", "))),
    left(item), item.issuer, item.kind, el("span", { class: "rule" }, item.origin), el("div", {}, tag(item.status), errors(item)),
  ], "certificates");

// ---- logs and changes of the Swarm

function dialog(title, ...children) {
  const close = el("button", { type: "button", onclick: () => box.close() }, "Close");
  const box = el("dialog", { "aria-label": title, onclose: () => { box.remove(); back(); } },
    el("div", { class: "top" }, el("h2", {}, title), close), ...children);
  const key = document.activeElement?.dataset?.key; // Who has opened it gets the focus back, drawn anew or not.
  const back = () => key && document.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  document.body.append(box);
  box.showModal();
  return box;
}

function showLogs(service) {
  const search = el("input", { type: "search", "aria-label": "Search the lines", placeholder: "Search the lines" });
  const task = el("select", { "aria-label": "Task" }, el("option", { value: "" }, "all tasks"),
    service.tasks.filter((one) => one.state !== "draining").map((one) =>
      el("option", { value: one.id }, `${service.name}.${one.slot || one.id} ${one.state}, ${one.node || "no node"}`)));
  const lines = el("div", { class: "lines", tabindex: "0", role: "region", "aria-label": "Lines" });
  const told = el("p", { class: "soft", role: "status" });
  let asked = 0;
  const read = async () => {
    const mine = ++asked;
    told.textContent = "asking the engine";
    try {
      const { told: log } = await ask(`swarm/services/${encodeURIComponent(service.name)}/logs`,
        { tail: 500, search: search.value, task: task.value });
      if (mine !== asked) return;
      lines.replaceChildren(...log.lines.map((line) => el("div", { class: line.stream === "stderr" ? "stderr" : "" },
        el("span", { class: "soft" }, `${line.time.slice(0, 10)} ${line.time.slice(11, 23)} ${line.node} `), line.text)));
      lines.scrollTop = lines.scrollHeight;
      told.textContent = `${log.lines.length} ${log.lines.length === 1 ? "line" : "lines"}${log.complete ? "" : "; some are missing: a node did not answer in time, or there was too much"}`;
    } catch (error) {
      if (mine !== asked) return;
      lines.replaceChildren();
      told.textContent = error.message;
    }
  };
  let due = 0;
  search.addEventListener("input", () => { clearTimeout(due); due = setTimeout(read, 300); });
  task.addEventListener("change", read);
  dialog(`What ${service.name} logs`, el("div", { class: "tools" }, search, task,
    el("button", { type: "button", onclick: read }, "Read again")), told, lines);
  read();
}

// Asks once, does it, and shows the engine's answer as it is.
function operate(question, verb, order, replicas = null) {
  const told = el("p", { role: "status" });
  const amount = replicas === null ? null : el("input", { type: "number", min: "0", max: "10000", value: String(replicas), required: true });
  const yes = el("button", { class: "main" }, verb);
  const box = dialog(question, el("form", { onsubmit: async (event) => {
    event.preventDefault();
    yes.disabled = true;
    told.className = "soft";
    told.textContent = "asking the engine";
    try {
      const answer = await fetch(new URL("operations", API), {
        method: "POST", headers: { "Content-Type": "application/json", "X-Swarmgate-Operation": "dashboard" },
        body: JSON.stringify(amount ? { ...order, replicas: amount.valueAsNumber } : order),
      });
      const { message } = await answer.json().catch(() => ({ message: `${answer.status} ${answer.statusText}` }));
      told.className = answer.ok ? "good" : "bad";
      told.textContent = message;
      yes.hidden = answer.ok;
      yes.disabled = false;
      soon();
    } catch (error) {
      told.className = "bad";
      told.textContent = error.message;
      yes.disabled = false;
    }
  } }, amount ? el("label", {}, "Replicas", amount) : null, el("div", {}, yes), told));
  (amount || yes).focus();
  return box;
}

const act = (key, text, onclick) => el("button", { type: "button", "data-key": key, onclick }, text);

function serviceActs(service) {
  const { id, name } = service;
  const acts = features.logs ? [act(`logs ${id}`, "Logs", () => showLogs(service))] : [];
  if (features.operations) {
    if (service.replicas !== null) {
      acts.push(act(`scale ${id}`, "Scale", () => operate(`Scale ${name}?`, "Scale", { operation: "scale", service: name }, service.replicas)));
    }
    acts.push(
      act(`restart ${id}`, "Restart", () => operate(`Restart all tasks of ${name}?`, "Restart", { operation: "restart", service: name })),
      act(`rollback ${id}`, "Roll back", () => operate(`Roll ${name} back to what it was before?`, "Roll back", { operation: "rollback", service: name })));
  }
  return acts.length ? el("div", { class: "acts" }, acts) : null;
}

function nodeActs(node) {
  if (!features.operations) return null;
  const name = node.hostname;
  const one = node.availability === "active"
    ? act(`node ${node.id}`, "Drain", () => operate(`Drain ${name}? Its tasks move to other nodes.`, "Drain", { operation: "drain", node: name }))
    : act(`node ${node.id}`, "Activate", () => operate(`Activate ${name}?`, "Activate", { operation: "activate", node: name }));
  return el("div", { class: "acts" }, one);
}

// While tasks are replaced, or leave: those beside the others, each side with its traffic.
function rolling(service) {
  const isUpdate = service.tasks.some((task) => task.outdated && !task.error);
  const tasks = service.tasks.filter((task) => task.url);
  const goes = (task) => task.outdated || task.state === "draining";
  if (!isUpdate && !tasks.some(goes)) return null;
  const row = (text, some) => {
    const urls = new Set(some.map((task) => task.url));
    const now = recent((moment) => sum(Object.fromEntries(Object.values(moment.servers).flatMap(Object.entries).filter(([url]) => urls.has(url)))));
    return [text, String(some.length), String(some.reduce((total, task) => total + task.inFlight, 0)),
      now ? number(now.rate) : "–", now ? percent(now.errors) : "–", duration(now ? now.nearly : null)];
  };
  const [title, leave, stay] = isUpdate ? ["Rolling update", "old tasks", "new tasks"] : ["Tasks that leave", "leaving", "staying"];
  return table([head(title), figure("Tasks"), figure("Answering"), figure("Requests/s"), figure("5xx"), figure("99 % within")],
    [row(leave, tasks.filter(goes)), row(stay, tasks.filter((task) => !goes(task)))], "");
}

// By slot, the old one before the one that takes its place; what has failed comes last.
const inOrder = (tasks) => [...tasks].sort((one, other) =>
  Boolean(one.error) - Boolean(other.error) || one.slot - other.slot || other.outdated - one.outdated || one.id.localeCompare(other.id));

const tone = (task) => (task.state === "running" && !task.reason ? "" : task.state === "draining" || task.state === "running" ? "warn" : "bad");

async function swarm() {
  const search = el("input", { type: "search", "aria-label": "Search services, images and nodes", placeholder: "Search services, images, nodes" });
  const nodes = el("div", { class: "nodes" });
  const rows = el("div");
  const open = new Set();
  let told = { nodes: [], services: [] };
  const show = () => {
    const word = search.value.toLowerCase();
    const wanted = told.services.filter((service) =>
      [service.name, service.image, ...service.tasks.map((task) => task.node)].some((one) => one.toLowerCase().includes(word)));
    swap(nodes, ...told.nodes.map((node) => {
      const mine = wanted.flatMap((service) =>
        service.tasks.filter((task) => task.node === node.hostname && !task.error).map((task) =>
          el("li", { class: tone(task), title: task.reason || task.state }, service.name, task.slot ? `.${task.slot}` : "")));
      return el("section", { class: "card", "aria-label": `node ${node.hostname}` },
        el("h3", {}, node.hostname, " ", tag(node.state), " ", tag(node.availability, node.availability === "active" ? "good" : "warn")),
        el("ul", { class: "tasks" }, mine.slice(0, 200)),
        mine.length > 200 ? el("p", { class: "soft" }, `and ${mine.length - 200} more`) : null, nodeActs(node));
    }));
    swap(rows, ...wanted.slice(0, SHOWN).map((service) => {
      const running = service.tasks.filter((task) => task.state === "running").length;
      const draining = service.tasks.filter((task) => task.state === "draining").length;
      const box = el("details", { "data-service": service.name, open: open.has(service.name), ontoggle: (event) => (event.target.open ? open.add(service.name) : open.delete(service.name)) },
        el("summary", { "data-key": `open ${service.id}` }, el("strong", {}, service.name), el("span", { class: "soft" }, service.image),
          el("span", { class: service.replicas === null || running === service.replicas ? "good" : "warn" },
            service.replicas === null ? `${running} running` : `${running} of ${service.replicas} running`),
          draining ? el("span", { class: "warn" }, `${draining} draining`) : null,
          service.problems.length ? el("span", { class: "bad" }, service.problems.length === 1 ? "1 problem" : `${service.problems.length} problems`) : null),
        serviceActs(service),
        service.problems.length ? el("div", { class: "within" }, service.problems.map((one) => el("div", { class: "problem" }, one))) : null,
        rolling(service),
        table([head("Task"), head("Node"), head("State"), figure("Answering"), figure("Requests/s"), figure("5xx"), figure("99 % within")],
          inOrder(service.tasks).map((task) => {
            const now = task.url && recent((moment) => Object.values(moment.servers).map((one) => one[task.url]).find(Boolean));
            return [
              el("div", {}, el("strong", {}, task.slot ? `${service.name}.${task.slot}` : task.id), task.outdated && !task.error ? [" ", tag("old", "warn")] : null,
                el("div", { class: "soft" }, task.url)),
              task.node, el("div", {}, tag(task.state), el("div", { class: "soft" }, task.error || task.reason)),
              String(task.inFlight), now ? number(now.rate) : "–", now ? percent(now.errors) : "–", duration(now ? now.nearly : null),
            ];
          }), "No task."));
      return box;
    }));
    if (wanted.length > SHOWN) rows.append(el("p", { class: "soft" }, `and ${wanted.length - SHOWN} more: search for them`));
    if (!told.nodes.length) rows.replaceChildren(el("p", { class: "soft" }, "This gate looks at no Swarm."));
  };
  const things = async () => {
    features = (await ask("overview")).told.features;
    told = (await ask("swarm")).told;
    show();
  };
  search.addEventListener("input", show);
  main.replaceChildren(el("h2", {}, "Nodes"), nodes, el("h2", {}, "Services and their tasks"), el("div", { class: "tools" }, search), rows);
  await things();
  return { things, numbers: things };
}

async function changed() {
  const rows = el("div");
  const things = async () => {
    rows.replaceChildren(table([head("When"), head("What")], changes.map((one) => [one.when, one.text]),
      "Nothing has changed since this page was opened."));
  };
  main.replaceChildren(el("h2", {}, "Changes"), rows);
  await things();
  return { things };
}

async function why() {
  const url = el("input", { name: "url", placeholder: "https://shop.example/path", autocomplete: "off" });
  const method = el("input", { name: "method", value: "GET", autocomplete: "off" });
  const header = el("input", { name: "header", placeholder: "X-Tenant: golf", autocomplete: "off" });
  const service = el("input", { name: "service", placeholder: "shop_web", autocomplete: "off" });
  const told = el("div", { "aria-live": "polite" }, el("p", { class: "soft" }, "Ask one of the two."));
  const answer = async (question, lines) => {
    told.replaceChildren(el("p", { class: "soft" }, "asking"));
    try {
      told.replaceChildren(el("div", { class: "card" }, el("pre", {}, lines((await ask("why", question)).told))));
    } catch (error) {
      told.replaceChildren(el("p", { class: "problem" }, error.message));
    }
  };
  const sentences = (one) => one.answers.map((each) => each.sentences.join("\n")).join("\n\n") || "No entry point listens there.";
  const findings = (one) => one.findings.map((each) => `${each.is_hint ? "Hint: " : ""}${each.sentence}`).join("\n\n") || "It is routed, and nothing is wrong with it.";
  main.replaceChildren(
    el("div", { class: "questions" }, el("section", {}, el("h2", {}, "Why does a request not get there?"),
    el("form", { onsubmit: (event) => {
      event.preventDefault();
      answer({ url: url.value, method: method.value, header: header.value }, sentences);
    } }, el("label", {}, "URL", url), el("label", {}, "Method", method), el("label", {}, "A header field, if one matters", header),
      el("div", {}, el("button", { class: "main" }, "Ask about the request")))),
    el("section", {}, el("h2", {}, "Why is a service not routed?"),
    el("form", { onsubmit: (event) => { event.preventDefault(); answer({ service: service.value }, findings); } },
      el("label", {}, "Name of the Swarm service", service), el("div", {}, el("button", { class: "main" }, "Ask about the service"))))),
    el("h2", {}, "Answer"), told);
  return {};
}

// ---- what holds it together

const PAGES = { overview, routers, services, middlewares, swarm, certificates, changes: changed, why };

async function show() {
  const name = location.hash.slice(1) in PAGES ? location.hash.slice(1) : "overview";
  for (const link of document.querySelectorAll("nav a")) {
    if (link.hash === `#${name}`) {
      link.setAttribute("aria-current", "page");
      link.scrollIntoView({ block: "nearest", inline: "center" });
    } else link.removeAttribute("aria-current");
  }
  document.title = `${name} – swarmgate`;
  const shown = { name };
  page = shown;
  try {
    const refresh = await PAGES[name]();
    if (page !== shown) return;
    Object.assign(shown, refresh);
    main.dataset.page = name;
  } catch (error) {
    if (page === shown) main.replaceChildren(el("p", { class: "problem" }, `The API does not answer: ${error.message}`));
  }
}

let due = 0;
let drawn = 0;
async function again() {
  drawn = Date.now();
  await page?.things?.();
}

function soon() { // Many changes come at once.
  clearTimeout(due);
  due = setTimeout(() => again().catch(() => {}), 200);
}

function listen() {
  const events = new EventSource(new URL("events", API));
  events.addEventListener("change", (event) => {
    lastHeard = Date.now();
    changes.unshift({ when: new Date().toLocaleTimeString(), text: JSON.parse(event.data).change });
    changes = changes.slice(0, 500);
    soon();
  });
  events.addEventListener("reset", soon);
  events.addEventListener("open", soon);
}

async function count() {
  try {
    const { told } = await ask("traffic");
    if (!moments.length || told.at > moments.at(-1).at) moments.push(told);
    if (moments.length > KEPT) moments.shift();
    if (!document.hidden && page?.numbers) await page.numbers();
    // Some changes are no changes of routes: a task that fails, a server that is not well.
    if (!document.hidden && Date.now() - drawn > AGAIN && getSelection().isCollapsed) await again();
  } catch {
    // The line about the age of what is shown tells.
  }
  setTimeout(count, EVERY);
}

function age() {
  const seconds = Math.round((Date.now() - lastHeard) / 1000);
  const old = seconds > 3 * (EVERY / 1000);
  state.classList.toggle("old", old);
  state.classList.toggle("live", Boolean(lastHeard) && !old);
  const text = !lastHeard ? "connecting" : old ? `what you see is ${seconds} s old: the gate does not answer` : "live";
  if (state.textContent !== text) state.textContent = text;
}

document.getElementById("theme").addEventListener("click", () => {
  const dark = getComputedStyle(document.documentElement).getPropertyValue("color-scheme") === "dark"
    || (!document.documentElement.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("swarmgate.theme", dark ? "light" : "dark");
});
const chosen = localStorage.getItem("swarmgate.theme");
if (chosen) document.documentElement.dataset.theme = chosen;

addEventListener("hashchange", () => { show(); main.focus({ preventScroll: true }); });
setInterval(age, 1000);
listen();
count();
show();
ask("version").then(({ told }) => { document.getElementById("version").textContent = told.Version; }).catch(() => {});
