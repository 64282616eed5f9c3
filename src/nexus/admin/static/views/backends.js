// Backends: where each stands and why, how busy and how fast it is, and what may be done with it.

import { act, removeBackend } from "../api.js";
import { announce, confirmed, fill, h, keyed, setAttribute, setText, svg } from "../dom.js";
import { ago, count, ms, plain, tokens } from "../format.js";
import { badge, dressStatus } from "../words.js";
import { addForm, firstSteps } from "./firststeps.js";

const SOURCES = {
  static: "configuration file",
  manual: "added by hand",
  scan: "found on this machine",
  mdns: "found on the network",
};
const MODELS_SHOWN = 6;
const SPARK = { width: 120, height: 28 };

export class BackendsView {
  constructor(store) {
    this.store = store;
    this.list = h("ul", { class: "cards" });
    this.first = h("div");
    this.element = h("div", { class: "stack" },
      h("h1", { text: "Backends" }), this.first, this.list,
      h("details", { class: "panel more" }, h("summary", { text: "Add a backend" }), addForm()));
    this.more = this.element.lastChild;
  }

  update() {
    const { store } = this;
    if (!store.synced) return;
    const none = store.backends.length === 0;
    this.more.hidden = none;
    fill(this.first, none, () => (none ? firstSteps() : []));
    keyed(this.list, store.backends, ({ name }) => name, () => card(store), (node, backend) =>
      node.show(backend, store.latencies.get(backend.name) ?? []));
  }
}

function card(store) {
  const name = h("h2", { class: "name" });
  const status = badge();
  const about = h("p", { class: "muted about" });
  const reason = h("p", { class: "reason" });
  const breaker = h("p", { class: "reason breaker", hidden: true });
  const load = h("dd", { class: "figure" });
  const bar = h("div", { class: "bar", "aria-hidden": "true" }, h("div"));
  const told = h("dd", { class: "muted told" });
  const ttft = h("dd", { class: "figure" });
  const line = svg("polyline", { points: "", fill: "none" });
  const spark = svg("svg", {
    class: "spark", viewBox: `0 0 ${SPARK.width} ${SPARK.height}`, preserveAspectRatio: "none",
    "aria-hidden": "true", focusable: "false",
  }, line);
  const models = h("ul", { class: "chips" });
  const facts = h("dl", { class: "facts" });
  const actions = h("div", { class: "actions" });
  const said = h("p", { class: "said", role: "alert" });
  const node = h("li", { class: "panel card" },
    h("header", { class: "card-head" }, name, status), about, reason, breaker,
    h("dl", { class: "meters" },
      h("div", null, h("dt", { text: "Load" }), load, h("dd", null, bar), told),
      h("div", null, h("dt", { text: "Time to first token" }), ttft, h("dd", null, spark))),
    h("h3", { text: "Models" }), models, facts, actions, said);

  node.show = (backend, latencies) => {
    setText(name, plain(backend.name));
    setAttribute(name, "title", plain(backend.name));
    dressStatus(status, backend.status);
    const engine = [backend.engine, backend.engine_version].filter(Boolean).join(" ");
    setText(about, plain(`${engine} · ${backend.url}`));
    setText(reason, plain(backend.reason || backend.last_check.error || ""));
    breaker.hidden = backend.breaker === "closed";
    setText(breaker, backend.breaker === "open"
      ? "Circuit breaker open: its last calls failed, so it is left alone for a while."
      : "Circuit breaker half open: one call at a time tries whether it works again.");
    const limit = backend.max_concurrency || backend.capacity;
    const busy = backend.in_flight;
    setText(load, limit ? `${count(busy)} of ${count(limit)}` : `${count(busy)} in flight`);
    setText(told, engineLoad(backend));
    const share = limit ? Math.min(1, busy / limit) : 0;
    bar.firstChild.style.width = `${Math.round(share * 100)}%`;
    setAttribute(bar, "data-full", share >= 1);
    bar.hidden = !limit;
    setText(ttft, ms(backend.ttft_ms));
    setAttribute(line, "points", sparkline(latencies));
    fill(models, JSON.stringify(backend.models), () => chips(backend.models));
    fill(facts, JSON.stringify([backend.source, backend.reason, backend.priority, backend.zone, backend.last_check, Math.floor(Date.now() / 5000)]), () => [
      fact("Known from", SOURCES[backend.source] ?? backend.source),
      fact("Priority", count(backend.priority)),
      ...(backend.zone ? [fact("Zone", backend.zone)] : []),
      fact("Last check", backend.last_check.at
        ? `${ago(backend.last_check.at)}, ${ms(backend.last_check.ms)}` : "–"),
      ...(backend.last_check.error && backend.last_check.error !== backend.reason ? [fact("Its error", backend.last_check.error)] : []),
    ]);
    fill(actions, `${backend.status} ${backend.source}`, () => buttons(store, backend, said));
  };
  return node;
}

