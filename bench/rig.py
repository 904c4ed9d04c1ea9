"""A home with programs in it, the supervisor on it, and the ways to see what happens from the outside."""

import contextlib
import http.client
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

from kernel import children, end_children

NODE_NAME = "node"


class Failed(Exception):
    """The measuring itself went wrong."""


def wait_for(what, look, limit=30.0, every=0.002):
    """The first answer of `look` that is not None or False."""
    end = time.monotonic() + limit
    while True:
        answer = look()
        if answer is not None and answer is not False:
            return answer
        if time.monotonic() > end:
            raise Failed(f"waited {limit:.0f} s in vain: {what}")
        time.sleep(every)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class _ControlSocket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost", timeout=10)
        self._path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Journal:
    """The test node's own record of facts, read as it grows."""

    def __init__(self, path):
        self.path = path
        self._file = None
        self._rest = ""
        self.facts = []

    def read(self):
        if self._file is None:
            if not os.path.exists(self.path):
                return self.facts
            self._file = open(self.path)
        self._rest += self._file.read()
        *whole, self._rest = self._rest.split("\n")
        self.facts += [json.loads(line) for line in whole]
        return self.facts

    def first(self, kind, after=0, **wanted):
        """The first fact of a kind after the `after` first facts, with the wanted values."""
        for fact in self.read()[after:]:
            if fact["fact"] == kind and all(fact.get(key) == value for key, value in wanted.items()):
                return fact
        return None

    def count(self):
        return len(self.read())


class Home:
    """A home in a directory of its own, with one program, and the supervisor that runs on it."""

    def __init__(self, wemixvisor, program, settings=None):
        self.wemixvisor = wemixvisor
        self.root = tempfile.mkdtemp(prefix="wemixvisor-bench-")
        self.data = os.path.join(self.root, "data")
        self.supervisor = None
        self.log = open(os.path.join(self.root, "supervisor.log"), "ab")
        foreign = ("DAEMON_", "COSMOVISOR_", "UNSAFE_", "GETH_", "WEMIX_")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(foreign)}
        self.environment |= {"DAEMON_HOME": self.root, "DAEMON_NAME": NODE_NAME} | (settings or {})
        self.command("init", program)

    def __enter__(self):
        return self

    def __exit__(self, kind, _error, _trace):
        with contextlib.suppress(Failed):
            self.stop()
        end_children()
        self.log.close()
        if kind is None or issubclass(kind, KeyboardInterrupt):
            shutil.rmtree(self.root, ignore_errors=True)

    def __str__(self):
        return self.root

    def command(self, *words):
        """Runs one command of the program on this home."""
        done = subprocess.run(
            [self.wemixvisor, *words], env=self.environment, capture_output=True, text=True, stdin=subprocess.DEVNULL
        )
        if done.returncode != 0:
            raise Failed(f"wemixvisor {' '.join(words)}: exit code {done.returncode}: {done.stderr.strip()}")
        return done.stdout

    def program(self, upgrade=None):
        """Where a program lies: of an upgrade, or the first one."""
        below = ("upgrades", upgrade) if upgrade else ("genesis",)
        return os.path.join(self.root, "wemixvisor", *below, "bin", NODE_NAME)

    def put(self, upgrade, program, flags=None):
        """Puts the program of an upgrade in place; a test node takes flags from a file beside it."""
        to = self.program(upgrade)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if upgrade:
            shutil.copy(program, to)
        if flags:
            with open(to + ".json", "w") as file:
                json.dump(flags, file)

    def start(self, *node_args):
        """Starts the supervisor; the answer is the monotonic moment before the fork."""
        before = time.monotonic_ns()
        self.supervisor = subprocess.Popen(
            [self.wemixvisor, "run", *node_args],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self.log,
        )
        return before

    def stop(self):
        """Ends supervisor and node in order."""
        if self.supervisor is None:
            return
        if self.supervisor.poll() is None:
            self.supervisor.send_signal(signal.SIGTERM)
        self.ended()

    def ended(self, limit=30.0):
        """Waits until the supervisor has ended; the answer is the wall-clock moment in nanoseconds."""
        supervisor, self.supervisor = self.supervisor, None
        pidfd = os.pidfd_open(supervisor.pid)
        try:
            # Not Popen.wait: with a limit it looks now and then only.
            in_time = select.select([pidfd], [], [], limit)[0]
        finally:
            os.close(pidfd)
        at = time.time_ns()
        if not in_time:
            supervisor.kill()
        supervisor.wait()
        if not in_time:
            raise Failed(f"the supervisor of {self} did not end within {limit:.0f} s")
        return at

    def ask(self, path, method="GET", body=None):
        """Asks over the control socket."""
        connection = _ControlSocket(os.path.join(self.root, "wemixvisor", "wemixvisor.sock"))
        try:
            connection.request(method, path, body=json.dumps(body) if body is not None else None)
            answer = connection.getresponse()
            text = answer.read().decode()
        finally:
            connection.close()
        if answer.status >= 300:
            raise Failed(f"{method} {path}: {answer.status} {text}")
        return json.loads(text)

    @contextlib.contextmanager
    def stream(self, path):
        """The lines of a stream of server-sent events, which may be quiet for less than 40 s."""
        connection = _ControlSocket(os.path.join(self.root, "wemixvisor", "wemixvisor.sock"))
        try:
            connection.request("GET", path, headers={"Accept": "text/event-stream"})
            connection.sock.settimeout(40)
            yield connection.getresponse()
        finally:
            connection.close()

    def status(self):
        """The status, or None while the socket is not there yet."""
        try:
            return self.ask("/api/v1/status")
        except OSError:
            if self.supervisor.poll() is not None:
                raise Failed(f"the supervisor ended: see {self}/supervisor.log") from None
            return None

    def head(self, least=1):
        """Waits until the supervisor follows the head, and says where it is."""

        def look():
            status = self.status()
            head = status and status["chain"]["head"]
            return head if head and head >= least and status["node"]["pid"] else None

        return wait_for(f"a head of at least {least}", look, every=0.02)

    def node_pid(self):
        return self.status()["node"]["pid"]

    def keeper_pid(self):
        """The node's parent."""
        with open(f"/proc/{self.node_pid()}/stat") as file:
            return int(file.read().rsplit(")", 1)[1].split()[1])

    def schedule(self, name, height):
        """Schedules an upgrade and waits until it is found ready."""
        self.ask("/api/v1/upgrades", "POST", {"name": name, "height": height})

        def ready():
            planned = self.ask(f"/api/v1/upgrades/{name}")
            if planned["ready"] is False:
                raise Failed(f"upgrade {name} is not ready: {planned['findings']}")
            return planned["ready"]

        wait_for(f"upgrade {name} is checked", ready, every=0.02)

    def committed(self, name, limit=60.0):
        """Waits until the upgrade is over; anything but a commit is a failure. The answer is its history."""

        def over():
            newest = self.ask("/api/v1/history?limit=1")["history"]
            return newest[0] if newest and newest[0]["name"] == name else None

        entry = wait_for(f"the end of upgrade {name}", over, limit=limit, every=0.02)
        if entry["outcome"] != "committed":
            raise Failed(f"upgrade {name} ended {entry['outcome']}: {entry['reason']}; see {self}/supervisor.log")
        return entry


def only_child(pid):
    """The one process that `pid` started, as soon as there is one."""
    return wait_for(f"a child of {pid}", lambda: next(iter(children(pid)), None))
