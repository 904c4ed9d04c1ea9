// Elements, and how figures and moments are written. What comes from the API is text and becomes text nodes only:
// nothing here reads markup, and the Content-Security-Policy forbids it besides.

export const byId = (id) => document.getElementById(id);

/** An element: `h("p", {class: "x", onclick: f}, "text", other)`. What is null or false is left out. */
export function h(tag, props, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(props ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

// Control characters and those that turn the direction of writing: they could make a text look like another one.
const UNSEEN = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069]/g;
const COLOURS = /\u001b\[[0-9;?]*[A-Za-z]/g;

/** A text from the node, a plan or the supervisor, fit to be shown. */
export const clean = (text) => String(text ?? "").replace(COLOURS, "").replace(UNSEEN, "");

/** Shows what `build` makes in `place`, unless it was made from the same `model` before. Focus and open details stay. */
export function show(place, model, build) {
  const mark = JSON.stringify(model);
  if (place.shown === mark) return;
  place.shown = mark;
  const key = place.contains(document.activeElement) ? document.activeElement.dataset.key : null;
  const open = new Map([...place.querySelectorAll("details[data-key]")].map((one) => [one.dataset.key, one.open]));
  place.replaceChildren(...[build()].flat().filter(Boolean));
  for (const one of place.querySelectorAll("details[data-key]")) {
    if (open.has(one.dataset.key)) one.open = open.get(one.dataset.key);
  }
  if (key) [...place.querySelectorAll("[data-key]")].find((one) => one.dataset.key === key)?.focus();
}

const ticking = new Set();

/** An element whose text is `text()`, looked at again with every [`tick`]. */
export function live(tag, props, text) {
  const element = h(tag, props, text());
  element.again = () => {
    const now = text();
    if (element.textContent !== now) element.textContent = now;
  };
  ticking.add(element);
  return element;
}

export function tick() {
  for (const element of ticking) {
    if (element.isConnected) element.again();
    else ticking.delete(element);
  }
}

/** A list of names and values; pairs without a value are left out. */
export function pairs(...list) {
  const known = list.filter((pair) => pair && pair[1] !== null && pair[1] !== undefined);
  return h("dl", { class: "pairs" }, known.map(([name, value]) => h("div", null, h("dt", null, name), h("dd", null, value))));
}

export const number = (value) => (Number.isFinite(value) ? value.toLocaleString("en-GB") : "–");

/** A length of time. */
export function duration(ms) {
  if (!Number.isFinite(ms)) return "–";
  if (ms < 1000) return `${Math.max(0, Math.round(ms))} ms`;
  const seconds = ms / 1000;
  if (seconds < 10) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const two = (value) => String(value).padStart(2, "0");
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return `${Math.floor(whole / 60)} min ${two(whole % 60)} s`;
  if (whole < 86400) return `${Math.floor(whole / 3600)} h ${two(Math.floor(whole / 60) % 60)} min`;
  return `${Math.floor(whole / 86400)} d ${Math.floor(whole / 3600) % 24} h`;
}

/** The same in whole seconds, for what is counted while one looks. */
export const counting = (ms) => (ms < 60000 ? `${Math.max(0, Math.floor(ms / 1000))} s` : duration(ms));

const NEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric" });
const CLOCK = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", second: "2-digit" });
const ZONED = new Intl.DateTimeFormat("en-GB", { hour: "2-digit", minute: "2-digit", timeZoneName: "short" });

const timed = (moment, text) => h("time", { datetime: moment, title: moment }, text);

/** A moment by day and time. */
export function moment(text) {
  const at = new Date(text);
  return timed(text, `${DAY.format(at)}, ${CLOCK.format(at)}`);
}

/** A moment to come: the time zone matters, and this year's number does not. */
export function appointment(text) {
  const at = new Date(text);
  const day = at.getFullYear() === new Date().getFullYear() ? NEAR : DAY;
  return timed(text, `${day.format(at)}, ${ZONED.format(at)}`);
}

/** A moment of today. */
export const clock = (text) => timed(text, CLOCK.format(new Date(text)));
export const clockText = (ms) => CLOCK.format(new Date(ms));
