// The end of the node's log. Lines come over the WebSocket; what was said before is fetched, and both are joined where
// they overlap.

import { byId, clean } from "./dom.js";
import { call } from "./connection.js";

const KEPT = 200;

let lines = [];
/** What has come since each of the fetches under way began. */
const fetches = new Set();
let paused = false;
let missed = 0;

/** `first`, then what of `second` comes after it: the longest end of the one that begins the other is in both. */
function joined(first, second) {
  for (let length = Math.min(first.length, second.length); length > 0; length -= 1) {
    const end = first.slice(first.length - length);
    if (end.every((line, place) => line === second[place])) return first.concat(second.slice(length));
  }
  return first.concat(second);
}

function draw() {
  const place = byId("log-lines");
  if (paused) {
    byId("log-pause").textContent = missed > 0 ? `Go on (${missed} new)` : "Go on";
    return;
  }
  const atEnd = place.scrollHeight - place.scrollTop - place.clientHeight < 24;
  place.textContent = lines.length > 0 ? lines.map(clean).join("\n") : "The node has said nothing yet.";
  if (atEnd) place.scrollTop = place.scrollHeight;
}

/** Fetches the end of the log and joins to it what has come meanwhile. A fetch can overtake another one. */
export async function fetchLog() {
  const meanwhile = [];
  fetches.add(meanwhile);
  let before = lines;
  try {
    before = (await call("GET", `api/v1/logs?tail=${KEPT}`)).lines;
  } catch {
    // What is known stays.
  }
  fetches.delete(meanwhile);
  lines = joined(before, meanwhile).slice(-KEPT);
  draw();
}

export function tookLines(more) {
  missed = paused ? Math.min(missed + more.length, 9999) : 0;
  fetches.forEach((meanwhile) => meanwhile.push(...more));
  lines = lines.concat(more).slice(-KEPT);
  draw();
}

export function watchLog() {
  const button = byId("log-pause");
  button.addEventListener("click", () => {
    paused = !paused;
    missed = 0;
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = "Pause";
    draw();
    if (!paused) byId("log-lines").scrollTop = byId("log-lines").scrollHeight;
  });
}
