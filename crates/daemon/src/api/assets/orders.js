// What a person orders: the dialog in which a dangerous one is confirmed by typing, the form for a new upgrade, and what
// the supervisor answered.

import { byId, clean, duration, number } from "./dom.js";
import { call } from "./connection.js";
import { leaving, state } from "./state.js";

let told = () => {};
let pending = null;

const path = (name, rest = "") => `api/v1/upgrades/${encodeURIComponent(name)}${rest}`;

async function order(method, where, body) {
  try {
    const answer = await call(method, where, body);
    told(clean(answer.message ?? "done"), false);
    return null;
  } catch (error) {
    return clean(error.message);
  }
}

/** Asks in the dialog. `wanted` has to be typed; `act(force)` gives what went wrong, or null. */
function confirm({ title, text, wanted, verb, force, act }) {
  byId("confirm-title").textContent = title;
  byId("confirm-text").textContent = text;
  byId("confirm-wanted").textContent = wanted;
  byId("confirm-yes").textContent = verb;
  byId("confirm-yes").disabled = true;
  byId("confirm-word").value = "";
  byId("confirm-error").textContent = "";
  byId("confirm-force").checked = false;
  byId("confirm-force-field").hidden = !force;
  byId("confirm-force-text").textContent = force ?? "";
  pending = { wanted, verb, act, busy: false, from: document.activeElement?.dataset.key };
  byId("confirm").showModal();
  byId("confirm-word").focus();
}

const matches = () => byId("confirm-word").value.trim() === pending?.wanted;

async function confirmed(event) {
  event.preventDefault();
  if (!matches() || pending.busy) return;
  pending.busy = true;
  byId("confirm-yes").disabled = true;
  byId("confirm-yes").textContent = "One moment…";
  const mine = pending;
  const wrong = await mine.act(byId("confirm-force").checked);
  if (mine !== pending) return;
  mine.busy = false;
  byId("confirm-yes").textContent = mine.verb;
  byId("confirm-yes").disabled = !matches();
  if (wrong === null) byId("confirm").close();
  else byId("confirm-error").textContent = wrong;
}

/** The button that was pressed may have been made anew meanwhile, or be gone. */
function closed() {
  // The event comes later than the end: it may be open again, for another order.
  if (byId("confirm").open) return;
  const key = pending?.from;
  pending = null;
  if (document.activeElement && document.activeElement !== document.body) return;
  const button = key && [...document.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key && !one.disabled);
  (button || byId("main")).focus();
}

export const actions = {
  async start() {
    const wrong = await order("POST", "api/v1/node/start");
    if (wrong !== null) told(wrong, true);
  },
  restart: () => confirm({
    title: "Restart the node", wanted: "restart", verb: "Restart the node",
    text: "The node is stopped at a moment that suits it and started again. Until then it signs and answers nothing.",
    act: () => order("POST", "api/v1/node/restart"),
  }),
  stop: () => confirm({
    title: "Stop the node", wanted: "stop", verb: "Stop the node",
    text: "The node is stopped and stays down until somebody starts it. A validator misses its blocks meanwhile.",
    act: () => order("POST", "api/v1/node/stop"),
  }),
  rollback: () => {
    const name = clean(leaving());
    confirm({
      title: `Roll ${name} back`, wanted: name, verb: "Roll back",
      text: `The node is stopped and the program that ran before ${name} is started. Past a fork's height it may be unable to follow the chain.`,
      act: () => order("POST", "api/v1/upgrades/rollback"),
    });
  },
  apply: (plan) => confirm({
    title: `Apply ${clean(plan.name)} now`, wanted: clean(plan.name), verb: "Apply it now",
    text: `The upgrade is carried out at once and not at height ${number(plan.height)}: the node is stopped, the program switched and started.`,
    force: plan.pinned ? "Even though its program failed before and is pinned as bad" : null,
    act: (force) => order("POST", path(plan.name, force ? "/apply?force=true" : "/apply")),
  }),
  cancel: (name) => confirm({
    title: `Cancel ${clean(name)}`, wanted: clean(name), verb: "Cancel the upgrade",
    text: "It is taken off the schedule. If the network needs it at its height, this node falls behind there.",
    act: () => order("DELETE", path(name)),
  }),
  retry: (name) => confirm({
    title: `Try ${clean(name)} again`, wanted: clean(name), verb: "Try again",
    text: "The upgrade is carried out at once, with the program as it lies there now.",
    act: () => order("POST", path(name, "/retry")),
  }),
};

/** A height as people write it: `1,500,000` and `1 500 000` too. */
const height = (text) => text.replace(/[\s,'_]/g, "");

function hint() {
  const text = height(byId("plan-height").value);
  const head = state.head?.height;
  let said = "";
  if (/^\d+$/.test(text) && Number.isInteger(head)) {
    const left = Number(text) - head;
    const time = state.head.blockTime ? `, in about ${duration(left * state.head.blockTime)}` : "";
    if (left > 0) said = `${number(left)} blocks from now${time}.`;
    else said = "That height has already passed: it will be refused.";
  }
  byId("height-hint").textContent = said;
}

async function schedule(event) {
  event.preventDefault();
  const form = byId("schedule");
  const fields = new FormData(form);
  const text = (name) => String(fields.get(name) ?? "").trim();
  const plan = { name: text("name"), height: height(text("height")), switch: text("switch") };
  if (plan.switch === "window") plan.switch = `window:${text("window")}`;
  for (const field of ["checksum", "description"]) if (text(field)) plan[field] = text(field);
  const button = form.querySelector("button");
  button.disabled = true;
  const wrong = await order("POST", "api/v1/upgrades", plan);
  button.disabled = false;
  byId("schedule-error").textContent = wrong ?? "";
  for (const field of ["name", "height"]) {
    form.elements[field].toggleAttribute("aria-invalid", wrong?.includes(`\`${field}\``) ?? false);
  }
  if (wrong === null) {
    form.reset();
    byId("window-field").hidden = true;
    hint();
  }
  byId("plan-name").focus();
}

/** Hooks up dialog and form. `say(text, wrong)` shows what became of an order. */
export function takeOrders(say) {
  told = say;
  byId("confirm-form").addEventListener("submit", confirmed);
  byId("confirm-word").addEventListener("input", () => {
    byId("confirm-yes").disabled = !matches();
  });
  byId("confirm-no").addEventListener("click", () => byId("confirm").close());
  byId("confirm").addEventListener("close", closed);
  byId("schedule").addEventListener("submit", schedule);
  byId("plan-height").addEventListener("input", hint);
  byId("plan-switch").addEventListener("change", () => {
    byId("window-field").hidden = byId("plan-switch").value !== "window";
  });
}
