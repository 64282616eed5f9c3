// Finished calls, gathered per second: what the charts draw. A point is the mean over the last
// few seconds, so that lines are calm and still move every second.

/** How far back the charts go, seconds. */
export const SPAN_S = 300;
/** Rates are means over this many seconds. */
export const SMOOTH_S = 5;

const KEPT_S = SPAN_S + SMOOTH_S;

/** Outcomes that are a failure of the fleet or of the gateway. */
export const FAILED = new Set(["upstream_error", "timeout", "refused"]);

/** The value that `share` (0 to 1) of the values do not exceed (nearest rank); null of none. */
export function percentile(values, share) {
  if (values.length === 0) return null;
  const ordered = Float64Array.from(values).sort();
  return ordered[Math.max(0, Math.ceil(share * ordered.length) - 1)];
}

/** Milliseconds to a stream's first token; null for a plain answer, which comes as a whole. */
export function firstToken({ stream, ttft_ms }) {
  return stream && typeof ttft_ms === "number" ? ttft_ms : null;
}

/** The last second that is over: the present one would always look like a drop. */
export const lastWhole = (now_s) => Math.floor(now_s) - 1;

export class Series {
  constructor() {
    this.seconds = new Map();
    this.since_s = Infinity;
  }

  /**
   * Nothing is known from before this time (Unix, seconds): the charts leave it empty. With `gap`
   * that holds whatever was known before, since calls between then and now were missed.
   */
  knownSince(at_s, gap) {
    const since_s = Math.floor(at_s);
    this.since_s = gap ? since_s : Math.min(this.since_s, since_s);
  }

  /** A call that ended at `end_s` (Unix, seconds). */
  add(record, end_s) {
    const second = Math.floor(end_s);
    let bucket = this.seconds.get(second);
    if (!bucket) {
      bucket = { calls: 0, failed: 0, clientErrors: 0, cancelled: 0, tokens: 0, ttfts: [] };
      this.seconds.set(second, bucket);
    }
    bucket.calls += 1;
    if (FAILED.has(record.outcome)) bucket.failed += 1;
    else if (record.outcome === "client_error") bucket.clientErrors += 1;
    else if (record.outcome === "cancelled") bucket.cancelled += 1;
    bucket.tokens += record.tokens?.completion ?? record.tokens?.estimated ?? 0;
    const ttft_ms = firstToken(record);
    if (ttft_ms !== null) bucket.ttfts.push(ttft_ms);
  }

  /** Forgets what is older than the charts show. */
  trim(now_s) {
    for (const second of this.seconds.keys()) {
      if (second < now_s - KEPT_S) this.seconds.delete(second);
    }
  }

  /** The columns of the charts up to the last whole second: times and values. */
  columns(now_s) {
    const end = lastWhole(now_s);
    const times = [];
    const columns = { calls: [], failed: [], clientErrors: [], cancelled: [], tokens: [], p50: [], p95: [] };
    for (let second = end - SPAN_S; second <= end; second += 1) {
      times.push(second);
      const point = second < this.since_s ? null : this.point(second);
      for (const name of Object.keys(columns)) columns[name].push(point ? point[name] : null);
    }
    return { times, ...columns };
  }

  /** Means per second over the seconds up to and with `second`; percentiles of their TTFTs. */
  point(second, over_s = SMOOTH_S) {
    const sum = { calls: 0, failed: 0, clientErrors: 0, cancelled: 0, tokens: 0 };
    const ttfts = [];
    for (let at = second - over_s + 1; at <= second; at += 1) {
      const bucket = this.seconds.get(at);
      if (!bucket) continue;
      for (const name of Object.keys(sum)) sum[name] += bucket[name];
      ttfts.push(...bucket.ttfts);
    }
    const length_s = Math.max(1, Math.min(over_s, second - this.since_s + 1));
    for (const name of Object.keys(sum)) sum[name] /= length_s;
    return { ...sum, p50: percentile(ttfts, 0.5), p95: percentile(ttfts, 0.95) };
  }

  /** Counts over the last `over_s` seconds, and percentiles of their TTFTs. */
  total(now_s, over_s) {
    const end = Math.floor(now_s);
    let calls = 0;
    let failed = 0;
    let clientErrors = 0;
    const ttfts = [];
    for (let at = end - over_s + 1; at <= end; at += 1) {
      const bucket = this.seconds.get(at);
      if (!bucket) continue;
      calls += bucket.calls;
      failed += bucket.failed;
      clientErrors += bucket.clientErrors;
      ttfts.push(...bucket.ttfts);
    }
    return { calls, failed, clientErrors, p50: percentile(ttfts, 0.5), p95: percentile(ttfts, 0.95) };
  }
}
