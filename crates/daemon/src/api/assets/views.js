// The cards of what is: verdict, alerts, node, chain, next upgrade. Each is made from `state` and made again only when
// what it shows has changed; what changes all the time (heights, countdowns) has elements that change by themselves.

import { appointment, byId, clean, counting, duration, h, live, moment, number, pairs, show } from "./dom.js";
import { blocksLeft, leaving, ms, now, state } from "./state.js";

const body = (id) => byId(id).querySelector(".body");

const LEVELS = { ok: ["✓", "OK"], attention: ["!", "Attention"], down: ["✕", "Down"] };

export function verdict(stale) {
  const { verdict: level, headline } = state.status;
  const [sign, word] = LEVELS[level] ?? ["?", clean(level)];
  const place = byId("verdict");
  place.dataset.level = stale ? "stale" : level;
  show(place, [level, headline, stale], () => [
    h("span", { class: "sign", "aria-hidden": "true" }, stale ? "?" : sign),
    h("p", null, h("strong", null, stale ? "Not known" : word), " ",
      h("span", { class: "headline" }, stale ? `it was ${word}: ${clean(headline)}` : clean(headline))),
  ]);
}

export function alerts() {
  const { alerts: list, plan_problem: problem, stuck, pinned } = state.status;
  const texts = list.map((alert) => [alert.kind, alert.text]);
  const said = (text) => texts.some(([, other]) => other.includes(text));
  if (problem && !said(problem)) texts.push(["plan_file", problem]);
  if (stuck && !said(stuck)) texts.push(["stuck", stuck]);
  byId("alerts").hidden = texts.length + pinned.length === 0;
  byId("alerts-title").textContent = texts.length > 0 ? "Needs you" : "Good to know";
  show(body("alerts"), [texts, pinned], () => [
    texts.length > 0 && h("ul", { class: "alert-list" }, texts.map(([kind, text]) => h(
      "li", null, h("strong", null, clean(kind).replaceAll("_", " ")), " ", h("span", null, clean(text)),
    ))),
    pinned.length > 0 && h("p", { class: "muted" }, "Not tried again without force: ", pinned.map((pin, place) => [
      place > 0 ? "; " : "", h("code", null, clean(pin.name)), ` (${clean(pin.reason)})`,
    ]).flat(), "."),
  ]);
}

const STATES = {
  running: "running", starting: "being started", waiting: "down, will be started again", stopping: "being stopped",
  stopped: "stopped", failed: "down, not started again",
};
const UP = ["running", "starting", "stopping"];

export function node(actions) {
  const { node: view, installed, supervisor, upgrade } = state.status;
  // While an upgrade goes on the node is its own, but for the start that it may wait for.
  const free = supervisor !== null && upgrade === null;
  show(body("node"), [view, installed, free, upgrade?.held, leaving()], () => {
    const runs = UP.includes(view.state);
    const unsaid = view.state === "running" && !view.answering ? ", has not told its height yet" : "";
    const last = view.last_exit;
    const button = (key, text, can, act, kind) => h(
      "button", { type: "button", "data-key": key, disabled: !can, onclick: act, class: kind }, text,
    );
    return [
      h("p", { class: "state", "data-state": view.state }, h("span", { class: "dot", "aria-hidden": "true" }),
        h("span", null, `${STATES[view.state] ?? clean(view.state)}${unsaid}`)),
      pairs(
        ["Version", clean(view.version ?? installed)],
        view.version && view.version !== installed && ["Installed", clean(installed)],
        view.client_version && ["Calls itself", h("span", { class: "long" }, clean(view.client_version))],
        view.pid && ["Process", `${view.pid}${view.adopted ? ", taken over" : ""}`],
        view.since && runs && ["Up for", live("span", { title: view.since }, () => counting(now() - ms(view.since)))],
        view.starts_at && ["Starts in", live("span", null, () => counting(ms(view.starts_at) - now()))],
        ["Restarts", `${view.restarts} of ${view.max_restarts}`],
        last && ["Last end", h("span", { class: "long" }, clean(last.text))],
      ),
      last?.tail && !runs && h("details", { "data-key": "node-tail" }, h("summary", null, "Its last words"),
        h("pre", { class: "small", tabindex: "0" }, clean(last.tail))),
      view.args.length > 0 && h("details", { "data-key": "node-args" }, h("summary", null, "Arguments"),
        h("pre", { class: "small", tabindex: "0" }, view.args.map(clean).join("\n"))),
      h("p", { class: "buttons" },
        button("start", "Start", (free || upgrade?.held) && !runs, actions.start),
        button("restart", "Restart…", free && runs, actions.restart),
        button("stop", "Stop…", free && (runs || view.state === "waiting"), actions.stop),
        button("rollback", "Roll back…", supervisor !== null && leaving() !== null, actions.rollback)),
    ];
  });
}

export function chain() {
  const view = state.status.chain;
  const model = [view.chain_id, view.sources, view.highest > view.head && view.highest, view.lag_ms !== null, state.head.height !== null];
  show(body("chain"), model, () => {
    const head = () => state.head.height;
    const still = () => (state.head.seenAt ? now() - state.head.seenAt : null);
    const pace = () => (state.head.blockTime ? `a block every ${duration(state.head.blockTime)}` : "not known yet");
    const failing = view.sources.filter((source) => source.failure);
    return [
      h("p", { class: "big" }, live("span", { id: "height", class: "figure" }, () => number(head())),
        h("span", { class: "muted" }, head() === null ? "height, not known yet" : "height")),
      pairs(
        ["Pace", live("span", { id: "pace" }, pace)],
        ["Last block", live("span", null, () => (still() === null ? "–" : `${counting(still())} ago`))],
        view.lag_ms !== null && ["Behind the clock", live("span", null, () => duration(state.status.chain.lag_ms))],
        view.highest > view.head && ["Highest seen", number(view.highest)],
        view.chain_id !== null && ["Chain id", String(view.chain_id)],
      ),
      h("details", { "data-key": "sources", open: failing.length > 0 && failing.length === view.sources.length },
        h("summary", null, failing.length > 0 ? `Sources (${failing.length} of ${view.sources.length} silent)` : "Sources"),
        h("ul", { class: "plain-list" }, view.sources.map((source) => h("li", null,
          h("span", { class: "long" }, clean(source.address)), " ",
          source.followed && h("span", { class: "tag" }, "followed"), " ",
          source.failure && h("span", { class: "bad" }, clean(source.failure)))))),
    ];
  });
}

