// What states, outcomes and reasons are called, and what they mean. A sign of its own goes with
// each tone, so that none is told by colour alone.

import { h, setAttribute, setText } from "./dom.js";

const SIGNS = { good: "●", warn: "▲", bad: "■", idle: "○" };

const STATUS = {
  healthy: ["good", "Healthy"],
  unhealthy: ["bad", "Unhealthy"],
  draining: ["warn", "Draining"],
  pending: ["warn", "Waiting for approval"],
  unknown: ["idle", "Not checked yet"],
};

const OUTCOME = {
  ok: ["good", "OK"],
  client_error: ["warn", "Client error"],
  upstream_error: ["bad", "Upstream error"],
  timeout: ["bad", "Timed out"],
  cancelled: ["idle", "Cancelled"],
  refused: ["bad", "Refused"],
};

export const OUTCOMES = Object.entries(OUTCOME).map(([value, [, label]]) => ({ value, label }));

const REASON = {
  "capability-match": "The best of the backends that can do what was asked: they were ranked by priority, load and time to first token.",
  failover: "A backend that ranked higher was tried first and failed before its answer had begun; this one took over.",
  fallback: "No backend could serve the model that was asked for, so its configured fallback model answered.",
  "privacy-requirement": "The request had to stay on backends that keep its content private.",
  "capacity-overflow": "The backends that ranked higher had no room left.",
  affinity: "Earlier requests of this conversation were answered there.",
};

/** A sentence about a route reason, "" for none that we know. */
export const reasonMeaning = (reason) => (Object.hasOwn(REASON, reason) ? REASON[reason] : "");

/** A badge; `dress` gives it its content. */
export const badge = () => h("span", { class: "badge" }, h("span", { class: "sign", "aria-hidden": "true" }), h("span"));

function dress(node, [tone, label]) {
  setAttribute(node, "data-tone", tone);
  setText(node.firstChild, SIGNS[tone]);
  setText(node.lastChild, label);
  return node;
}

const of = (table, value) => (Object.hasOwn(table, value) ? table[value] : ["idle", String(value || "–")]);

export const dressStatus = (node, status) => dress(node, of(STATUS, status));
export const dressOutcome = (node, outcome) => dress(node, of(OUTCOME, outcome));

/** How an attempt ended, as a badge. */
export function dressAttempt(node, { outcome, status }) {
  const good = outcome === "ok";
  const tone = good ? "good" : outcome === "cancelled" ? "idle" : "bad";
  const label = good ? "ok" : String(outcome).replaceAll("_", " ");
  return dress(node, [tone, status ? `${label} (${status})` : label]);
}

const CAPABILITIES = [
  ["vision", "vision", "Takes images"],
  ["tools", "tools", "Calls tools"],
  ["json_mode", "JSON", "Answers in JSON on demand"],
  ["embeddings", "embeddings", "Makes embeddings"],
  ["reasoning", "reasoning", "Thinks before it answers"],
];
const FLAG = { true: ["✓", "yes"], false: ["✕", "no"], null: ["?", "unknown"] };

/** The five capabilities, each yes, no or unknown by sign, word and tone. */
export function capabilities(flags) {
  return h("ul", { class: "caps" }, CAPABILITIES.map(([field, label, meaning]) => {
    const value = flags?.[field] ?? null;
    const [sign, word] = FLAG[value] ?? FLAG.null;
    return h("li", { "data-flag": word, title: `${meaning}: ${word}` },
      h("span", { class: "sign", "aria-hidden": "true", text: sign }), label,
      h("span", { class: "hidden-text", text: `: ${word}` }));
  }));
}
