// The way to the API: requests with the token, and one WebSocket that comes back by itself.

const ANSWER_WITHIN = 10_000;
// An order may first have to verify a program.
const ORDER_WITHIN = 130_000;
const FIRST_WAIT = 500;
const LONGEST_WAIT = 15_000;
// Without a frame for so long the server is asked whether it is still there; after as long again it is not.
const SILENCE = 30_000;

// In memory and nowhere else: neither in the address nor in any store of the browser.
let token = null;

export function useToken(text) {
  token = text;
}
export const hasToken = () => token !== null;

/** What the API answered instead of what was asked for, in its own words. */
export class Refused extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

/** One request; the answer is its JSON. Throws [`Refused`], or another error where no answer came. */
export async function call(method, path, body) {
  const headers = { Accept: "application/json" };
  if (token !== null) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const limit = method === "GET" ? ANSWER_WITHIN : ORDER_WITHIN;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      headers,
      cache: "no-store",
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(limit),
    });
  } catch (error) {
    const slow = error.name === "TimeoutError";
    throw new Error(slow ? `no answer within ${limit / 1000} s` : "the supervisor cannot be reached");
  }
  const text = await answer.text().catch(() => "");
  let value = null;
  try {
    value = JSON.parse(text);
  } catch {
    // Whatever stands in between (a proxy) may answer without JSON.
  }
  if (!answer.ok || value === null) {
    throw new Refused(answer.status, value?.code ?? "", value?.error ?? `the answer was HTTP ${answer.status}`);
  }
  return value;
}

/** The WebSocket: subscribed to `topics`, opened again when it is lost, and resumed from the last event seen. */
export class Live {
  /** `onFrame(frame)` for what comes, `onState("live" | "connecting" | "waiting")`: what came before "live" may be old. */
  constructor(topics, onFrame, onState) {
    Object.assign(this, { topics, onFrame, onState });
    this.socket = null;
    this.seq = null;
    this.attempts = 0;
    this.wait = null;
    this.watch = null;
  }

  open() {
    this.close();
    this.onState("connecting");
    const address = new URL("api/v1/ws", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const protocols = token === null ? ["wemixvisor"] : ["wemixvisor", `bearer.${token}`];
    let socket;
    try {
      socket = new WebSocket(address, protocols);
    } catch {
      // A token with characters that no subprotocol can have: the page goes on by asking.
      this.onState("waiting");
      return;
    }
    this.socket = socket;
    this.subscribed = false;
    socket.onmessage = (message) => this.heard(message.data);
    socket.onclose = () => socket === this.socket && this.again();
    this.heardAt = performance.now();
    this.watch = setInterval(() => this.listen(), SILENCE / 6);
  }

  close() {
    clearTimeout(this.wait);
    clearInterval(this.watch);
    const socket = this.socket;
    this.socket = null;
    socket?.close();
  }

  again() {
    this.close();
    this.onState("waiting");
    const longest = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.attempts);
    this.attempts += 1;
    // Not all pages of a supervisor that was restarted come back in the same moment.
    this.wait = setTimeout(() => this.open(), longest * (0.5 + Math.random() / 2));
  }

  subscribe() {
    const order = { action: "subscribe", topics: this.topics };
    if (this.seq !== null) order.since = this.seq;
    this.socket.send(JSON.stringify(order));
  }

  heard(text) {
    this.heardAt = performance.now();
    let frame;
    try {
      frame = JSON.parse(text);
    } catch {
      return;
    }
    if (frame.type === "hello") {
      // A home that was made anew counts from the beginning again.
      if (frame.seq < this.seq) this.seq = null;
      this.subscribe();
    } else if (frame.type === "subscribed" && !this.subscribed) {
      this.subscribed = true;
      this.attempts = 0;
      this.onState("live");
    }
    this.onFrame(frame);
    // Before it is subscribed nothing has been told yet.
    if (this.subscribed && Number.isInteger(frame.seq)) this.seq = frame.seq;
  }

  listen() {
    const silent = performance.now() - this.heardAt;
    if (silent > 2 * SILENCE) this.again();
    else if (silent > SILENCE && this.socket?.readyState === WebSocket.OPEN) {
      this.socket.send(JSON.stringify({ action: "subscribe", topics: ["system"] }));
    }
  }
}
