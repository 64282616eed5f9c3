// What to do when there is no backend yet.

import { addBackend } from "../api.js";
import { h, setText } from "../dom.js";
import { plain } from "../format.js";

/** The panel that a gateway without backends shows. */
export function firstSteps() {
  return h("section", { class: "panel first" },
    h("h2", { text: "No inference server yet" }),
    h("p", { text: "Nexus needs at least one server that speaks to models: Ollama, vLLM, llama.cpp, LM Studio, SGLang or anything with the OpenAI API. Any of these ways adds one:" }),
    addForm(),
    h("dl", { class: "ways" },
      way("In a terminal", "nexus backends add http://localhost:11434"),
      way("In nexus.toml", '[[backends]]\nname = "ollama"\nurl = "http://localhost:11434"'),
      way("Nothing at hand? See it with made-up engines", "nexus demo")),
    h("p", { class: "muted", text: "Servers at the usual ports of this machine are found without any of this, unless discovery is switched off. This page shows a server as soon as it is there." }));
}

function way(label, code) {
  return h("div", null, h("dt", { text: label }), h("dd", null, h("pre", null, h("code", { text: code }))));
}

/** A form that adds a backend by its address. */
export function addForm() {
  const url = h("input", {
    id: "add-url", name: "url", type: "url", required: true, placeholder: "http://localhost:11434",
    autocomplete: "off", spellcheck: "false",
  });
  const save = h("input", { type: "checkbox", id: "add-save" });
  const button = h("button", { class: "primary", text: "Add backend" });
  const said = h("p", { class: "said", role: "status" });
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    setText(said, "Looking at the server…");
    try {
      const backend = await addBackend({ url: url.value, ...(save.checked ? { save: true } : {}) });
      setText(said, `Added as ${plain(backend.name)}.`);
      url.value = "";
    } catch (failure) {
      setText(said, plain(failure.message));
    }
    button.disabled = false;
  };
  return h("form", { class: "add", on: { submit } },
    h("label", { for: "add-url", text: "Address of a server" }),
    h("div", { class: "add-line" }, url, button),
    h("label", { class: "check", for: "add-save" }, save, "Keep it after a restart: write it to the configuration file, too"), said);
}
