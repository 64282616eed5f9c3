// Overview: how it goes right now and in the last five minutes.

import { LineChart } from "../charts.js";
import { badge, dressOutcome, dressStatus } from "../words.js";
import { fill, h, keyed, setText } from "../dom.js";
import { compact, count, ms, percent, plain, rate } from "../format.js";
import { lastWhole } from "../series.js";
import { firstSteps } from "./firststeps.js";

const NOW_S = 10;
const WINDOW_S = 300;

export class OverviewView {
  constructor(store) {
    this.store = store;
    this.tiles = {
      rate: tile("Requests per second"),
      inFlight: tile("In flight"),
      errors: tile("Failed, last 5 min"),
      ttft: tile("Time to first token"),
      tokens: tile("Tokens per second"),
      backends: tile("Backends"),
    };
    this.charts = [
      new LineChart({
        title: "Requests per second",
        lines: [{ label: "finished", tone: "tone-1" }],
        format: rate,
      }),
      new LineChart({
        title: "Errors per second",
        lines: [{ label: "failed", tone: "tone-3" }, { label: "client errors", tone: "tone-2" }],
        format: rate,
      }),
      new LineChart({
        title: "Time to first token of streams",
        lines: [{ label: "p50", tone: "tone-1" }, { label: "p95", tone: "tone-2" }],
        format: ms,
      }),
      new LineChart({
        title: "Output tokens per second",
        lines: [{ label: "tokens", tone: "tone-1" }],
        format: rate,
      }),
    ];
    this.fleet = h("ul", { class: "fleet" });
    this.totals = h("dl", { class: "facts columns" });
    this.first = h("div");
    this.figures = h("div", { class: "stack", hidden: true },
      h("section", { class: "panel tiles", "aria-label": "Figures" },
        Object.values(this.tiles).map(({ element }) => element)),
      h("div", { class: "grid charts" }, this.charts.map(({ element }) => element)),
      h("div", { class: "grid halves" },
        h("section", { class: "panel" }, h("h2", { text: "Fleet" }), this.fleet),
        h("section", { class: "panel" }, h("h2", { text: "Since the start" }), this.totals)));
    this.element = h("div", { class: "stack" },
      h("h1", { class: "hidden-text", text: "Overview" }), this.first, this.figures);
  }

  update() {
    const { store, tiles } = this;
    if (!store.synced) return;
    const now_s = Date.now() / 1000;
    const now = store.series.point(lastWhole(now_s), NOW_S);
    const recent = store.series.total(now_s, WINDOW_S);
    const { requests, tokens } = store.stats;
    put(tiles.rate, rate(now.calls), `${count(requests.total)} since the start`);
    put(tiles.inFlight, count(requests.in_flight), "right now");
    put(tiles.errors, recent.calls ? percent(recent.failed / recent.calls) : "–",
      `${count(recent.failed)} failed, ${count(recent.clientErrors)} client errors`);
    put(tiles.ttft, ms(recent.p50), `p95 ${ms(recent.p95)}, last 5 min`);
    put(tiles.tokens, rate(now.tokens), `${compact(tokens.completion)} since the start`);
    const counted = store.backends.filter(({ status }) => status !== "pending");
    const healthy = counted.filter(({ status }) => status === "healthy");
    const models = new Set(healthy.flatMap((backend) => backend.models.map(({ id }) => id)));
    put(tiles.backends, `${healthy.length} of ${counted.length}`,
      `healthy, ${count(models.size)} ${models.size === 1 ? "model" : "models"}`);

    // A gateway that has nothing to show yet says what to do, and no more.
    this.figures.hidden = store.backends.length === 0 && requests.total === 0;
    const { times, ...columns } = store.series.columns(now_s);
    const [calls, errors, ttft, rates] = this.charts;
    calls.update(times, [columns.calls]);
    errors.update(times, [columns.failed, columns.clientErrors]);
    ttft.update(times, [columns.p50, columns.p95]);
    rates.update(times, [columns.tokens]);

    fill(this.first, store.backends.length === 0, () => (store.backends.length === 0 ? firstSteps() : []));
    keyed(this.fleet, store.backends, ({ name }) => name, fleetRow, updateFleetRow);
    fill(this.totals, JSON.stringify([requests, tokens]), () => totals(requests, tokens));
  }

  destroy() {
    for (const chart of this.charts) chart.destroy();
  }
}

function tile(label) {
  const value = h("dd", { class: "tile-value", text: "–" });
  const note = h("dd", { class: "tile-note" });
  return { value, note, element: h("dl", { class: "tile" }, h("dt", { text: label }), value, note) };
}

function put({ value, note }, figure, words) {
  setText(value, figure);
  setText(note, words);
}

function fleetRow() {
  const row = h("li", null,
    h("a", { class: "name", href: "#/backends" }), badge(), h("span", { class: "muted figure" }));
  return row;
}

function updateFleetRow(row, backend) {
  const [name, status, load] = row.children;
  setText(name, plain(backend.name));
  dressStatus(status, backend.status);
  setText(load, `${count(backend.in_flight)} in flight`);
}

function totals(requests, tokens) {
  const outcomes = ["ok", "client_error", "upstream_error", "timeout", "cancelled", "refused"];
  return [
    pair("Requests", count(requests.total)),
    ...outcomes.map((outcome) => pair(dressOutcome(badge(), outcome), count(requests[outcome]))),
    pair("Prompt tokens", count(tokens.prompt)),
    pair("Completion tokens", count(tokens.completion)),
  ];
}

function pair(label, value) {
  return h("div", null, h("dt", null, label), h("dd", { class: "figure", text: value }));
}
