// The admin API, asked with relative URLs so that the dashboard also works below a path of a proxy.

const PATIENCE_MS = 8000;

/** An answer that is an error (`status` is its HTTP status), or no answer (`status` 0). */
export class ApiFailure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** The answer's JSON value. Throws `ApiFailure`. */
export async function ask(method, path, body) {
  let response;
  try {
    response = await fetch(path, {
      method,
      body: body === undefined ? undefined : JSON.stringify(body),
      headers: body === undefined ? {} : { "Content-Type": "application/json" },
      cache: "no-store",
      signal: AbortSignal.timeout(PATIENCE_MS),
    });
  } catch {
    throw new ApiFailure(0, "The gateway does not answer.");
  }
  const text = await response.text().catch(() => "");
  if (!response.ok) throw new ApiFailure(response.status, messageOf(text, response.status));
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new ApiFailure(response.status, "The gateway's answer is not JSON.");
  }
}

/** What an error's body says (the OpenAI shape), in one sentence. */
export function messageOf(text, status) {
  try {
    const message = JSON.parse(text)?.error?.message;
    if (typeof message === "string" && message) return message;
  } catch {
    // Not ours: a proxy's page, say.
  }
  return `The gateway answered with status ${status}.`;
}

const admin = (path) => `admin/v1/${path}`;
const named = (name) => admin(`backends/${encodeURIComponent(name)}`);

export const EVENTS_URL = admin("events");

export const getSession = () => ask("GET", admin("session"));
export const getBackends = async () => (await ask("GET", admin("backends"))).data;
export const getStats = () => ask("GET", admin("stats"));
export const getHistory = async (limit) => (await ask("GET", admin(`history?limit=${limit}`))).data;
export const getRecord = (id) => ask("GET", admin(`history/${encodeURIComponent(id)}`));
export const getModels = async () => (await ask("GET", admin("models"))).data;
export const getHealth = () => ask("GET", "health");
export const explain = (endpoint, body) =>
  ask("POST", admin(`routes/explain?endpoint=${encodeURIComponent(endpoint)}`), body);
export const act = (name, action) => ask("POST", `${named(name)}/${action}`);
export const removeBackend = (name, save) => ask("DELETE", named(name), save ? { save } : undefined);
export const addBackend = (body) => ask("POST", admin("backends"), body);
export const signIn = (key) => ask("POST", admin("session"), { key });
export const signOut = () => ask("DELETE", admin("session"));
