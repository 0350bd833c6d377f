"""Start the real daemon in user mode in a directory of its own, talk to it, leave nothing behind."""

import contextlib
import glob
import http.client
import importlib.util
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import unittest

BUILD = os.environ["BITNETD_BUILD_ROOT"]
SOURCE = os.environ["BITNETD_SOURCE_ROOT"]
BITNETD = os.path.join(BUILD, "daemon/broker/bitnetd")
WORKER = os.path.join(BUILD, "daemon/worker/bitnetd-worker")
BNCTL = os.path.join(BUILD, "client/bnctl")
MODELS = os.path.join(SOURCE, "models")
# Packing the embedded model takes seconds; every test program of one build shares the result.
STATE = os.path.join(BUILD, "e2e-state")
SMOL = "smollm2-135m-instruct-trit"
TINY = "tinystories-3m"


class UnixConnection(http.client.HTTPConnection):
    def __init__(self, path, timeout=120):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Daemon:
    def __init__(self, *options, model_dir=MODELS, state=STATE, config=None, env=None):
        self.dir = tempfile.mkdtemp(prefix="bitnetd-e2e-")
        os.chmod(self.dir, 0o755)
        self.socket = os.path.join(self.dir, "api.sock")
        self.log = open(os.path.join(self.dir, "log"), "w+", encoding="utf-8")
        args = [BITNETD, "--user", "--model-dir", model_dir, "--state-dir", state,
                "--socket", self.socket, "--pressure-file", "", *options]
        if config is not None:
            path = os.path.join(self.dir, "bitnetd.conf")
            with open(path, "w", encoding="utf-8") as f:
                f.write(config)
            args += ["--config", path]
        environment = dict(os.environ, BITNETD_WORKER=WORKER, XDG_CONFIG_HOME=self.dir,
                           **(env or {}))
        if env is None:
            environment.pop("DBUS_SESSION_BUS_ADDRESS", None)
        self.process = subprocess.Popen(args, stderr=self.log, stdout=self.log, env=environment)
        deadline = time.monotonic() + 60
        while not os.path.exists(self.socket):
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError("the daemon did not start: " + self.read_log())
            time.sleep(0.02)

    def read_log(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8") as f:
            return f.read()

    def stop(self):
        children = self.workers()
        self.process.send_signal(signal.SIGTERM)
        try:
            status = self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            status = "killed after a minute"
        left = [pid for pid in children if os.path.exists(f"/proc/{pid}")]
        self.log.close()
        shutil.rmtree(self.dir, ignore_errors=True)
        if status != 0 or left:
            raise RuntimeError(f"unclean end: status {status}, workers left {left}")

    def workers(self):
        """Pids of the worker processes of this daemon."""
        found = []
        for path in glob.glob("/proc/[0-9]*/stat"):
            with contextlib.suppress(OSError):
                with open(path, encoding="utf-8") as f:
                    pid, rest = f.read().split(" (", 1)
                name, rest = rest.rsplit(") ", 1)
                state, parent = rest.split()[:2]
                if int(parent) == self.process.pid and state != "Z":
                    found.append(int(pid))
        return found

    def request(self, method, path, body=None, headers=None, timeout=120):
        """(status, headers, bytes) of one request."""
        c = UnixConnection(self.socket, timeout)
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            headers = {"Content-Type": "application/json", **(headers or {})}
        c.request(method, path, body=body, headers=headers or {})
        r = c.getresponse()
        data = r.read()
        c.close()
        return r.status, dict(r.getheaders()), data

    def chat(self, text, **fields):
        body = {"model": SMOL, "messages": [{"role": "user", "content": text}], **fields}
        status, headers, data = self.request("POST", "/v1/chat/completions", body)
        return status, json.loads(data)

    def bnctl(self, *args, stdin=None, timeout=180, **kw):
        env = dict(os.environ, BITNETD_SOCKET=self.socket)
        if stdin is None:
            kw["stdin"] = subprocess.DEVNULL
        return subprocess.run([BNCTL, *args], input=stdin, env=env, timeout=timeout,
                              capture_output=True, text=True, check=False, **kw)


@contextlib.contextmanager
def running(*options, **kw):
    d = Daemon(*options, **kw)
    try:
        yield d
    except BaseException:
        print(d.read_log())
        raise
    finally:
        d.stop()


class DaemonCase(unittest.TestCase):
    """One daemon for all tests of a class: self.d."""
    daemon = {}  # how it runs

    @classmethod
    def setUpClass(cls):
        cls.d = cls.enterClassContext(running(**cls.daemon))


@contextlib.contextmanager
def session_bus():
    """A message bus of our own; its address."""
    with tempfile.TemporaryDirectory(prefix="bitnetd-bus-") as folder:
        path = os.path.join(folder, "bus")
        bus = subprocess.Popen(["dbus-daemon", "--session", "--nofork", "--nopidfile",
                                "--address=unix:path=" + path])
        try:
            while not os.path.exists(path):
                if bus.poll() is not None:
                    raise RuntimeError("dbus-daemon did not start")
                time.sleep(0.02)
            yield "unix:path=" + path
        finally:
            bus.terminate()
            bus.wait()


def have(*modules):
    return all(importlib.util.find_spec(m) for m in modules)


def events(data):
    """The data fields of a text/event-stream."""
    return [part[6:] for part in data.decode().split("\n\n") if part.startswith("data: ")]
