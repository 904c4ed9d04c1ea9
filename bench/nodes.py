"""The nodes that are run, and how their answers over HTTP are watched."""

import http.client
import json
import os
import threading
import time

from rig import Failed, free_port, wait_for

_ANVIL_ACCOUNTS = ["--accounts", "1"]


def testnode_args(data, journal, block_time):
    """The test node, alone on its chain, with its IPC socket as real nodes have it."""
    return ["--datadir", data, "--journal", journal, "--journal-blocks", "--block-time", block_time]


class Real:
    """A real node: where its two versions are, its arguments, the port on which it answers."""

    def __init__(self, kind, old, new, data):
        self.kind, self.old, self.new = kind, old, new
        self.port = free_port()
        self.address = f"http://127.0.0.1:{self.port}"
        if kind == "anvil":
            self.args = ["--port", str(self.port), "--block-time", "1", "--state", os.path.join(data, "anvil.json")]
            self.args += _ANVIL_ACCOUNTS
            # The product's own order: the socket first, then WebSocket, then HTTP. anvil has both on one port.
            self.settings = {"DAEMON_RPC_ADDRESS": f"ws://127.0.0.1:{self.port},{self.address}"}
        else:
            ports = [str(free_port()) for _ in range(2)]
            self.args = ["--dev", "--dev.period", "1", "--datadir", data, "--http", "--http.port", str(self.port)]
            self.args += ["--ws", "--ws.port", ports[0], "--port", "0", "--authrpc.port", ports[1], "--verbosity", "2"]
            self.settings = {}

    @staticmethod
    def find(kind, data):
        """The node, or None if this machine does not have both versions (see scripts/install-nodes)."""
        cache = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
        nodes = os.environ.get("WEMIXVISOR_NODES") or os.path.join(cache, "wemixvisor", "nodes")
        versions = {"anvil": ("1.4.4", "1.7.1"), "geth": ("1.15.11", "1.16.7")}[kind]
        old, new = (os.path.join(nodes, f"{kind}-{version}", kind) for version in versions)
        return Real(kind, old, new, data) if os.path.exists(old) and os.path.exists(new) else None

    def height(self):
        """The head over HTTP; None without an answer."""
        return _ask(self.port)

    def answers(self, least=1):
        wait_for(f"{self.kind} at block {least}", lambda: (self.height() or 0) >= least, every=0.01)


def _ask(port, timeout=1.0):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    question = {"jsonrpc": "2.0", "id": 1, "method": "eth_blockNumber", "params": []}
    try:
        connection.request("POST", "/", json.dumps(question), {"Content-Type": "application/json"})
        answer = json.loads(connection.getresponse().read())
        return int(answer["result"], 16)
    except (OSError, http.client.HTTPException, ValueError, KeyError):
        return None
    finally:
        connection.close()


class Prober:
    """Asks the height over HTTP every 2 ms, each time on a connection of its own, and finds the longest silence."""

    EVERY = 0.002

    def __init__(self, port):
        self._port, self._end, self._good = port, threading.Event(), []
        self._thread = threading.Thread(target=self._run, daemon=True)

    def _run(self):
        while not self._end.wait(self.EVERY):
            if _ask(self._port) is not None:
                self._good.append(time.monotonic())

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._end.set()
        self._thread.join()

    def answers(self):
        """How many good answers there were."""
        return len(self._good)

    def gap_ms(self):
        """The longest time between two good answers."""
        good = list(self._good)
        if len(good) < 2:
            raise Failed("the prober got no answers")
        return max(after - before for before, after in zip(good, good[1:])) * 1000
