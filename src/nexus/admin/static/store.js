// What the dashboard knows, and how it stays true: one event stream, a light poll of the figures
// that change without an event, and a whole reload whenever the stream (re)opens. So a gateway
// that restarts, or a laptop that slept, needs no reload of the page.

import { ApiFailure, EVENTS_URL, getBackends, getHealth, getHistory, getModels, getSession, getStats } from "./api.js";
import { firstToken, Series } from "./series.js";

const HISTORY = 1000;
const RECORDS_MAX = 2000;
const POLL_MS = 3000;
const FIGURES_MS = 1000;
const TELL_MS = 100;
const RETRY_FIRST_MS = 500;
const RETRY_MAX_MS = 5000;
const HIDDEN_MS = 60_000;
const LATENCIES = 60;

/** `state`: "connecting", "live", "lost", "signin" (a key is wanted), "refused" (see `why`). */
export class Store {
  constructor() {
    this.state = "connecting";
    this.why = "";
    this.keyed = false;
    this.synced = false;
    this.health = null;
    this.stats = null;
    this.backends = [];
    this.models = [];
    this.records = [];
    this.known = new Set();
    this.latencies = new Map();
    this.series = new Series();
    this.listeners = new Set();
    this.timers = {};
    this.retry_ms = RETRY_FIRST_MS;
    this.source = null;
    this.attempt = null;
    this.figures_at_ms = 0;
    document.addEventListener("visibilitychange", () => this.visibilityChanged());
  }

  /** `listener()` is called soon after each change. Returns what ends it. */
  subscribe(listener) {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  }

  start() {
    this.connect();
  }

  // --- connection ---

  /** Asks who we are, then listens. Whatever fails is tried again until it works. */
  async connect() {
    this.close();
    const attempt = (this.attempt = {});
    try {
      const { key_required, signed_in } = await getSession();
      if (attempt !== this.attempt) return;
      this.keyed = key_required;
      if (signed_in) this.listen();
      else this.set("signin");
    } catch (failure) {
      if (attempt === this.attempt) this.unreachable(failure);
    }
  }

  listen() {
    const source = new EventSource(EVENTS_URL);
    this.source = source;
    source.addEventListener("open", () => this.opened(source));
    source.addEventListener("error", () => {
      if (source === this.source) this.unreachable(new ApiFailure(0, ""));
    });
    source.addEventListener("request", (event) => {
      this.record(parsed(event.data));
      // At once after a quiet while, then once in a while.
      const due_ms = this.figures_at_ms + FIGURES_MS - performance.now();
      this.soon("figures", () => this.loadFigures(), Math.max(TELL_MS, due_ms));
    });
    source.addEventListener("backend", () => this.soon("backends", () => this.loadBackends()));
    source.addEventListener("config", () => this.soon("sync", () => this.sync()));
    // We were too slow for some events: begin anew.
    source.addEventListener("lost", () => this.soon("sync", () => this.sync()));
  }

  close() {
    this.attempt = null;
    this.source?.close();
    this.source = null;
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.timers = {};
  }

  async opened(source) {
    try {
      await this.sync();
    } catch (failure) {
      if (source === this.source) this.unreachable(failure);
      return;
    }
    if (source !== this.source) return;
    this.retry_ms = RETRY_FIRST_MS;
    this.set("live");
    this.poll();
  }

  unreachable(failure) {
    this.close();
    if (failure.status === 401) {
      this.set("signin");
      return;
    }
    if (failure.status === 403) this.set("refused", failure.message);
    else this.set(this.synced ? "lost" : "connecting", failure.message);
    // Spread out: many open dashboards must not come back in the same instant.
    const wait_ms = this.retry_ms * (0.8 + 0.4 * Math.random());
    this.retry_ms = Math.min(this.retry_ms * 1.5, RETRY_MAX_MS);
    this.timers.retry = setTimeout(() => this.connect(), wait_ms);
  }

  visibilityChanged() {
    if (document.hidden) {
      // A browser opens few connections per server: an unseen tab gives its own back.
      this.timers.hide = setTimeout(() => this.close(), HIDDEN_MS);
      return;
    }
    clearTimeout(this.timers.hide);
    if (this.source !== null) this.soon("figures", () => this.loadFigures(), 0);
    else if (this.state !== "signin") this.connect();
  }

  set(state, why = "") {
    this.state = state;
    this.why = why;
    this.changed();
  }

  // --- loading ---

  async sync() {
    const [stats, backends, history, models, health] = await Promise.all([
      getStats(), getBackends(), getHistory(HISTORY), getModels(), getHealth(),
    ]);
    Object.assign(this, { stats, backends, models, health, synced: true });
    const now_s = Date.now() / 1000;
    const oldest = history[history.length - 1];
    const whole = history.length >= stats.requests.total;
    const since_s = whole ? now_s - stats.uptime_seconds : oldest ? endOf(oldest, now_s) : now_s;
    this.series.knownSince(since_s, !whole && !(oldest && this.known.has(keyOf(oldest))));
    for (const record of history.reverse()) this.record(record);
    this.changed();
  }

  async loadBackends() {
    [this.backends, this.models] = await Promise.all([getBackends(), getModels()]);
    this.changed();
  }

  /** Loads and counters change without an event: they are asked for, often only under traffic. */
  async loadFigures() {
    if (document.hidden) return;
    this.figures_at_ms = performance.now();
    [this.stats, this.backends] = await Promise.all([getStats(), getBackends()]);
    this.changed();
  }

  poll() {
    this.soon("poll", async () => {
      await this.loadFigures();
      if (this.source !== null) this.poll();
    }, POLL_MS);
  }

  record(record) {
    if (!record || typeof record.request_id !== "string" || this.known.has(keyOf(record))) return;
    const now_s = Date.now() / 1000;
    this.known.add(keyOf(record));
    this.records.push(record);
    if (this.records.length > RECORDS_MAX) {
      for (const old of this.records.splice(0, RECORDS_MAX / 4)) this.known.delete(keyOf(old));
    }
    this.series.add(record, endOf(record, now_s));
    const ttft_ms = firstToken(record);
    if (record.backend && ttft_ms !== null) {
      const values = this.latencies.get(record.backend) ?? [];
      values.push(ttft_ms);
      if (values.length > LATENCIES) values.shift();
      this.latencies.set(record.backend, values);
    }
    this.changed();
  }

  // --- telling ---

  changed() {
    this.soon("tell", () => {
      this.series.trim(Date.now() / 1000);
      for (const listener of this.listeners) listener();
    }, TELL_MS);
  }

  /**
   * Calls `work` once, a little later, however often it is asked for meanwhile. When it finds the
   * gateway gone, the connection is lost (unless that has been seen, and mended, already).
   */
  soon(name, work, after_ms = TELL_MS) {
    if (this.timers[name] !== undefined) return;
    const source = this.source;
    this.timers[name] = setTimeout(async () => {
      delete this.timers[name];
      try {
        await work();
      } catch (failure) {
        if (!(failure instanceof ApiFailure)) throw failure;
        if (source === this.source) this.unreachable(failure);
      }
    }, after_ms);
  }
}

function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** What tells calls apart: a client may give several the same request id. */
export const keyOf = ({ request_id, at }) => `${at} ${request_id}`;

/** When a call ended, Unix seconds; never later than now, whatever the clocks say. */
export function endOf(record, now_s) {
  return Math.min(now_s, record.at + (record.duration_ms ?? 0) / 1000);
}
