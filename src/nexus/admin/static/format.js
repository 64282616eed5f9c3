// Numbers, times and names as people read them. Unknown is "–" everywhere.

const WHOLE = new Intl.NumberFormat("en");
const COMPACT = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
// Controls and the marks that turn the reading direction: in a name they only mislead.
const UNSEEN = /[\u0000-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

export const NONE = "–";

const known = (value) => typeof value === "number" && Number.isFinite(value);

/** A whole number: 12,345. */
export const count = (value) => (known(value) ? WHOLE.format(value) : NONE);

/** A large number, short: 1.2M. */
export const compact = (value) =>
  !known(value) ? NONE : value < 10_000 ? WHOLE.format(Math.round(value)) : COMPACT.format(value);

/** Something per second. */
export function rate(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0";
  if (value < 10) return value.toFixed(1);
  return WHOLE.format(Math.round(value));
}

/** A duration, milliseconds: 0.4 ms, 84 ms, 1.24 s, 2 m 5 s. */
export function ms(value) {
  if (!known(value)) return NONE;
  if (value === 0) return "0 ms";
  if (value < 10) return `${value.toFixed(1)} ms`;
  if (value < 999.5) return `${Math.round(value)} ms`;
  if (value < 59_950) return `${(value / 1000).toFixed(value < 9_950 ? 2 : 1)} s`;
  return span(value / 1000);
}

/** A long time, seconds: 42 s, 5 m 3 s, 3 h 12 m, 2 d 4 h. */
export function span(seconds) {
  if (!known(seconds)) return NONE;
  const s = Math.max(0, Math.floor(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} m ${s % 60} s`;
  if (s < 86_400) return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} m`;
  return `${Math.floor(s / 86_400)} d ${Math.floor((s % 86_400) / 3600)} h`;
}

/** A share, 0 to 1: 0.4 %. */
export function percent(value) {
  if (!known(value)) return NONE;
  const hundredths = value * 100;
  return `${hundredths === 0 || hundredths >= 10 ? Math.round(hundredths) : hundredths.toFixed(1)} %`;
}

/** A window in tokens: 32k, 128k, 8192 as 8k. */
export function tokens(value) {
  if (!known(value)) return NONE;
  if (value < 1000) return String(value);
  if (value % 1024 === 0 && value % 1000 !== 0) return `${WHOLE.format(value / 1024)}k`;
  return `${WHOLE.format(Math.round(value / 100) / 10)}k`;
}

/** A size: 4.1 GB. */
export function bytes(value) {
  if (!known(value)) return NONE;
  let size = value;
  for (const unit of ["B", "kB", "MB", "GB"]) {
    if (size < 1000) return `${unit === "B" || size >= 100 ? Math.round(size) : size.toFixed(1)} ${unit}`;
    size /= 1000;
  }
  return `${size.toFixed(1)} TB`;
}

/** A Unix time in seconds as a clock: 14:03:27. */
export function clock(at_s) {
  return known(at_s) ? new Date(at_s * 1000).toTimeString().slice(0, 8) : NONE;
}

/** A Unix time in seconds with its date: 2026-11-23 14:03:27. */
export function moment(at_s) {
  if (!known(at_s)) return NONE;
  const date = new Date(at_s * 1000);
  const two = (number) => String(number).padStart(2, "0");
  return `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${clock(at_s)}`;
}

/** How long ago a Unix time in seconds was. */
export function ago(at_s) {
  return known(at_s) ? `${span(Date.now() / 1000 - at_s)} ago` : NONE;
}

/** Text of a stranger on one line: what cannot be seen is shown as a replacement sign. */
export function plain(text) {
  return String(text ?? "").replace(UNSEEN, "\ufffd");
}
