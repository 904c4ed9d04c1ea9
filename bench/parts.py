"""The measurements. Each takes the bench's circumstances and gives the rows of one table."""

import datetime
import os
import shutil
import signal
import subprocess
import time

import kernel
from nodes import Prober, Real, testnode_args
from rig import Failed, Home, Journal, wait_for
from table import Row

_FAST = "250ms"
_TICK_MS = 1000 / os.sysconf("SC_CLK_TCK")


class Bench:
    """What every part needs: the two programs, the kernel's record if there is one, how many samples."""

    def __init__(self, wemixvisor, testnode, record, quick):
        self.wemixvisor, self.testnode, self.record, self.quick = wemixvisor, testnode, record, quick

    def times(self, full, quick):
        return quick if self.quick else full

    def home(self, settings=None):
        return Home(self.wemixvisor, self.testnode, settings)


def idle(bench):
    """The supervisor at one block a second with a plan waiting."""
    seconds = bench.times(60, 15)
    rows = []
    with bench.home() as home:
        home.put("later", bench.testnode, {"as-version": "2.0.0"})
        home.start(*testnode_args(home.data, os.path.join(home.root, "journal"), "1s"))
        rows += _idle_rows(bench, home, "test node over IPC", seconds)
    data_of = lambda root: os.path.join(root, "data")  # noqa: E731
    with Home(bench.wemixvisor, bench.testnode) as home:
        node = Real.find("anvil", data_of(home.root))
        if node is None:
            print("skipped: anvil is not installed (scripts/install-nodes anvil)")
            return rows
        _take_over(home, node, node.new)
        home.put("later", node.new)
        home.start(*node.args)
        rows += _idle_rows(bench, home, "anvil over WebSocket", seconds)
    return rows


def _take_over(home, node, program):
    """Makes `program` the home's first program, and sets what the node needs."""
    shutil.copy(program, home.program())
    home.environment |= node.settings


def _idle_rows(bench, home, where, seconds):
    home.head(least=3)
    home.schedule("later", 1_000_000)
    # Long enough for what comes once after a schedule.
    wait_for("a few quiet blocks", lambda: home.status()["chain"]["head"] >= 8 or None, every=0.5)
    supervisor, keeper = home.supervisor.pid, home.keeper_pid()
    processes = {"supervisor": supervisor, "keeper": keeper}
    since = time.monotonic_ns()
    before = {who: _used(pid) for who, pid in processes.items()}
    time.sleep(seconds)  # The one span that is to pass.
    spent = (time.monotonic_ns() - since) / 1e9
    after = {who: _used(pid) for who, pid in processes.items()}
    used = {who: _between(before[who], after[who]) for who in processes}
    standing = {who: kernel.standing(pid) for who, pid in processes.items()}
    rows = []
    for who in processes:
        memory = standing[who]
        bar = {"p50": 10.0} if who == "supervisor" else None
        note = f"of which its own (anonymous) {memory['own'] / 1024:.1f} MiB"
        own = {"p50": 5.0} if who == "supervisor" else None
        rows += [
            Row(f"{who}: memory (RSS), {where}", "MiB", [memory["rss"] / 1024], bar, "65" * bool(bar), note),
            Row(f"{who}: proportional share (PSS)", "MiB", [memory["pss"] / 1024]),
            Row(f"{who}: processor", "% of a core", [used[who][0] / spent / 1e7], {"p50": 0.2} if bar else None, "0.33" * bool(bar)),
            Row(f"{who}: voluntary switches", "1/s", [used[who][1] / spent], own, "98" * bool(bar)),
            Row(f"{who}: threads", "", [memory["threads"]]),
            Row(f"{who}: open files", "", [memory["files"]]),
        ]
    if bench.record:
        started = bench.record.children_of(supervisor, since)
        rows.append(Row("supervisor: child processes started", f"in {spent:.0f} s", [started], {"p50": 0}, "3.3 a second"))
    else:
        ticks = used["supervisor"][2] * _TICK_MS
        rows.append(Row("supervisor: processor of ended children", f"ms in {spent:.0f} s", [ticks], {"p50": 0}, "0.39 %"))
    return rows


def _used(pid):
    return kernel.processor_ns(pid), kernel.switches(pid), kernel.children_ticks(pid)


def _between(before, after):
    return after[0] - before[0], kernel.switched(before[1], after[1]), after[2] - before[2]


