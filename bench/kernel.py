"""What the kernel says about processes: their files in /proc, and its own record of every start and end.

The record (the process connector) is for root only. It carries the kernel's stamps, so it also measures programs
that write no journal of their own, and leaves out what a program does before it can write one.
"""

import os
import signal
import socket
import struct
import threading
import time

_FORK, _EXEC, _EXIT = 0x1, 0x2, 0x80000000
_NETLINK_CONNECTOR = 11
_SO_RCVBUFFORCE = 33
_HEADERS = 16 + 20  # struct nlmsghdr, struct cn_msg


class ProcessRecord:
    """Every fork, exec and exit of the machine, stamped by the kernel in nanoseconds of the monotonic clock."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, _NETLINK_CONNECTOR)
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 8 << 20)
        self._socket.bind((0, 1))  # CN_IDX_PROC
        listen = struct.pack("=IIIIHHI", 1, 1, 0, 0, 4, 0, 1)
        header = struct.pack("=IHHII", 16 + len(listen), 3, 0, 0, os.getpid())
        self._socket.send(header + listen)
        self._lock = threading.Lock()
        self._execs, self._exits, self._forks = {}, {}, []
        threading.Thread(target=self._read, daemon=True).start()

    @classmethod
    def open(cls):
        """The record, or None where it cannot be had."""
        try:
            record = cls()
        except OSError:
            return None
        child = os.fork()
        if child == 0:
            os._exit(0)
        os.waitpid(child, 0)
        try:
            record.exit_of(child, limit=1.0)
        except TimeoutError:
            return None
        return record

    def _read(self):
        while True:
            try:
                message = self._socket.recv(4096)
            except OSError:
                continue  # Some were lost; whoever waits for them says so.
            what, _cpu, at = struct.unpack_from("=IIQ", message, _HEADERS)
            ids = struct.unpack_from("=4I", message, _HEADERS + 16)
            with self._lock:
                if what == _EXEC:
                    self._execs.setdefault(ids[1], []).append(at)
                elif what == _EXIT and ids[0] == ids[1]:
                    self._exits[ids[0]] = at
                elif what == _FORK and ids[2] == ids[3]:
                    self._forks.append((at, ids[1], ids[3]))

    def exec_of(self, pid, limit=5.0):
        """When process `pid` last replaced its program."""
        return self._wait(lambda: self._execs.get(pid, [None])[-1], f"exec of {pid}", limit)

    def exit_of(self, pid, limit=5.0):
        """When process `pid` ended."""
        return self._wait(lambda: self._exits.get(pid), f"exit of {pid}", limit)

    def children_of(self, pid, since):
        """How many processes `pid` started after the monotonic moment `since`."""
        with self._lock:
            return sum(1 for at, parent, _ in self._forks if parent == pid and at >= since)

    def _wait(self, look, what, limit):
        end = time.monotonic() + limit
        while True:
            with self._lock:
                found = look()
            if found is not None:
                return found
            if time.monotonic() > end:
                raise TimeoutError(f"the kernel's record has no {what}")
            time.sleep(0.002)


def field(pid, file, name):
    """The number in a line `name:  123 …` of /proc/<pid>/<file>."""
    with open(f"/proc/{pid}/{file}") as lines:
        for line in lines:
            if line.startswith(name + ":"):
                return int(line.split()[1])
    raise KeyError(f"/proc/{pid}/{file} has no {name}")


def _threads(pid):
    return os.listdir(f"/proc/{pid}/task")


def switches(pid):
    """Voluntary context switches so far, by thread."""
    count = {}
    for thread in _threads(pid):
        try:
            count[thread] = field(f"{pid}/task/{thread}", "status", "voluntary_ctxt_switches")
        except OSError:
            pass  # The thread has just ended.
    return count


def switched(before, after):
    """What came in between two answers of `switches`; a thread that ended meanwhile takes its last ones with it."""
    return sum(count - before.get(thread, 0) for thread, count in after.items())


def processor_ns(pid):
    """Processor time so far in nanoseconds, of all threads, ended ones included."""
    # The processor clock of another process: MAKE_PROCESS_CPUCLOCK(pid, CPUCLOCK_SCHED).
    return time.clock_gettime_ns((~pid << 3) | 2)


def children_ticks(pid):
    """Processor time of ended children, in clock ticks."""
    with open(f"/proc/{pid}/stat") as file:
        after = file.read().rsplit(")", 1)[1].split()
    return int(after[13]) + int(after[14])


def standing(pid):
    """Memory in KiB, threads, open files."""
    return {
        "rss": field(pid, "status", "VmRSS"),
        "own": field(pid, "status", "RssAnon"),
        "pss": field(pid, "smaps_rollup", "Pss"),
        "threads": len(_threads(pid)),
        "files": len(os.listdir(f"/proc/{pid}/fd")),
    }


def children(pid):
    """The processes whose parent is `pid`, whichever of its threads started them."""
    found = []
    for thread in _threads(pid):
        try:
            with open(f"/proc/{pid}/task/{thread}/children") as file:
                found += [int(child) for child in file.read().split()]
        except OSError:
            pass  # The thread has just ended.
    return found


def end_children():
    """Ends every process that is left of those that we started: orphans come to us (see `become_subreaper`)."""
    while left := children(os.getpid()):
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            try:
                os.waitpid(pid, 0)
            except ChildProcessError:
                pass


def become_subreaper():
    """Orphans of what we start become our children."""
    import ctypes

    PR_SET_CHILD_SUBREAPER = 36
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
