// One request: what became of it, each attempt, and the plan behind it: why this backend.

import { explain, getRecord } from "../api.js";
import { fill, h, setText } from "../dom.js";
import { bytes, count, moment, ms, plain } from "../format.js";
import { badge, dressAttempt, dressOutcome, reasonMeaning } from "../words.js";
import { planView } from "./plan.js";

const STAND_IN_CHARS_MAX = 400_000;

export class RequestView {
  constructor(store, id) {
    this.store = store;
    this.id = id;
    this.record = null;
    this.missing = "";
    this.plan = h("div");
    this.content = h("div", { class: "stack" });
    this.element = h("div", { class: "stack" },
      h("p", null, h("a", { href: "#/requests", text: "← All requests" })), this.content);
  }

  update() {
    if (!this.store.synced || this.asked) return;
    this.asked = true;
    this.load();
  }

  async load() {
    const known = this.store.records.findLast(({ request_id }) => request_id === this.id);
    try {
      this.record = await getRecord(this.id);
    } catch (failure) {
      this.record = known ?? null;
      this.missing = failure.message;
    }
    fill(this.content, {}, () => (this.record ? this.page() : this.gone()));
    if (this.record) await this.explain();
  }

  gone() {
    return [h("h1", { text: "Request not found" }), h("p", { text: `${plain(this.missing)} The gateway keeps the last requests only, and forgets them when it restarts.` })];
  }

  page() {
    const { record } = this;
    const served = record.served_model && record.served_model !== record.model;
    const meaning = reasonMeaning(record.reason);
    return [
      h("header", { class: "view-head" },
        h("h1", { class: "name" }, plain(record.model) || "Request", record.backend ? ` on ${plain(record.backend)}` : ""),
        dressOutcome(badge(), record.outcome)),
      record.error ? h("p", { class: "panel notice", text: plain(record.error) }) : null,
      h("section", { class: "panel" },
        h("h2", { text: "Why this backend" }),
        record.reason
          ? h("p", null, h("span", { class: "tag", text: plain(record.reason) }), " ", meaning)
          : h("p", { class: "muted", text: "No backend was chosen." }),
        considered(record.considered),
        attempts(record.attempts)),
      h("section", { class: "panel" },
        h("h2", { text: "Facts" }),
        h("dl", { class: "facts columns" },
          fact("Request id", record.request_id, "mono"),
          fact("Time", moment(record.at)),
          fact("Endpoint", record.endpoint, "mono"),
          fact("Model asked for", record.model),
          served ? fact("Model that answered", record.served_model) : null,
          fact("Status", record.status || "none: the client had left"),
          fact("Time to first token", record.stream ? ms(record.ttft_ms) : "not streamed"),
          fact("Duration", ms(record.duration_ms)),
          fact("Tokens in", count(record.tokens?.prompt)),
          fact("Tokens out", record.tokens?.completion == null && record.tokens?.estimated != null
            ? `about ${count(record.tokens.estimated)} (the engine told none)`
            : count(record.tokens?.completion)),
          bytesFact(record.bytes))),
      this.plan,
    ];
  }

  /** How a request with the same needs would go now. */
  async explain() {
    const { record } = this;
    const waiting = h("p", { class: "muted", text: "Asking the router…" });
    this.plan.replaceChildren(waiting);
    try {
      const now = await explain(record.endpoint, standIn(record));
      fill(this.plan, {}, () => planView("The plan for such a request now",
        "Prompts are not kept: this is the decision, made just now, for a request to the same model with the same needs. Nothing was sent to a backend.", now));
    } catch (failure) {
      setText(waiting, `No plan to show: ${plain(failure.message)}`);
    }
  }
}

/** A request with the same needs as the one that was recorded, in words of no meaning. */
function standIn({ endpoint, model, stream, profile }) {
  const text = "x".repeat(Math.min(profile?.text_bytes ?? 0, STAND_IN_CHARS_MAX));
  if (!endpoint.endsWith("/chat/completions")) {
    return endpoint.endsWith("/completions") ? { model, prompt: text } : { model, input: text };
  }
  const image = { type: "image_url", image_url: { url: "data:image/png;base64,AA==" } };
  const tool = { type: "function", function: { name: "f", parameters: { type: "object" } } };
  return {
    model,
    stream,
    messages: [{
      role: "user",
      content: profile?.needs_vision ? [{ type: "text", text }, image] : text,
    }],
    ...(profile?.needs_tools ? { tools: [tool] } : {}),
    ...(profile?.needs_json ? { response_format: { type: "json_object" } } : {}),
    ...(profile?.max_output_tokens ? { max_tokens: profile.max_output_tokens } : {}),
  };
}

/** Who could have answered at that time, best first. */
function considered(list) {
  if (!list?.length) return null;
  const told = list.map(({ backend, score }) => `${plain(backend)} (${score.toFixed(2)})`);
  return h("p", { class: "muted considered", text: `Considered then, with scores: ${told.join(", ")}.` });
}

function attempts(list) {
  if (list.length === 0) return null;
  const longest = Math.max(...list.map(({ ms: took }) => took ?? 0), 1);
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Attempts" }, h("table", { class: "attempts" },
    h("caption", { text: list.length === 1 ? "One attempt" : `${list.length} attempts, in order` }),
    h("thead", null, h("tr", null, ["#", "Backend", "Result", "Took", ""].map((label) =>
      h("th", { scope: "col", class: label === "Took" ? "number" : null, text: label })))),
    h("tbody", null, list.map((attempt, i) => {
      const bar = h("div", { class: "bar thin", "aria-hidden": "true" }, h("div"));
      bar.firstChild.style.width = `${Math.max(1, Math.round(((attempt.ms ?? 0) / longest) * 100))}%`;
      return h("tr", null,
        h("td", { class: "figure", text: String(i + 1) }),
        h("td", null, h("span", { class: "name", text: plain(attempt.backend) })),
        h("td", null, dressAttempt(badge(), attempt)),
        h("td", { class: "number figure", text: ms(attempt.ms) }),
        h("td", { class: "bar-cell" }, bar));
    }))));
}

function fact(label, value, kind) {
  return h("div", null, h("dt", { text: label }), h("dd", { class: kind ?? null, text: plain(value) || "–" }));
}

function bytesFact(size) {
  if (size === null || size === undefined) return null;
  if (typeof size === "number") return fact("Bytes", bytes(size));
  return fact("Bytes in and out", `${bytes(size.in)}, ${bytes(size.out)}`);
}
