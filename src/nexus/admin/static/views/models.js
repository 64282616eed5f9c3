// Models × backends: who serves what, and what it can do there.

import { fill, h } from "../dom.js";
import { plain, tokens } from "../format.js";
import { badge, capabilities, dressStatus } from "../words.js";

export class ModelsView {
  constructor(store) {
    this.store = store;
    this.filter = h("input", {
      type: "search", id: "model-filter", placeholder: "Filter models", autocomplete: "off",
      "aria-label": "Filter models", on: { input: () => this.update() },
    });
    this.table = h("table", { class: "matrix" });
    this.empty = h("p", { class: "panel muted", hidden: true });
    this.region = h("div", { class: "panel scroll", role: "region", tabindex: "0", "aria-label": "Models and backends" }, this.table);
    this.element = h("div", { class: "stack" },
      h("header", { class: "view-head" }, h("h1", { text: "Models" }), h("div", { class: "filters" }, this.filter)),
      h("p", { class: "muted key" }, "Capabilities per backend: ",
        h("span", { text: "✓ yes" }), h("span", { text: "✕ no" }), h("span", { text: "? unknown" })),
      this.region, this.empty);
  }

  update() {
    const { store } = this;
    if (!store.synced) return;
    const wanted = this.filter.value.trim().toLowerCase();
    const models = store.models.filter(({ id }) => id.toLowerCase().includes(wanted));
    const serving = new Set(store.models.flatMap(({ backends }) => backends.map(({ name }) => name)));
    const backends = store.backends.filter(({ name }) => serving.has(name));
    this.region.hidden = models.length === 0;
    this.empty.hidden = models.length > 0;
    this.empty.textContent = store.models.length
      ? "No model has this in its name."
      : "No backend has told of a model yet.";
    const columns = backends.map(({ name, status, engine }) => ({ name, status, engine }));
    fill(this.table, JSON.stringify([models, columns]), () => [
      h("caption", { class: "hidden-text", text: "What each backend serves, and what the model can do there" }),
      h("thead", null, h("tr", null,
        h("th", { scope: "col", class: "pinned", text: "Model" }),
        columns.map((backend) => h("th", { scope: "col" },
          h("span", { class: "name", title: plain(backend.name), text: plain(backend.name) }),
          h("span", { class: "under" }, dressStatus(badge(), backend.status)))))),
      h("tbody", null, models.map((model) => row(model, columns))),
    ]);
  }
}

function row(model, columns) {
  const served = new Map(model.backends.map((entry) => [entry.name, entry]));
  const some = model.backends[0];
  const about = [some?.family, some?.quantization, some?.kind === "embedding" ? "embedding" : null];
  return h("tr", null,
    h("th", { scope: "row", class: "pinned" },
      h("span", { class: "name", title: plain(model.id), text: plain(model.id) }),
      h("span", { class: "under muted", text: plain(about.filter(Boolean).join(" · ")) })),
    columns.map(({ name }) => cell(served.get(name))));
}

function cell(entry) {
  if (!entry) return h("td", { class: "absent" }, h("span", { "aria-hidden": "true", text: "–" }), h("span", { class: "hidden-text", text: "not served" }));
  const loaded = entry.loaded === true ? "loaded" : entry.loaded === false ? "not loaded" : null;
  const window = entry.context_length ? `${tokens(entry.context_length)} context` : "context unknown";
  return h("td", null,
    h("span", { class: "serves", text: [window, loaded].filter(Boolean).join(", ") }),
    capabilities(entry.capabilities));
}
