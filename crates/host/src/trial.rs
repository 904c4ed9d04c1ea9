//! Trials: the process dies, or a call to the system fails, at a named place and on order.
//!
//! The crash driver (`cargo run -p testkit --bin crash`) gives the orders, as files in the directory that
//! `WEMIXVISOR_TRIAL` names:
//!
//! ```text
//!  crash     <point>#<n> kill|stop    at the n-th passage since the order came, SIGKILL (or SIGSTOP) for itself
//!  fault     <call>#<n>*<times> <E>   from the n-th call on, so many calls fail with ENOSPC, EIO, EMFILE or EROFS
//!  passages  <ns> <pid> <place>       what was passed, as it was passed
//!  crashed   the order `crash`, once it was obeyed: an order is obeyed once, by one process
//!  forced/   what a power failure now would leave of the store
//!  unforced/ what a power failure now would bring back: files replaced, but not yet for good
//! ```
//!
//! Only with the feature `testing`, which is never in the shipped program. Without it everything here is empty and
//! nothing reads the environment.

#[cfg(feature = "testing")]
mod orders;
#[cfg(feature = "testing")]
mod power;

use std::ffi::OsString;
use std::io;
use std::path::Path;

/// The variable that names the directory of the orders. The node never gets it.
pub const VARIABLE: &str = "WEMIXVISOR_TRIAL";

/// The crash points of this crate, by name. Those of a keeper begin with `keeper.`.
pub const POINTS: [&str; 33] = [
    "file.begun",
    "file.written",
    "file.forced",
    "file.replaced",
    "file.done",
    "link.begun",
    "link.made",
    "link.replaced",
    "link.done",
    "plans.locked",
    "plans.read",
    "plans.done",
    "store.made",
    "keeper.locked",
    "keeper.ready",
    "keeper.spawn.begun",
    "keeper.spawn.locked",
    "keeper.spawn.announced",
    "keeper.spawn.forked",
    "keeper.spawn.executed",
    "keeper.spawn.told",
    "keeper.spawn.done",
    "keeper.note.written",
    "keeper.term.sent",
    "keeper.term.noted",
    "keeper.kill.begun",
    "keeper.kill.sent",
    "keeper.exit.seen",
    "keeper.exit.told",
    "keeper.exit.noted",
    "keeper.adopt.begun",
    "keeper.adopt.found",
    "keeper.adopt.done",
];

/// The calls to the system that can be made to fail, by name.
pub const CALLS: [&str; 25] = [
    "file.make",
    "file.write",
    "file.force",
    "file.replace",
    "dir.make",
    "dir.force",
    "link.make",
    "link.replace",
    "plans.read",
    "plans.lock",
    "store.open",
    "store.begin",
    "store.write",
    "store.commit",
    "keeper.start",
    "store.make",
    "hook.start",
    "keeper.spawn.lock",
    "keeper.spawn.pipe",
    "keeper.spawn.fork",
    "keeper.spawn.watch",
    "keeper.note.write",
    "keeper.note.replace",
    "keeper.log.open",
    "keeper.log.write",
];

/// A place at which the process may be killed on order.
#[inline(always)]
#[allow(unused_variables)]
pub fn crash_point(name: &str) {
    #[cfg(feature = "testing")]
    orders::pass(name);
}

/// The same with a name that has to be made; it is made only where it is needed.
#[inline(always)]
#[allow(unused_variables)]
pub fn crash_point_of(name: impl FnOnce() -> String) {
    #[cfg(feature = "testing")]
    orders::pass(&name());
}

/// Fails when a fault is ordered for this call.
///
/// # Errors
/// The one that is ordered.
#[inline(always)]
#[allow(unused_variables)]
pub fn fault(call: &str) -> io::Result<()> {
    #[cfg(feature = "testing")]
    return orders::call(call);
    #[cfg(not(feature = "testing"))]
    Ok(())
}

/// `path` is about to be replaced by rename: until its directory is forced, a power failure brings the old one back.
#[inline(always)]
#[allow(unused_variables)]
pub fn about_to_replace(path: &Path) {
    #[cfg(feature = "testing")]
    power::about_to_replace(path);
}

/// What was replaced in this directory is replaced for good.
#[inline(always)]
#[allow(unused_variables)]
pub fn forced(dir: &Path) {
    #[cfg(feature = "testing")]
    power::forced(dir);
}

/// All of the store is on the disk.
#[inline(always)]
#[allow(unused_variables)]
pub fn store_forced(path: &Path) {
    #[cfg(feature = "testing")]
    power::store_forced(path);
}

/// The environment without the orders: what the node and the hooks are to have.
#[inline(always)]
#[allow(unused_mut)]
pub fn without_orders(mut environment: Vec<(OsString, OsString)>) -> Vec<(OsString, OsString)> {
    #[cfg(feature = "testing")]
    environment.retain(|(name, _)| name != VARIABLE);
    environment
}
