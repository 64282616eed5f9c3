// A routing plan: the candidates in order with their scores, and who was left out and why.

import { h } from "../dom.js";
import { count, plain, tokens } from "../format.js";

const BEHIND = {
  tripped: "its breaker had opened",
  full: "as busy as it can be",
  output: "asked-for output may not fit its window",
  ignored: "ignores fields of the request",
  unknown: "not known to be able",
};

/** A panel with the plan that `POST /admin/v1/routes/explain` or the history tells. */
export function planView(title, note, plan) {
  const needs = [
    plan.profile?.needs_vision ? "vision" : null,
    plan.profile?.needs_tools ? "tools" : null,
    plan.profile?.needs_json ? "JSON" : null,
    plan.profile?.estimated_tokens ? `about ${tokens(plan.profile.estimated_tokens)} tokens of input` : null,
  ].filter(Boolean);
  const chain = plan.alias_chain?.length > 1 ? plan.alias_chain.map(plain).join(" → ") : "";
  return h("section", { class: "panel plan" },
    h("h2", { text: title }),
    h("p", { class: "muted", text: note }),
    chain ? h("p", { text: `Alias: ${chain}` }) : null,
    plan.fallback_model ? h("p", { text: `Fallback model: ${plain(plan.fallback_model)}` }) : null,
    needs.length ? h("p", { text: `Needs: ${needs.join(", ")}.` }) : null,
    plan.error ? h("p", { class: "notice", text: plain(plan.error.message) }) : null,
    plan.candidates?.length ? candidates(plan) : null,
    plan.dropped?.length ? dropped(plan.dropped) : null,
    plan.decision_us ? h("p", { class: "muted", text: `Decided in ${plan.decision_us.toFixed(0)} µs.` }) : null);
}

function candidates(plan) {
  const heads = [["#"], ["Backend"], ["Score"], ["Priority", "number"], ["Load", "number"], ["Latency", "number"], ["Behind others because"]];
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Candidates" }, h("table", { class: "attempts" },
    h("caption", { text: "Candidates, in the order of attempt" }),
    h("thead", null, h("tr", null, heads.map(([label, kind]) => h("th", { scope: "col", class: kind ?? null, text: label })))),
    h("tbody", null, plan.candidates.map((one, i) => {
      const bar = h("div", { class: "bar thin", "aria-hidden": "true" }, h("div"));
      bar.firstChild.style.width = `${Math.round(Math.max(0, Math.min(1, one.score ?? 0)) * 100)}%`;
      const behind = [
        ...(one.behind ?? []).map((word) => BEHIND[word] ?? plain(word)),
        one.ignored?.length ? `ignores ${one.ignored.map(plain).join(", ")}` : null,
      ].filter(Boolean);
      return h("tr", null,
        h("td", { class: "figure", text: count(i + 1) }),
        h("td", null, h("span", { class: "name", text: plain(one.backend) }),
          one.backend === plan.chosen ? h("span", { class: "tag", text: "chosen" }) : null),
        h("td", { class: "score" }, h("span", { class: "figure", text: share(one.score) }), bar),
        ["priority", "load", "latency"].map((part) => h("td", { class: "number figure", text: share(one.parts?.[part]) })),
        h("td", { text: behind.join(", ") || "–" }));
    }))));
}

function dropped(list) {
  return h("div", { class: "scroll", role: "region", tabindex: "0", "aria-label": "Left out" }, h("table", { class: "attempts" },
    h("caption", { text: "Left out" }),
    h("thead", null, h("tr", null, ["Backend", "Reason", ""].map((label) => h("th", { scope: "col", text: label })))),
    h("tbody", null, list.map((one) => h("tr", null,
      h("td", null, h("span", { class: "name", text: plain(one.backend) })),
      h("td", null, h("span", { class: "tag", text: plain(one.reason) })),
      h("td", { class: "muted", text: plain(one.detail) }))))));
}

function share(value) {
  return typeof value === "number" ? value.toFixed(2) : "–";
}
