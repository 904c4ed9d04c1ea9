// The cards of upgrades: the one under way or the last one as a checklist, those to come, those that were.

import { appointment, byId, clean, clock, counting, duration, h, live, moment, number, pairs, show } from "./dom.js";
import { mode, readiness } from "./views.js";
import { blocksLeft, ms, now, state } from "./state.js";

const body = (id) => byId(id).querySelector(".body");

// Hooks come between where there are any.
const FORWARD = ["pre_stop", "stop", "pre_upgrade", "switch", "start", "probation", "post_upgrade"];
const BACK = ["back_stop", "back_switch", "back_start", "back_probation"];
const ALWAYS = {
  stop: "stop the old program", switch: "switch the link", start: "start the new program", probation: "prove the new program",
  back_stop: "stop the new program", back_switch: "switch the link back", back_start: "start the old program",
  back_probation: "check the old program",
};
const OUTCOMES = {
  committed: ["ok", "carried out"], rolled_back: ["bad", "rolled back"], cancelled: ["", "called off"],
  rollback_failed: ["bad", "rollback failed"],
};

const outcome = (entry) => {
  const [kind, text] = OUTCOMES[entry.outcome] ?? ["", clean(entry.outcome)];
  return h("span", { class: `tag ${kind}` }, text);
};

/** One line of a checklist. */
function line(sign, word, kind, text, ...rest) {
  return h("li", { "data-state": kind, "aria-current": kind === "now" ? "step" : null },
    h("span", { class: "sign", "aria-hidden": "true" }, sign),
    h("div", null, h("span", { class: "what" }, text), h("span", { class: "unseen" }, ` (${word})`), rest));
}

function checklist(steps, coming) {
  const lines = steps.map((step) => {
    const times = step.ended
      ? h("span", { class: "times" }, clock(step.started), `, ${duration(ms(step.ended) - ms(step.started))}`)
      : h("span", { class: "times" }, clock(step.started), ", ", live("span", null, () => counting(now() - ms(step.started))));
    const more = [times, step.note && h("p", { class: "note" }, clean(step.note)), step.failed && h("p", { class: "bad" }, clean(step.failed))];
    if (step.failed) return line("✕", "failed", "failed", clean(step.text), more);
    return step.ended ? line("✓", "done", "done", clean(step.text), more) : line("▸", "under way", "now", clean(step.text), more);
  });
  return h("ol", { class: "steps" }, lines, coming.map((step) => line("·", "to come", "todo", ALWAYS[step])));
}

/** The steps that are certain to come, unless something fails. */
function coming(upgrade) {
  const way = upgrade.going_back ? BACK : FORWARD;
  return way.slice(way.indexOf(upgrade.step) + 1).filter((step) => step in ALWAYS);
}

export function upgrade(actions) {
  const { upgrade: current, last_upgrade: last, supervisor } = state.status;
  show(body("upgrade"), [current, last, supervisor !== null], () => {
    byId("upgrade-title").textContent = current ? "Upgrade under way" : "Last upgrade";
    byId("upgrade").dataset.state = current ? "running" : (last?.outcome ?? "none");
    if (current) return underWay(current, actions);
    if (last) return finished(last, supervisor && actions);
    return h("p", { class: "empty" }, "There was none yet.");
  });
}

function underWay(current, actions) {
  return [
    h("p", { class: "big" }, h("span", { class: "figure name" }, clean(current.name)),
      h("span", { class: `tag ${current.going_back ? "bad" : "busy"}` }, current.going_back ? "goes back" : "under way")),
    h("p", { class: "muted" }, `${clean(current.from)} → ${clean(current.to)}, for `,
      live("span", null, () => counting(now() - ms(current.fired_at)))),
    current.failure && h("p", { class: "bad" }, clean(current.failure)),
    current.held && h("p", { class: "error" }, "It waits for you to start the new program."),
    checklist(current.steps, coming(current)),
    current.waiting_for.length > 0 && h("div", { class: "waiting" }, h("p", { class: "muted" }, "Still to be proven:"),
      h("ul", null, current.waiting_for.map((text) => h("li", null, clean(text))))),
    (current.held || (current.can_cancel && current.height !== null)) && h("p", { class: "buttons" },
      current.held && h("button", { type: "button", class: "main", "data-key": "held", onclick: actions.start }, "Start the new program"),
      current.can_cancel && current.height !== null && h("button", { type: "button", "data-key": "call-off", onclick: () => actions.cancel(current.name) }, "Call off…")),
  ];
}

