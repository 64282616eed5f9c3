// Requests: every call as it finishes, newest first, with where it went and why.

import { h, keyed, setAttribute, setText } from "../dom.js";
import { clock, count, ms, plain } from "../format.js";
import { firstToken } from "../series.js";
import { endOf, keyOf } from "../store.js";
import { badge, dressOutcome, OUTCOMES } from "../words.js";

const ROWS_MAX = 150;

export class RequestsView {
  constructor(store) {
    this.store = store;
    this.frozen = null;
    const changed = { input: () => this.update(), change: () => this.update() };
    this.text = h("input", {
      type: "search", placeholder: "Model, backend or id", "aria-label": "Filter requests",
      autocomplete: "off", on: changed,
    });
    this.outcome = h("select", { "aria-label": "Outcome", on: changed },
      h("option", { value: "", text: "Any outcome" }),
      h("option", { value: "!ok", text: "Not OK" }),
      OUTCOMES.map(({ value, label }) => h("option", { value, text: label })));
    this.pause = h("button", { type: "button", "aria-pressed": "false", text: "Pause", on: { click: () => this.toggle() } });
    this.body = h("tbody");
    this.summary = h("p", { class: "muted" });
    const column = (label, extra) => h("th", { scope: "col", class: extra ?? null, text: label });
    this.element = h("div", { class: "stack" },
      h("header", { class: "view-head" }, h("h1", { text: "Requests" }),
        h("div", { class: "filters" }, this.text, this.outcome, this.pause)),
      h("div", { class: "panel scroll", role: "region", tabindex: "0", "aria-label": "Finished requests" },
        h("table", { class: "rows" },
          h("caption", { class: "hidden-text", text: "Finished requests, newest first" }),
          h("thead", null, h("tr", null,
            column("Finished"), column("Model"), column("Backend", "wide"), column("Why there", "wide"),
            column("Attempts", "wide number"), column("Outcome"), column("First token", "wide number"),
            column("Duration", "number"), column("Tokens", "wide number"))),
          this.body)),
      this.summary);
  }

  toggle() {
    this.frozen = this.frozen ? null : [...this.store.records];
    setAttribute(this.pause, "aria-pressed", this.frozen ? "true" : "false");
    setText(this.pause, this.frozen ? "Resume" : "Pause");
    this.update();
  }

  update() {
    const { store } = this;
    if (!store.synced) return;
    const records = this.frozen ?? store.records;
    const text = this.text.value.trim().toLowerCase();
    const outcome = this.outcome.value;
    const shown = [];
    let matching = 0;
    for (let i = records.length - 1; i >= 0; i -= 1) {
      const record = records[i];
      if (outcome === "!ok" ? record.outcome === "ok" : outcome && record.outcome !== outcome) continue;
      if (text && !searched(record).includes(text)) continue;
      matching += 1;
      if (shown.length < ROWS_MAX) shown.push(record);
    }
    keyed(this.body, shown, keyOf, row, () => {});
    const some = shown.length < matching ? `The newest ${count(shown.length)} of ${count(matching)}` : count(matching);
    setText(this.summary, records.length === 0
      ? "No request has finished yet. Send one from the playground, or point a client at this gateway's /v1."
      : `${some} shown, ${count(records.length)} kept.${this.frozen ? " Paused." : ""}`);
  }
}

function searched(record) {
  return [record.model, record.served_model, record.backend, record.request_id, record.endpoint,
    ...record.attempts.map(({ backend }) => backend)].join("\n").toLowerCase();
}

/** A finished call does not change: its row is made once. */
function row(record) {
  const href = `#/requests/${encodeURIComponent(record.request_id)}`;
  const served = record.served_model && record.served_model !== record.model ? record.served_model : "";
  const time = clock(endOf(record, Infinity));
  const tries = record.attempts.length;
  const name = (text, rest) => h("span", { class: "name", title: plain(text), text: plain(text) || "–", ...rest });
  return h("tr", { on: { click: (event) => {
    if (!event.target.closest("a") && getSelection().isCollapsed) location.hash = href;
  } } },
    h("td", { class: "figure" }, h("a", { href, "aria-label": `${time}, details`, text: time })),
    h("td", null, name(record.model), served ? h("span", { class: "under muted name", text: `served ${plain(served)}` }) : null,
      h("span", { class: "narrow under muted", text: plain(record.backend) })),
    h("td", { class: "wide" }, name(record.backend)),
    h("td", { class: "wide" }, record.reason ? h("span", { class: "tag", text: plain(record.reason) }) : "–"),
    h("td", { class: "wide number figure", text: count(tries) }),
    h("td", null, dressOutcome(badge(), record.outcome),
      h("span", { class: "status figure", text: record.status ? String(record.status) : "" })),
    h("td", { class: "wide number figure", text: ms(firstToken(record)) }),
    h("td", { class: "number figure", text: ms(record.duration_ms) }),
    h("td", { class: "wide number figure" }, tokensOf(record)));
}

/** In → out; "~" stands before what was counted from the stream for want of the engine's word. */
function tokensOf({ tokens }) {
  const out = tokens?.completion ?? tokens?.estimated;
  if (tokens?.prompt == null && out == null) return "–";
  return `${count(tokens.prompt)} → ${tokens.completion == null ? "~" : ""}${count(out)}`;
}