/** When a plan fires, in words. */
export function mode(plan) {
  const [name, blocks] = plan.switch.split(":");
  switch (name) {
    case "at": return "at the height";
    case "before": return "one block before the height";
    case "window": return `in the last ${number(Number(blocks))} blocks before the height`;
    case "halted": return "when the chain has halted before the height";
    case "manual": return "only by order";
    default: return clean(plan.switch);
  }
}

/** Whether a plan is ready, as a word with a colour. */
export function readiness(plan) {
  const word = (kind, text) => h("span", { class: `tag ${kind}` }, text);
  if (state.status.upgrade?.name === plan.name) return word("busy", "under way");
  if (plan.pinned) return word("bad", "pinned as bad");
  if (plan.refused) return word("bad", "refused: too late");
  if (plan.blocked) return word("bad", "blocked");
  if (plan.ready === null) return word("", "being checked");
  return plan.ready ? word("ok", "ready") : word("bad", "not ready");
}

const SIGNS = { ok: ["✓", "good"], warning: ["!", "worth knowing"], failed: ["✕", "in the way"] };

export function findings(list) {
  return h("ul", { class: "findings" }, list.map((finding) => {
    const [sign, word] = SIGNS[finding.state] ?? ["?", clean(finding.state)];
    return h("li", { "data-state": finding.state }, h("span", { class: "sign", "aria-hidden": "true" }, sign),
      h("span", null, h("strong", null, clean(finding.what)), h("span", { class: "unseen" }, ` (${word})`), " ",
        h("span", null, clean(finding.detail))));
  }));
}

export function next() {
  const { upgrades, upgrade: running, upgrades_enabled: enabled } = state.status;
  const plan = upgrades.find((one) => one.name !== running?.name) ?? null;
  const still = plan && { ...plan, blocks_left: null, expected_at: plan.expected_at !== null };
  show(body("next"), [still, enabled, running?.name], () => {
    if (plan === null) return h("p", { class: "empty" }, running ? "Nothing after the one under way." : "Nothing is scheduled: the program that runs stays.");
    const seen = () => state.status.upgrades.find((one) => one.name === plan.name) ?? plan;
    const left = () => ms(seen().expected_at) - now();
    const failed = plan.findings.filter((finding) => finding.state === "failed").length;
    const warnings = plan.findings.filter((finding) => finding.state === "warning").length;
    const summary = ["Readiness: ", failed > 0 ? `${failed} in the way` : "nothing in the way", warnings > 0 ? `, ${warnings} worth knowing` : ""].join("");
    return [
      h("p", { class: "big" }, h("span", { class: "figure name" }, clean(plan.name)), readiness(plan)),
      plan.description && h("p", { class: "long" }, clean(plan.description)),
      plan.expected_at !== null && h("p", { class: "countdown" },
        live("span", { id: "countdown", class: "figure" }, () => (left() > 0 ? `in ${counting(left())}` : "any moment")), " ",
        live("span", { class: "muted" }, () => `about ${appointment(seen().expected_at).textContent}`)),
      pairs(
        ["Height", number(plan.height)],
        plan.fires_at !== null && ["Blocks left", live("span", { id: "blocks-left" }, () => number(blocksLeft(seen())))],
        ["Switch", mode(plan)],
        plan.program_version && ["New program", clean(plan.program_version)],
        plan.expect_version && ["Must call itself", clean(plan.expect_version)],
      ),
      !enabled && h("p", { class: "error" }, "Upgrades are only watched, not carried out: upgrade.enabled is false."),
      plan.blocked && h("p", { class: "error" }, `It is due and blocked: ${clean(plan.blocked)}`),
      plan.findings.length > 0 && h("details", { "data-key": `ready-${plan.name}-${plan.ready}`, open: failed > 0 },
        h("summary", null, summary), findings(plan.findings)),
    ];
  });
}

/** The line under the program's name. */
export function about() {
  const { supervisor } = state.status;
  const place = byId("about");
  show(place, supervisor, () => (supervisor === null ? "no supervisor runs" : [
    `${clean(supervisor.version)}, pid ${supervisor.pid}, since `, moment(supervisor.started_at),
  ]));
}

const COLOURS = { ok: "#1a7f45", attention: "#b97700", down: "#c62828" };

/** The tab says how it stands, also when another one is looked at. */
export function tab(stale) {
  const level = stale ? "stale" : state.status.verdict;
  const word = stale ? "STALE" : (LEVELS[level]?.[1] ?? level).toUpperCase();
  document.title = `${word} · ${number(state.head.height)} · wemixvisor`;
  const colour = COLOURS[level] ?? "#7a828c";
  const image = `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><circle cx="8" cy="8" r="7" fill="${colour}"/></svg>`;
  const address = `data:image/svg+xml,${encodeURIComponent(image)}`;
  if (byId("icon").getAttribute("href") !== address) byId("icon").setAttribute("href", address);
}
