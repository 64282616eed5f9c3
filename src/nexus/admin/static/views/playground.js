// A small chat: what a client would see, and which backend answered.

import { messageOf } from "../api.js";
import { fill, h, setAttribute, setText } from "../dom.js";
import { ms, plain, rate } from "../format.js";
import { sseEvents } from "../sse.js";

const HEADERS = [
  ["x-nexus-backend", "Backend"],
  ["x-nexus-engine", "Engine"],
  ["x-nexus-model", "Model"],
  ["x-nexus-route-reason", "Why"],
  ["x-nexus-attempts", "Attempts"],
  ["x-nexus-fallback-model", "Fallback model"],
  ["x-nexus-ignored", "Ignored fields"],
];

export class PlaygroundView {
  constructor(store) {
    this.store = store;
    this.messages = [];
    this.running = null;
    this.model = h("select", { id: "pg-model" });
    this.pin = h("select", { id: "pg-backend" });
    this.log = h("div", { class: "chat-log", role: "log", "aria-live": "polite", "aria-label": "Conversation", tabindex: "0" });
    this.input = h("textarea", {
      id: "pg-text", rows: "3", placeholder: "Say something", "aria-label": "Message",
      on: { keydown: (event) => this.keydown(event) },
    });
    this.send = h("button", { class: "primary", text: "Send" });
    this.stop = h("button", { type: "button", text: "Stop", disabled: true, on: { click: () => this.running?.abort() } });
    this.clear = h("button", { type: "button", class: "quiet", text: "Clear", on: { click: () => this.empty() } });
    this.facts = h("dl", { class: "facts" });
    this.element = h("div", { class: "stack" },
      h("h1", { text: "Playground" }),
      h("div", { class: "playground" },
        h("section", { class: "panel chat", "aria-label": "Chat" },
          h("div", { class: "chat-options" },
            h("label", { for: "pg-model" }, "Model", this.model),
            h("label", { for: "pg-backend" }, "Backend", this.pin)),
          this.log,
          h("form", { class: "chat-form", on: { submit: (event) => this.submit(event) } },
            this.input, h("div", { class: "chat-buttons" }, this.send, this.stop, this.clear))),
        h("section", { class: "panel", "aria-label": "Answer" },
          h("h2", { text: "Answered by" }), this.facts)));
    this.empty();
  }

  update() {
    const { store } = this;
    if (!store.synced) return;
    const healthy = store.backends.filter(({ status }) => status === "healthy");
    const ids = [...new Set(healthy.flatMap(({ models }) =>
      models.filter(({ kind }) => kind !== "embedding").map(({ id }) => id)))].sort();
    options(this.model, ids.map((id) => [id, id]), "No model is served");
    const names = healthy
      .filter(({ models }) => models.some(({ id }) => untagged(id) === untagged(this.model.value)))
      .map(({ name }) => [name, name]);
    options(this.pin, [["", "Nexus chooses"], ...names]);
    this.send.disabled = ids.length === 0 || this.running !== null;
  }

  destroy() {
    this.running?.abort();
  }

  empty() {
    this.running?.abort();
    this.messages = [];
    this.log.replaceChildren(h("p", { class: "muted", text: "Messages go to /v1/chat/completions of this gateway, as any client's would." }));
    this.facts.replaceChildren(h("div", null, h("dt", { text: "Nobody yet" })));
  }