/** What the engine itself said when it was last asked: others may be using it too. */
function engineLoad({ load }) {
  if (load.running === null && load.waiting === null) return "";
  const waiting = load.waiting ? `, ${count(load.waiting)} waiting` : "";
  return `engine: ${count(load.running ?? 0)} running${waiting}`;
}

function fact(label, value) {
  return h("div", null, h("dt", { text: label }), h("dd", { text: plain(value) }));
}

function chips(models) {
  if (models.length === 0) return h("li", { class: "muted", text: "none known" });
  const chip = ({ id, context_length }) => h("li", { class: "chip", title: plain(id) },
    h("span", { class: "name", text: plain(id) }),
    context_length ? h("span", { class: "muted", text: tokens(context_length) }) : null);
  const more = models.length - MODELS_SHOWN;
  return [
    ...models.slice(0, MODELS_SHOWN).map(chip),
    more > 0 ? h("li", null, h("a", { href: "#/models", text: `and ${more} more` })) : null,
  ];
}

/** The last times to first token, oldest left, as points of a polyline. */
function sparkline(values) {
  if (values.length < 2) return "";
  const high = Math.max(...values) || 1;
  const step = SPARK.width / (values.length - 1);
  const y = (value) => SPARK.height - 2 - (value / high) * (SPARK.height - 4);
  return values.map((value, i) => `${(i * step).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
}

function buttons(store, backend, said) {
  const run = async (work, done) => {
    setText(said, "");
    try {
      await work();
      announce(done);
      await store.loadBackends();
    } catch (failure) {
      setText(said, plain(failure.message));
    }
  };
  const name = plain(backend.name);
  const button = (label, kind, click) =>
    h("button", { type: "button", class: kind, on: { click }, text: label, "aria-label": `${label} ${name}` });
  const rows = [];
  if (backend.status === "pending") {
    rows.push(button("Approve", "primary", () => run(() => act(backend.name, "approve"), `${name} approved.`)));
  } else if (backend.status === "draining") {
    rows.push(button("Resume", "", () => run(() => act(backend.name, "resume"), `${name} takes requests again.`)));
  } else {
    rows.push(button("Drain", "", async () => {
      const sure = await confirmed({
        title: `Drain ${name}?`,
        text: "It gets no new requests until it is resumed. Those under way are finished.",
        action: "Drain",
      });
      if (sure) await run(() => act(backend.name, "drain"), `${name} is draining.`);
    }));
  }
  const inFile = backend.source === "static";
  rows.push(button("Remove", "danger", async () => {
    const sure = await confirmed({
      title: `Remove ${name}?`,
      text: inFile
        ? "Its entry is taken out of the configuration file, too. Requests under way there are finished."
        : "Nexus forgets it. Requests under way there are finished. It may be found again if discovery is on.",
      action: "Remove",
    });
    if (sure) await run(() => removeBackend(backend.name, inFile), `${name} removed.`);
  }));
  return rows;
}
