// The two pages of a gateway that does not let this browser in.

import { signIn } from "../api.js";
import { h, setText } from "../dom.js";
import { plain } from "../format.js";

export class SignInView {
  constructor(store) {
    const key = h("input", {
      id: "key", type: "password", required: true, autocomplete: "current-password", spellcheck: "false",
    });
    const user = h("input", { type: "text", autocomplete: "username", value: "admin", hidden: true });
    const button = h("button", { class: "primary", text: "Sign in" });
    const said = h("p", { class: "said", role: "alert" });
    const submit = async (event) => {
      event.preventDefault();
      button.disabled = true;
      setText(said, "");
      try {
        await signIn(key.value);
        store.set("connecting");
        store.connect();
      } catch (failure) {
        setText(said, plain(failure.message));
        key.select();
      }
      button.disabled = false;
    };
    this.element = h("section", { class: "panel door" },
      h("h1", { text: "Sign in" }),
      h("p", { class: "muted", text: "This gateway asks for its admin key: the value of the environment variable that server.admin_key_env names." }),
      h("form", { on: { submit } }, user, h("label", { for: "key", text: "Admin key" }), key, button), said);
    queueMicrotask(() => key.focus());
  }

  update() {}
}

export class RefusedView {
  constructor(store) {
    this.store = store;
    this.why = h("p");
    this.element = h("section", { class: "panel door" }, h("h1", { text: "No access" }), this.why);
  }

  update() {
    setText(this.why, plain(this.store.why));
  }
}