  keydown(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.send.form.requestSubmit();
    }
  }

  async submit(event) {
    event.preventDefault();
    const text = this.input.value.trim();
    if (!text || this.running || !this.model.value) return;
    this.input.value = "";
    if (this.messages.length === 0) this.log.replaceChildren();
    this.messages.push({ role: "user", content: text });
    this.say("user", text);
    const answer = this.say("assistant", "");
    this.running = new AbortController();
    this.busy(true);
    await this.stream(answer);
    this.running = null;
    this.busy(false);
  }

  busy(yes) {
    this.send.disabled = yes;
    this.stop.disabled = !yes;
    setAttribute(this.log, "aria-busy", yes ? "true" : null);
  }

  say(role, text) {
    const words = h("p", { class: "words", text });
    this.log.append(h("div", { class: `turn ${role}` }, h("h3", { text: role === "user" ? "You" : "Answer" }), words));
    this.log.scrollTop = this.log.scrollHeight;
    return words;
  }

  async stream(answer) {
    const begun = performance.now();
    const told = { first: null, chunks: 0, usage: null };
    let text = "";
    try {
      const response = await fetch("v1/chat/completions", {
        method: "POST",
        headers: { "Content-Type": "application/json", ...(this.pin.value ? { "x-nexus-pin": encodeURIComponent(this.pin.value) } : {}) },
        body: JSON.stringify({
          model: this.model.value, messages: this.messages, stream: true,
          stream_options: { include_usage: true },
        }),
        signal: this.running.signal,
      });
      if (!response.ok) throw new Error(messageOf(await response.text(), response.status));
      this.show(response.headers, told, begun);
      for await (const data of sseEvents(response.body)) {
        if (data === "[DONE]") break;
        const chunk = JSON.parse(data);
        if (chunk.error) throw new Error(chunk.error.message ?? "The stream ended with an error.");
        if (chunk.usage) told.usage = chunk.usage;
        const delta = chunk.choices?.[0]?.delta;
        const piece = delta?.content ?? "";
        if (piece || delta?.reasoning_content) {
          told.first ??= performance.now();
          told.chunks += 1;
        }
        text += piece;
        if (piece) this.put(answer, text.trimStart());
      }
      this.show(response.headers, told, begun, performance.now());
    } catch (failure) {
      const stopped = failure.name === "AbortError";
      answer.parentNode.append(h("p", { class: stopped ? "muted" : "notice", role: stopped ? null : "alert", text: stopped ? "Stopped." : plain(failure.message) }));
    }
    if (text) this.messages.push({ role: "assistant", content: text });
    else this.messages.pop();
  }

  put(answer, text) {
    const log = this.log;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    setText(answer, text);
    if (atEnd) log.scrollTop = log.scrollHeight;
  }

  show(headers, { first, chunks, usage }, begun, ended) {
    const out = usage?.completion_tokens ?? chunks;
    const writing_s = ended && first ? (ended - first) / 1000 : 0;
    const id = headers.get("x-request-id");
    fill(this.facts, {}, () => [
      ...HEADERS.filter(([name]) => headers.get(name)).map(([name, label]) => fact(label, headers.get(name))),
      first ? fact("First token", ms(first - begun)) : null,
      ended ? fact("Duration", ms(ended - begun)) : null,
      ended ? fact("Tokens", usage ? `${usage.prompt_tokens ?? "–"} in, ${usage.completion_tokens ?? "–"} out` : `${chunks} pieces`) : null,
      writing_s > 0.05 ? fact("Tokens per second", rate(out / writing_s)) : null,
      ended && id ? h("div", null, h("dt", { text: "Request" }), h("dd", null, h("a", { href: `#/requests/${encodeURIComponent(id)}`, text: "why this backend" }))) : null,
    ]);
  }
}

function fact(label, value) {
  return h("div", null, h("dt", { text: label }), h("dd", { text: plain(value) }));
}

/** Ollama serves NAME:latest as NAME too. */
function untagged(id) {
  return id.replace(/:latest$/, "");
}

/** Fills a select, keeping what was chosen while it is still offered. */
function options(select, pairs, none = "") {
  const chosen = select.value;
  fill(select, JSON.stringify(pairs), () =>
    pairs.length ? pairs.map(([value, label]) => h("option", { value, text: plain(label) })) : h("option", { value: "", text: none }));
  if (pairs.some(([value]) => value === chosen)) select.value = chosen;
}