function finished(last, actions) {
  const again = last.outcome !== "committed" && last.height !== null;
  return [
    h("p", { class: "big" }, h("span", { class: "figure name" }, clean(last.name)), outcome(last)),
    h("p", { class: "muted" }, moment(last.finished_at), `, after ${duration(ms(last.finished_at) - ms(last.fired_at))}`,
      last.downtime_ms !== null && `, node down for ${duration(last.downtime_ms)}`),
    last.reason && h("p", { class: "long" }, clean(last.reason)),
    last.trouble && h("p", { class: "bad long" }, clean(last.trouble)),
    checklist(last.steps, []),
    again && actions && h("p", { class: "buttons" },
      h("button", { type: "button", "data-key": "retry", onclick: () => actions.retry(last.name) }, "Try again…")),
  ];
}

export function scheduled(actions) {
  const { upgrades, upgrade: running, supervisor } = state.status;
  const still = upgrades.map((plan) => ({ ...plan, blocks_left: null, expected_at: plan.expected_at !== null }));
  show(body("scheduled"), [still, supervisor !== null, running?.name], () => {
    if (upgrades.length === 0) return h("p", { class: "empty" }, "Nothing is scheduled.");
    const seen = (name) => state.status.upgrades.find((one) => one.name === name);
    const when = (plan) => {
      const expected = seen(plan.name)?.expected_at;
      return expected ? appointment(expected).textContent : "–";
    };
    const button = (act, text, plan, can) => h("button", {
      type: "button", "data-key": `${text}-${plan.name}`, "aria-label": `${text} ${clean(plan.name)}…`, disabled: !can || running?.name === plan.name,
      onclick: () => act(plan),
    }, `${text}…`);
    return table(["Name", "Height", "Switch", "Blocks left", "Expected", "Ready", ""], upgrades.map((plan) => [
      h("span", null, h("strong", { class: "long" }, clean(plan.name)), plan.description && h("span", { class: "hint long" }, clean(plan.description))),
      number(plan.height),
      mode(plan),
      plan.fires_at === null ? "–" : live("span", null, () => number(blocksLeft(plan))),
      live("span", null, () => when(plan)),
      readiness(plan),
      h("span", { class: "buttons" }, button(actions.apply, "Apply now", plan, supervisor !== null),
        // Without a supervisor the plan file is edited.
        button((one) => actions.cancel(one.name), "Cancel", plan, true)),
    ]));
  });
}

export function history() {
  show(body("history"), state.history, () => {
    if (state.history.length === 0) return h("p", { class: "empty" }, "No upgrade was carried out yet.");
    return table(["Name", "Height", "Outcome", "Finished", "Took", "Node down", "From → to", "Details"], state.history.map((entry) => [
      h("strong", { class: "long" }, clean(entry.name)),
      entry.height === null ? "–" : number(entry.height),
      outcome(entry),
      moment(entry.finished_at),
      duration(ms(entry.finished_at) - ms(entry.fired_at)),
      entry.downtime_ms === null ? "–" : duration(entry.downtime_ms),
      h("span", { class: "long" }, `${clean(entry.from)} → ${clean(entry.to)}`),
      h("details", { "data-key": `history-${entry.id}` },
        h("summary", { "aria-label": `Steps of ${clean(entry.name)}` }, "Steps"),
        entry.reason && h("p", { class: "long" }, clean(entry.reason)),
        entry.trouble && h("p", { class: "bad long" }, clean(entry.trouble)),
        checklist(entry.steps, []),
        pairs(["Head when it fired", number(entry.head)], ["SHA-256", h("code", { class: "long" }, clean(entry.sha256))])),
    ]));
  });
}

/** A table whose cells know their column: on a phone each row becomes a card. */
function table(heads, rows) {
  return h("table", null,
    h("thead", null, h("tr", null, heads.map((text) => h("th", { scope: "col" }, text || h("span", { class: "unseen" }, "Actions"))))),
    h("tbody", null, rows.map((cells) => h("tr", null, cells.map((cell, place) => h(place === 0 ? "th" : "td", {
      scope: place === 0 ? "row" : null, "data-head": heads[place],
    }, cell))))));
}
