// The page: what runs, what comes next, and the orders a person can give. It asks for the whole status and hears over a
// WebSocket that something happened, which makes it ask again; heights and log lines come over the WebSocket alone.

import { byId, clean, clockText, counting, tick } from "./dom.js";
import { Live, Refused, call, hasToken, useToken } from "./connection.js";
import { fetchLog, tookLines, watchLog } from "./log.js";
import { actions, takeOrders } from "./orders.js";
import { state, tookHeight, tookStatus } from "./state.js";
import * as upgrades from "./upgrades.js";
import * as views from "./views.js";

const STALE = 15_000;
// The status is asked for so often without being told to: while frames come, for figures that no event is made of; when
// none come; and during an upgrade, as the progress of a probation is no event either.
const POLL = 10_000;
const POLL_SILENT = 5_000;
const POLL_UPGRADE = 1_000;
const SOON = 80;

const TOPICS = ["upgrades", "heights", "node", "alerts", "system", "logs"];
// Frames that are no events.
const PASSING = ["hello", "subscribed", "unsubscribed", "snapshot", "height", "lines", "metrics", "error"];
const LINES = { live: "live", connecting: "connecting", waiting: "connecting again" };

let heardAt = Date.now();
let askedAt = 0;
let asking = false;
let again = false;
let soon = null;
let noticeUntil = 0;
let spoken = "";
// Rises with every sign-out: an answer that was asked for before it is not shown.
let session = 0;
let watching = false;
const socket = new Live(TOPICS, took, connection);

/** Says something to those who do not see the page. */
function announce(text) {
  byId("announce").textContent = text;
}

function notice(text, wrong) {
  const place = byId("notice");
  place.textContent = text;
  place.hidden = false;
  place.dataset.wrong = String(wrong);
  noticeUntil = Date.now() + (wrong ? 30_000 : 10_000);
  announce(text);
  askSoon();
}

function connection(how) {
  if (how === "live") {
    ask();
    fetchLog();
  }
  // Why it was closed is asked at once: the supervisor may be gone, or the token worth nothing any more.
  if (how === "waiting" && isLive() && byId("login").hidden) ask();
  byId("connection").dataset.state = how;
  byId("connection").textContent = LINES[how];
}

/** Whether heights and log lines come by themselves. */
const isLive = () => byId("connection").dataset.state === "live";

function heard() {
  heardAt = Date.now();
  stale();
}

function stale() {
  if (state.status === null) return false;
  const place = byId("stale");
  const is = Date.now() - heardAt > STALE;
  if (is) place.textContent = `Stale since ${clockText(heardAt)}: nothing was heard for ${counting(Date.now() - heardAt)}. What is shown may no longer be so; the page goes on trying.`;
  if (is === !place.hidden) return is;
  place.hidden = !is;
  byId("board").toggleAttribute("data-stale", is);
  announce(is ? `Stale since ${clockText(heardAt)}: the supervisor is not heard` : "The supervisor is heard again");
  views.verdict(is);
  views.tab(is);
  if (is) socket.open();
  return is;
}

function draw() {
  views.verdict(stale());
  views.about();
  views.alerts();
  views.node(actions);
  views.chain();
  views.next();
  upgrades.upgrade(actions);
  upgrades.scheduled(actions);
  views.tab(stale());
  tick();
  const { verdict, headline } = state.status;
  // Figures in the sentence change all the time; they are no news.
  const news = `${verdict}: ${headline}`.replace(/\d+/g, "#");
  if (news !== spoken) announce(`${verdict}: ${clean(headline)}`);
  spoken = news;
}

/** Asks for the whole status, once at a time. */
async function ask() {
  if (asking) {
    again = true;
    return;
  }
  asking = true;
  askedAt = Date.now();
  const mine = session;
  try {
    const last = state.status?.last_upgrade?.id;
    const first = state.status === null;
    const status = await call("GET", "api/v1/status");
    if (mine !== session) return;
    tookStatus(status);
    heard();
    signedIn();
    draw();
    if (!isLive()) fetchLog();
    if (first || state.status.last_upgrade?.id !== last) await askHistory();
  } catch (error) {
    if (mine === session) refused(error);
  } finally {
    asking = false;
    if (again) askSoon();
    again = false;
  }
}

async function askHistory() {
  state.history = (await call("GET", "api/v1/history?limit=50")).history;
  upgrades.history();
}

function askSoon() {
  clearTimeout(soon);
  soon = setTimeout(ask, SOON);
}

function refused(error) {
  if (error instanceof Refused && (error.status === 401 || (state.status === null && error.status === 403))) {
    signOut(hasToken() ? clean(error.message) : "");
  } else if (state.status === null) {
    const login = !byId("login").hidden;
    byId("token-error").textContent = login ? clean(error.message) : "";
    byId("stale").hidden = login;
    byId("stale").textContent = `${clean(error.message)}; the page goes on trying.`;
    connection("waiting");
  } else if (error instanceof Refused) {
    // It answered, though not with what was asked for.
    notice(clean(error.message), true);
  }
}

function signedIn() {
  if (!byId("board").hidden) return;
  byId("login").hidden = true;
  byId("token").value = "";
  byId("token-error").textContent = "";
  byId("stale").hidden = true;
  byId("board").hidden = false;
  byId("forget").hidden = !hasToken();
  socket.open();
  watching = true;
}

function signOut(why) {
  const asked = !byId("login").hidden;
  session += 1;
  useToken(null);
  socket.close();
  watching = false;
  state.status = null;
  state.head = null;
  for (const place of document.querySelectorAll("#verdict, #board .body, #about")) {
    place.replaceChildren();
    place.shown = null;
  }
  document.title = "wemixvisor";
  byId("confirm").close();
  byId("board").hidden = true;
  byId("forget").hidden = true;
  byId("stale").hidden = true;
  byId("login").hidden = false;
  byId("connection").dataset.state = "out";
  byId("connection").textContent = "signed out";
  byId("token-error").textContent = why;
  if (!asked || why) byId("token").focus();
}

function took(frame) {
  heard();
  if (frame.type === "height") {
    tookHeight(frame);
    if (state.status !== null) {
      tick();
      views.tab(false);
    }
  } else if (frame.type === "lines") {
    tookLines(frame.data.lines);
  } else if (frame.type === "error") {
    notice(clean(frame.data.error), true);
  } else if (!PASSING.includes(frame.type)) {
    if (frame.topic === "upgrades" && frame.data.message) announce(clean(frame.data.message));
    askSoon();
  }
}

function everySecond() {
  tick();
  stale();
  if (Date.now() > noticeUntil) byId("notice").hidden = true;
  // Where no WebSocket can be had (no supervisor runs, or what stands in between allows none) there is still an answer.
  if (!isLive() && state.status !== null && Date.now() - heardAt < POLL_SILENT) byId("connection").textContent = "asking every 5 s";
  const quiet = isLive() && Date.now() - heardAt < POLL_SILENT ? POLL : POLL_SILENT;
  const every = state.status?.upgrade ? POLL_UPGRADE : quiet;
  if (byId("login").hidden && Date.now() - askedAt >= every - 50) ask();
}

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const token = byId("token").value.trim();
  if (token === "") {
    byId("token-error").textContent = "type a token first";
    return;
  }
  useToken(token);
  ask();
});
byId("forget").addEventListener("click", () => signOut(""));
// What was shown while nobody looked may be old, and timers were slow.
document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && byId("login").hidden && ask());
window.addEventListener("online", () => watching && socket.open());

takeOrders(notice);
watchLog();
setInterval(everySecond, 1000);
ask();
