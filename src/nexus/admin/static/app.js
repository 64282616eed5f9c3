// The page around the views: navigation by the address's fragment, connection, theme, sign-in.

import { signOut } from "./api.js";
import { announce, fill, h, setAttribute, setText } from "./dom.js";
import { span } from "./format.js";
import { Store } from "./store.js";
import { BackendsView } from "./views/backends.js";
import { ModelsView } from "./views/models.js";
import { OverviewView } from "./views/overview.js";
import { PlaygroundView } from "./views/playground.js";
import { RequestView } from "./views/request.js";
import { RequestsView } from "./views/requests.js";
import { RefusedView, SignInView } from "./views/signin.js";

const VIEWS = [
  ["overview", "Overview", OverviewView],
  ["backends", "Backends", BackendsView],
  ["models", "Models", ModelsView],
  ["requests", "Requests", RequestsView],
  ["playground", "Playground", PlaygroundView],
];

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const connection = document.getElementById("connection");
const store = new Store();
let shown = { key: null, view: null };

// --- views ---

function wanted() {
  if (store.state === "signin") return ["signin", "Sign in", SignInView, null];
  if (store.state === "refused") return ["refused", "No access", RefusedView, null];
  const [name, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  if (name === "requests" && rest[0]) {
    return [location.hash, "Request", RequestView, decoded(rest.join("/"))];
  }
  return [...(VIEWS.find(([key]) => key === name) ?? VIEWS[0]), null];
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function show({ focus }) {
  const [key, title, View, argument] = wanted();
  if (shown.key !== key) {
    shown.view?.destroy?.();
    const view = new View(store, argument);
    shown = { key, view };
    document.title = `${title} · Nexus`;
    main.replaceChildren(view.element);
    setAttribute(main, "data-view", key.startsWith("#") ? "request" : key);
    if (focus) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
    }
  }
  const closed = store.state === "signin" || store.state === "refused";
  nav.hidden = closed;
  for (const link of nav.children) {
    const current = key === link.dataset.view || (key.startsWith("#") && link.dataset.view === "requests");
    setAttribute(link, "aria-current", current ? "page" : null);
  }
  shown.view.update();
}

for (const [key, title] of VIEWS) {
  nav.append(h("a", { href: `#/${key}`, "data-view": key, text: title }));
}
addEventListener("hashchange", () => {
  if (location.hash !== "#main") show({ focus: true });
});

// The fragment belongs to the views, so the link to the content is followed by hand.
document.querySelector(".skip").addEventListener("click", (event) => {
  event.preventDefault();
  main.focus();
});

// --- connection ---

const CONNECTION = {
  connecting: "Connecting…",
  live: "Live",
  lost: "Connection lost, retrying…",
  signin: "Signed out",
  refused: "No access",
};
let toldState = "connecting";

function tellConnection() {
  setAttribute(connection, "data-state", store.state);
  setText(connection, CONNECTION[store.state]);
  document.getElementById("signout").hidden = !(store.keyed && store.state === "live");
  const footer = document.getElementById("footer");
  fill(footer, `${store.health?.version} ${Math.floor((store.stats?.uptime_seconds ?? 0) / 2)}`, () =>
    store.health && store.stats
      ? [h("span", { text: `Nexus ${store.health.version}` }), h("span", { text: `up ${span(store.stats.uptime_seconds)}` })]
      : []);
  if (store.state === toldState) return;
  if (store.state === "live" && toldState === "lost") announce("Connected again.");
  toldState = store.state;
}

document.getElementById("signout").addEventListener("click", async () => {
  await signOut().catch(() => null);
  location.reload();
});

// --- theme ---

const THEMES = { auto: ["light", "Theme: system"], light: ["dark", "Theme: light"], dark: ["auto", "Theme: dark"] };
const themeButton = document.getElementById("theme");

function tellTheme() {
  const theme = document.documentElement.dataset.theme ?? "auto";
  setText(themeButton, THEMES[theme][1]);
}

themeButton.addEventListener("click", () => {
  const [next] = THEMES[document.documentElement.dataset.theme ?? "auto"];
  if (next === "auto") delete document.documentElement.dataset.theme;
  else document.documentElement.dataset.theme = next;
  try {
    localStorage.setItem("nexus-theme", next);
  } catch {
    // Then it lasts as long as the page.
  }
  tellTheme();
  dispatchEvent(new Event("nexus-theme"));
});

tellTheme();
store.subscribe(() => {
  tellConnection();
  show({ focus: false });
});
show({ focus: false });
store.start();
// Charts move and ages grow without events.
setInterval(() => {
  if (!document.hidden && store.state === "live") shown.view.update();
}, 1000);
