// Builds and updates the page. What comes from outside only ever becomes a text node or an
// attribute's value, so no name of a model or backend can become markup. Nothing here, or anywhere
// in these files, takes HTML as text.

const SVG = "http://www.w3.org/2000/svg";

/**
 * An element. `props`: `class`, `on` ({event: listener}), `text`, anything else is an attribute
 * (true: present, false/null: absent). Children: nodes, text, null for nothing, lists of these.
 */
export function h(tag, props, ...children) {
  return build(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props, ...children) {
  return build(document.createElementNS(SVG, tag), props, children);
}

function build(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "text") {
      node.textContent = value;
    } else {
      setAttribute(node, name, value);
    }
  }
  node.append(...children.flat(3).filter((child) => child !== null && child !== undefined));
  return node;
}

/** Sets or removes an attribute, touching the page only when it changes. */
export function setAttribute(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/** Sets a node's text, touching the page only when it changes (selections stay). */
export function setText(node, text) {
  const wanted = String(text);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Replaces a node's children when `key` differs from the last time it was filled. */
export function fill(node, key, make) {
  if (node.fillKey === key) return;
  node.fillKey = key;
  node.replaceChildren(...[make()].flat(3).filter((child) => child !== null));
}

/**
 * Keeps `parent`'s children one per item, in order, reusing what is there: focus, hover and
 * selection survive an update. `create(item)` makes a node, `update(node, item)` fills it.
 */
export function keyed(parent, items, keyOf, create, update) {
  const known = (parent.knownNodes ??= new Map());
  const kept = new Map();
  const focused = parent.contains(document.activeElement) ? document.activeElement : null;
  let place = parent.firstChild;
  for (const item of items) {
    const key = keyOf(item);
    if (kept.has(key)) continue;
    const node = known.get(key) ?? create(item);
    update(node, item);
    kept.set(key, node);
    if (node === place) place = place.nextSibling;
    else parent.insertBefore(node, place);
  }
  for (const [key, node] of known) if (!kept.has(key)) node.remove();
  parent.knownNodes = kept;
  // A node that changes its place loses the focus.
  if (focused?.isConnected && focused !== document.activeElement) focused.focus({ preventScroll: true });
}

/** Text for screen readers alone. */
export function hidden(text) {
  return h("span", { class: "hidden-text", text });
}

/** Asks before something that cannot be taken back; resolves to whether it was confirmed. */
export function confirmed({ title, text, action }) {
  return new Promise((resolve) => {
    const dialog = h(
      "dialog",
      { "aria-labelledby": "dialog-title", on: { close: () => finish() } },
      h("form", { method: "dialog" },
        h("h2", { id: "dialog-title", text: title }),
        h("p", { text }),
        h("div", { class: "dialog-actions" },
          h("button", { value: "cancel", text: "Cancel", autofocus: true }),
          h("button", { class: "danger", value: "yes", text: action }))),
    );
    const finish = () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    };
    document.body.append(dialog);
    dialog.showModal();
  });
}

/** Tells screen readers, politely. */
export function announce(text) {
  setText(document.getElementById("announce"), text);
}