def upgrades(bench):
    """Head published -> SIGTERM, and old exit -> exec of the new, over many upgrades of a light node."""
    count = bench.times(50, 6)
    to_signal, to_exec, to_exit, journal_gap = [], [], [], []
    with bench.home() as home:
        for index in range(1, count + 1):
            home.put(f"v{index}", bench.testnode, {"as-version": f"1.1.{index}"})
        journal = Journal(os.path.join(home.root, "journal"))
        home.start(*testnode_args(home.data, journal.path, _FAST))
        for index in range(1, count + 1):
            at = home.head() + 8
            home.schedule(f"v{index}", at)
            seen, old = journal.count(), home.node_pid()
            # Nothing is asked of the supervisor while it is at work.
            started = _fact(journal, "start", seen, limit=60)
            home.committed(f"v{index}")
            height = _fact(journal, "block", seen, pid=old, height=at)
            told = _fact(journal, "signal", seen, pid=old)
            stopped = _fact(journal, "stop", seen, pid=old)
            if told["head"] < at:
                raise Failed(f"upgrade v{index} at height {at} was signalled at head {told['head']}")
            to_signal.append((told["at_ns"] - height["at_ns"]) / 1e6)
            journal_gap.append((started["at_ns"] - stopped["at_ns"]) / 1e6)
            if bench.record:
                to_exec.append((bench.record.exec_of(started["pid"]) - bench.record.exit_of(old)) / 1e6)
            to_exit.append((stopped["at_ns"] - told["at_ns"]) / 1e6)
    plain_exec, plain_journal = _plain_restarts(bench, count)
    rows = [
        Row("head visible over RPC -> SIGTERM at the node", "ms", to_signal, {"p50": 5, "p99": 20}, "134, max 300"),
    ]
    own = {"p50": 3, "p95": 8}
    if to_exec:
        rows.append(Row("old exit -> exec of the new (kernel)", "ms", to_exec, own, "1.8, p95 2.3"))
        rows.append(Row("  … a bare waitpid + fork + exec in Python", "ms", plain_exec))
    rows += [
        Row(
            "old's last fact -> new's first fact (journal)", "ms", journal_gap, None if to_exec else own, "",
            "contains the old process's teardown and the new one's loading and start-up",
        ),
        Row("  … the same for a bare waitpid + fork + exec", "ms", plain_journal),
        Row("SIGTERM at the node -> its last fact (the node's own)", "ms", to_exit),
    ]
    return rows


def _fact(journal, kind, after, limit=10, **wanted):
    named = f"fact {kind} {wanted} in the node's journal"
    return wait_for(named, lambda: journal.first(kind, after, **wanted), limit)


def _plain_restarts(bench, count):
    """The yardstick: stop and start the same node with nothing in between, from here."""
    by_kernel, by_journal = [], []
    with bench.home() as home:
        journal = Journal(os.path.join(home.root, "journal"))
        command = [home.program(), *testnode_args(home.data, journal.path, _FAST)]
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        node = subprocess.Popen(command, **quiet)
        for _ in range(count):
            _fact(journal, "block", 0, pid=node.pid)
            seen, old = journal.count(), node.pid
            node.send_signal(signal.SIGTERM)
            node.wait()
            node = subprocess.Popen(command, **quiet)
            stopped, started = _fact(journal, "stop", seen, pid=old), _fact(journal, "start", seen)
            by_journal.append((started["at_ns"] - stopped["at_ns"]) / 1e6)
            if bench.record:
                by_kernel.append((bench.record.exec_of(node.pid) - bench.record.exit_of(old)) / 1e6)
        node.send_signal(signal.SIGTERM)
        node.wait()
    return by_kernel, by_journal


def starts(bench):
    """Fork of the supervisor -> exec of the node, and SIGTERM to the supervisor -> SIGTERM at the node."""
    count = bench.times(40, 6)
    cold, to_term, to_end, first = [], [], [], []
    with bench.home() as home:
        journal = Journal(os.path.join(home.root, "journal"))
        args = testnode_args(home.data, journal.path, _FAST)
        for index in range(count + 1):
            seen = journal.count()
            before_wall, before = time.time_ns(), home.start(*args)
            started = _fact(journal, "start", seen)
            if bench.record:
                span = (bench.record.exec_of(started["pid"]) - before) / 1e6
            else:
                span = (started["at_ns"] - before_wall) / 1e6
            # The first one makes the store.
            (cold if index else first).append(span)
            home.head(least=2)
            at = time.time_ns()
            home.supervisor.send_signal(signal.SIGTERM)
            to_term.append((_fact(journal, "signal", seen)["at_ns"] - at) / 1e6)
            to_end.append((home.ended() - _fact(journal, "stop", seen)["at_ns"]) / 1e6)
    by = "kernel" if bench.record else "journal"
    return [
        Row(f"cold start: fork of wemixvisor -> exec of the node ({by})", "ms", cold, {"p50": 25, "p95": 25}, "33 warm"),
        Row("  … in a fresh home", "ms", first),
        Row("SIGTERM to the supervisor -> SIGTERM at the node", "ms", to_term, {"p50": 5, "p95": 5}, "415, max 990"),
        Row("the node's last fact -> the supervisor has ended", "ms", to_end),
    ]


