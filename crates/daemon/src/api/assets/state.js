// What is known at the moment: the last status, and what came since. The views read it and never change it.

export const state = {
  /** `GET /api/v1/status`, as it was answered last. */
  status: null,
  /** `GET /api/v1/history`. */
  history: [],
  /** The head: `{height, seenAt, blockTime}`, from the status or from a newer frame. */
  head: null,
  /** Milliseconds that the supervisor's clock is ahead of this one. */
  ahead: 0,
};

/** The supervisor's clock, in milliseconds since 1970. */
export const now = () => Date.now() + state.ahead;
export const ms = (text) => Date.parse(text);

export function tookStatus(status) {
  const at = ms(status.at);
  state.status = status;
  state.ahead = at - Date.now();
  const chain = status.chain;
  // A frame may have overtaken the answer.
  if (state.head === null || state.head.told <= at) {
    state.head = { height: chain.head, seenAt: chain.seen_at && ms(chain.seen_at), blockTime: chain.block_time_ms, told: at };
  }
}

export function tookHeight(frame) {
  const told = ms(frame.timestamp);
  const { height, block_time_ms: blockTime } = frame.data;
  const same = state.head?.height === height;
  state.head = { height, seenAt: same ? state.head.seenAt : told, blockTime: blockTime ?? state.head?.blockTime, told };
}

/** The upgrade that a rollback would take back, if it can be asked for: the one on probation, or the one that runs. */
export function leaving() {
  const { upgrade, installed } = state.status;
  if (upgrade === null) return installed === "genesis" ? null : installed;
  const proving = upgrade.held || ["probation", "post_upgrade"].includes(upgrade.step);
  return proving && upgrade.height !== null ? upgrade.name : null;
}

/** How many blocks are left for a plan, by the newest head. */
export function blocksLeft(plan) {
  if (Number.isInteger(plan.fires_at) && Number.isInteger(state.head?.height)) {
    return Math.max(0, plan.fires_at - state.head.height);
  }
  return plan.blocks_left;
}