def crashes(bench):
    """SIGKILL to the node -> exec of the next one, each time the first crash after healthy uptime."""
    count = bench.times(25, 5)
    spans = []
    with bench.home({"DAEMON_HEALTHY_UPTIME": "1s"}) as home:
        journal = Journal(os.path.join(home.root, "journal"))
        home.start(*testnode_args(home.data, journal.path, _FAST))
        for _ in range(count):
            started = _fact(journal, "start", max(0, journal.count() - 1)) if not spans else started
            begun = started["at_ns"]
            wait_for("healthy uptime", lambda: time.time_ns() - begun > 1.3e9 or None, every=0.02)
            home.head()
            seen, pid = journal.count(), started["pid"]
            at_wall, at = time.time_ns(), time.monotonic_ns()
            os.kill(pid, signal.SIGKILL)
            started = _fact(journal, "start", seen)
            if bench.record:
                spans.append((bench.record.exec_of(started["pid"]) - at) / 1e6)
            else:
                spans.append((started["at_ns"] - at_wall) / 1e6)
    by = "kernel" if bench.record else "journal"
    bar = {"p50": 15, "p95": 15}
    return [Row(f"SIGKILL of the node -> exec of the next ({by})", "ms", spans, bar, "does not restart")]


def gaps(bench):
    """The whole silence over RPC in an upgrade of a real node, and how long the upgrade takes."""
    rows = []
    for kind, theirs in (("anvil", 32), ("geth", 286)):
        count = bench.times(7, 1)
        silent, whole, down, plain = [], [], [], []
        for _ in range(count):
            with bench.home() as home:
                node = Real.find(kind, home.data)
                if node is None:
                    print(f"skipped: {kind} is not installed (scripts/install-nodes {kind})")
                    break
                _take_over(home, node, node.old)
                home.put("new", node.new)
                home.start(*node.args)
                home.schedule("new", home.head(least=3) + 4)
                with Prober(node.port) as prober:
                    entry = home.committed("new")
                silent.append(prober.gap_ms())
                whole.append(_seconds(entry["fired_at"], entry["finished_at"]))
                down.append(entry["downtime_ms"])
                home.stop()
            plain.append(_plain_gap(bench, kind))
        if silent:
            rows += [
                Row(f"whole RPC gap, {kind} {_versions(kind)}", "ms", silent, {"p50": theirs}, str(theirs)),
                Row(f"  … SIGTERM, waitpid and exec in Python ({kind})", "ms", plain),
                Row(f"  … as the history tells it: without a process ({kind})", "ms", down),
                Row(f"whole upgrade, trigger -> committed, {kind}", "s", whole, {"p50": 5} if kind == "anvil" else {"p50": 30}),
            ]
    rows.append(_whole_upgrade(bench))
    return rows


def _versions(kind):
    return {"anvil": "1.4.4 -> 1.7.1", "geth": "1.15.11 -> 1.16.7"}[kind]


def _plain_gap(bench, kind):
    """The yardstick: the same change of programs with nothing in between, from here."""
    with bench.home() as home:
        node = Real.find(kind, home.data)
        os.makedirs(home.data, exist_ok=True)
        quiet = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": home.root}
        process = subprocess.Popen([node.old, *node.args], **quiet)
        node.answers(3)
        with Prober(node.port) as prober:
            wait_for("a few answers", lambda: prober.answers() > 20, every=0.01)
            process.send_signal(signal.SIGTERM)
            process.wait()
            before = prober.answers()
            process = subprocess.Popen([node.new, *node.args], **quiet)
            wait_for(f"the new {kind} answers", lambda: prober.answers() > before + 5, every=0.01)
        process.send_signal(signal.SIGTERM)
        process.wait()
        return prober.gap_ms()


def _whole_upgrade(bench):
    spans = []
    count = bench.times(8, 2)
    with bench.home() as home:
        for index in range(1, count + 1):
            home.put(f"v{index}", bench.testnode, {"as-version": f"1.1.{index}"})
        home.start(*testnode_args(home.data, os.path.join(home.root, "journal"), "1s"))
        for index in range(1, count + 1):
            home.schedule(f"v{index}", home.head(least=2) + 3)
            entry = home.committed(f"v{index}")
            spans.append(_seconds(entry["fired_at"], entry["finished_at"]))
    return Row("whole upgrade, trigger -> committed, test node, 1 s blocks", "s", spans, {"p50": 5, "max": 5})


def _seconds(begin, end):
    read = datetime.datetime.fromisoformat
    return (read(end) - read(begin)).total_seconds()


PARTS = {"idle": idle, "upgrades": upgrades, "starts": starts, "crashes": crashes, "gaps": gaps}
TITLES = {
    "idle": "At rest: 1 block/s, a plan waiting",
    "upgrades": "An upgrade of a light node, 4 blocks/s",
    "starts": "Start and stop",
    "crashes": "A crash of the node",
    "gaps": "Whole upgrades",
}
