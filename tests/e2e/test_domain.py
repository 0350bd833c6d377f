"""IsolationDomain=host and group: one worker for several users, who are told apart in everything
but the process. Needs root, to be several users."""

import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import unittest

from harness import BITNETD, BNCTL, SMOL, TINY, UnixConnection, running
from load import User, exchange, wait_until

ALICE, BOB, CAROL = 40001, 40002, 40003
# Users of Debian's base-passwd: both have 65534 as their primary group.
SYNC, NOBODY, NOGROUP = 4, 65534, 65534
HOST = "[Broker]\nIsolationDomain = host\n"
OPTIONS = ("--socket-mode", "0666", "--threads", "2")
LONG = "You are a careful assistant who answers in one short sentence. " * 24
NAME, ROOT = "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1"


def chat(text, tokens=24, **fields):
    return {"model": SMOL, "max_tokens": tokens, "temperature": 0, **fields,
            "messages": [{"role": "user", "content": text}]}


def ask(path, body):
    status, _, data = exchange(path, "/v1/chat/completions", body)
    return status, json.loads(data)


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


def as_user(uid, function, *args, gid=None):
    """What the function returns, called by a process of this user."""
    return User(uid, function, *args, gid=gid).report()


def stream(path, body, begun, go_on):
    """A streamed answer: a file says that its first text is there, then another one is waited for
    before the rest is read. Returns its text and its last event."""
    c = UnixConnection(path)
    c.request("POST", "/v1/chat/completions", body=json.dumps(dict(body, stream=True)),
              headers={"Content-Type": "application/json"})
    text, last = "", ""
    for line in c.getresponse():
        if not line.startswith(b"data: "):
            continue
        last = line[6:].decode().strip()
        if last.startswith('{"id"'):
            text += json.loads(last)["choices"][0]["delta"].get("content") or ""
        if text and begun:
            open(begun, "w", encoding="utf-8").close()
            wait_until(lambda: os.path.exists(go_on))
            begun = None
    c.close()
    return text, last


class Domain(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory(prefix="bitnetd-domain-")
        os.chmod(self.folder.name, 0o777)

    def tearDown(self):
        self.folder.cleanup()

    def flag(self, name):
        return os.path.join(self.folder.name, name)

    def bnctl(self, d, *args, uid=0, status=0):
        r = subprocess.run(["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", BNCTL,
                            *args], env=dict(os.environ, BITNETD_SOCKET=d.socket),
                           stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        self.assertEqual(r.returncode, status, (args, r.stdout, r.stderr))
        return r.stdout if status == 0 else r.stderr

    def workers(self, d, uid=0, everybody=True):
        option = ["--all"] if everybody else []
        return json.loads(self.bnctl(d, "ps", "--workers", "--json", *option, uid=uid))

    def both(self, d, bodies):
        """Streams of ALICE and BOB that have begun before either goes on."""
        users = [User(uid, stream, d.socket, body, self.flag(str(uid)), self.flag("go"))
                 for uid, body in zip((ALICE, BOB), bodies)]
        wait_until(lambda: all(os.path.exists(self.flag(str(u))) for u in (ALICE, BOB)))
        return users

    def go_on(self):
        open(self.flag("go"), "w", encoding="utf-8").close()


class Host(Domain):
    def test_one_worker_same_bytes(self):
        bodies = [chat("Write a story about a fox.", 200, temperature=1, seed=uid)
                  for uid in (ALICE, BOB)]
        with running(*OPTIONS) as d:
            alone = [text_of(as_user(ALICE, ask, d.socket, body)[1]) for body in bodies]
        with running(*OPTIONS, config=HOST) as d:
            users = self.both(d, bodies)
            self.assertEqual(len(d.workers()), 1)
            (w,) = self.workers(d)
            self.assertEqual((w["domain"], w["users"], w["jobs"]), ("host", 2, 2))
            (own,) = self.workers(d, ALICE, False)
            self.assertEqual((own["uid"], own["users"], own["jobs"]), (ALICE, 1, 1))
            self.assertEqual(self.workers(d, CAROL, False), [])
            self.see_only_own(d)
            self.go_on()
            together = [u.report() for u in users]
            self.assertEqual([t for t, _ in together], alone)
            self.assertEqual({last for _, last in together}, {"[DONE]"})

    def see_only_own(self, d):
        jobs = {}
        for uid in (ALICE, BOB):
            (job,) = json.loads(self.bnctl(d, "ps", "--json", uid=uid))
            self.assertEqual(job["uid"], uid)
            jobs[uid] = job["job"]
        for command in ("cancel", "wait", "output"):
            said = self.bnctl(d, command, jobs[ALICE], uid=BOB, status=1)
            self.assertEqual(said, self.bnctl(d, command, "1", uid=BOB, status=1))

    def test_what_is_kept_belongs_to_one(self):
        with running(*OPTIONS, config=HOST) as d:
            cached = []
            for uid in (ALICE, ALICE, BOB, BOB, ALICE):
                status, answer = as_user(uid, ask, d.socket, chat(LONG, 8))
                self.assertEqual(status, 200)
                cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            self.assertEqual(cached[0], 0)
            self.assertGreater(cached[1], 200)
            self.assertEqual(cached[2], 0)
            self.assertEqual(cached[3:], [cached[1]] * 2)
            self.assertEqual(len(d.workers()), 1)
            job = self.bnctl(d, "ask", "--detach", "-n", "8", "Hello", uid=ALICE).strip()
            self.bnctl(d, "wait", job, uid=ALICE)
            self.bnctl(d, "output", job, uid=BOB, status=1)
            self.bnctl(d, "output", job, uid=ALICE)

    def test_quotas_stay_apart(self):
        config = HOST + f"[User {BOB}]\nTokensPerMinute = 150\nMaxOutputTokens = 32\n"
        with running(*OPTIONS, config=config) as d:
            before = {uid: self.used(d, uid) for uid in (ALICE, BOB)} # days outlive a daemon
            for _ in range(2):
                self.assertEqual(as_user(ALICE, ask, d.socket, chat("Count to ten.", 64))[0], 200)
            status, answer = as_user(BOB, ask, d.socket, chat("Count to ten.", 64))
            self.assertEqual((status, "32" in answer["error"]["message"]), (400, True), answer)
            status, answer = as_user(BOB, ask, d.socket, chat("Hi", 1))
            self.assertEqual(status, 200, answer)
            status, answer = as_user(BOB, ask, d.socket, chat("Count to ten.", 32))
            self.assertEqual(status, 429, answer)
            self.assertEqual(as_user(ALICE, ask, d.socket, chat("Count to ten.", 64))[0], 200)
            tokens = {uid: self.used(d, uid)["tokens"] - before[uid]["tokens"]
                      for uid in (ALICE, BOB)}
            self.assertGreater(tokens[ALICE], tokens[BOB])
            self.assertGreater(tokens[BOB], 0)
            self.cpu_is_divided(d, before)

    def used(self, d, uid):
        quota = json.loads(self.bnctl(d, "quota", "--json", "show", "--uid", str(uid)))
        return {"tokens": quota["used"]["TokensPerDay"], "cpu": quota["used"]["CPUTimePerDay"]}

    def cpu_is_divided(self, d, before):
        """Exactly, once nobody computes any more: nothing is lost and nothing is charged twice."""
        def used(uid):
            return self.used(d, uid)["cpu"] - before[uid]["cpu"]
        wait_until(lambda: used(ALICE) + used(BOB) == self.workers(d)[0]["cpu_usec"], 20)
        self.assertGreater(used(ALICE), used(BOB))
        self.assertGreater(used(BOB), 0)

    def test_a_crash_ends_the_jobs_of_all_once(self):
        with running(*OPTIONS, config=HOST) as d:
            users = self.both(d, [chat("Write a long story.", 400)] * 2)
            (pid,) = d.workers()
            os.kill(pid, signal.SIGKILL)
            self.go_on()
            for u in users:
                self.assertNotEqual(u.report()[1], "[DONE]")
            for uid in (ALICE, BOB):
                (job,) = json.loads(self.bnctl(d, "ps", "--json", uid=uid))
                self.assertEqual(job["state"], "failed")
                self.assertEqual(as_user(uid, ask, d.socket, chat("Hi", 4))[0], 200)
            self.assertEqual(len(d.workers()), 1)
            self.assertEqual(d.read_log().count("JOB_LOST") + d.read_log().count("job lost"), 2)

    def test_models_are_allowed_by_uid(self):
        config = (HOST + f"[User {ALICE}]\nAllowModels = {SMOL}\n"
                  f"[User {BOB}]\nAllowModels = {TINY}\n")
        with running(*OPTIONS, config=config) as d:
            for _ in range(2):
                for uid, good, bad in ((ALICE, SMOL, TINY), (BOB, TINY, SMOL)):
                    body = {"model": good, "prompt": "One day", "max_tokens": 4}
                    url = "/v1/completions"
                    self.assertEqual(as_user(uid, exchange_status, d.socket, url, body), 200)
                    body["model"] = bad
                    self.assertEqual(as_user(uid, exchange_status, d.socket, url, body), 403)
                    shown = as_user(uid, loaded, d.socket)
                    self.assertEqual(shown, [good])
            self.assertEqual(len(d.workers()), 1)

    def test_only_memory_files_are_read(self):
        """A user who keeps a pipe could make the worker of all wait in a read of it."""
        wanted = [[SMOL, "stall", {}], [SMOL, "Hello there.", {}]]
        with running(*OPTIONS, config=HOST) as d:
            address = "unix:path=" + os.path.join(os.path.dirname(d.socket), "bus.sock")
            r = subprocess.run(
                ["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups",
                 "/usr/bin/python3", os.path.join(os.path.dirname(__file__), "bus_count.py"),
                 address], input=json.dumps(wanted), capture_output=True, text=True, timeout=60,
                check=False)
            self.assertEqual(r.returncode, 0, r.stderr)
            refused, (counted, tokens) = json.loads(r.stdout)
            self.assertEqual(refused, [NAME + ".Error.InvalidInput", None])
            self.assertGreater(tokens, 2, counted)

    def test_sessions_of_others_do_not_exist(self):
        wanted = {"initial": None, "turns": ["My name is Ada."], "tokens": 8,
                  "run": ["sh", "-c", f"touch {self.flag('begun')}; "
                                      f"until [ -e {self.flag('go')} ]; do sleep 0.05; done"]}
        with running(*OPTIONS, config=HOST) as d:
            address = "unix:path=" + os.path.join(os.path.dirname(d.socket), "bus.sock")
            client = subprocess.Popen(
                ["setpriv", f"--reuid={ALICE}", f"--regid={ALICE}", "--clear-groups",
                 "/usr/bin/python3", os.path.join(os.path.dirname(__file__), "session_client.py")],
                env=dict(os.environ, DBUS_SESSION_BUS_ADDRESS=address), stdin=subprocess.PIPE,
                stdout=subprocess.PIPE, text=True)
            client.stdin.write(json.dumps(wanted))
            client.stdin.close()
            try:
                self.see_session(d, address, client)
            finally:
                self.go_on()
                said = client.stdout.read()
                self.assertEqual(client.wait(60), 0)
            self.assertEqual(json.loads(said)[0]["result"], "done", said)

    def see_session(self, d, address, client):
        wait_until(lambda: os.path.exists(self.flag("begun")) or client.poll() is not None)
        listed = {uid: self.bus(address, uid, "", "Manager", "ListSessions", "a{sv}", "0")
                  for uid in (ALICE, BOB)}
        path = re.search("/org/bitnetd/Bitnetd1/session/[0-9]+", listed[ALICE].stdout)[0]
        self.assertEqual(listed[BOB].stdout.strip(), "a(oustttttub) 0")
        self.assertEqual(as_user(BOB, ask, d.socket, chat("Hi", 4))[0], 200)
        self.assertEqual(len(d.workers()), 1)
        for uid, status in ((BOB, 1), (ALICE, 0)):
            r = self.bus(address, uid, path.removeprefix(ROOT), "Session", "Clear")
            self.assertEqual(r.returncode, status, r.stderr)
        other = path[:-1] + ("1" if path[-1] != "1" else "2")
        said = [self.bus(address, BOB, p.removeprefix(ROOT), "Session", "Clear").stderr
                for p in (path, other)]
        self.assertEqual(said[0].replace(path, ""), said[1].replace(other, ""))

    def bus(self, address, uid, path, interface, method, *args):
        return subprocess.run(
            ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "busctl",
             "--address=" + address, "call", NAME, ROOT + path, f"{NAME}.{interface}", method,
             *args], capture_output=True, text=True, check=False, timeout=60)

    def test_a_user_who_leaves_is_forgotten(self):
        config = HOST + f"[User {BOB}]\nIdleTimeoutSec = 1\n"
        with running(*OPTIONS, config=config) as d:
            for uid in (ALICE, BOB):
                self.assertEqual(as_user(uid, ask, d.socket, chat(LONG, 4))[0], 200)
            self.assertEqual(self.workers(d)[0]["users"], 2)
            wait_until(lambda: self.workers(d)[0]["users"] == 1)
            _, answer = as_user(BOB, ask, d.socket, chat(LONG, 4))
            self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
            _, answer = as_user(ALICE, ask, d.socket, chat(LONG, 4))
            self.assertGreater(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0)


def exchange_status(path, url, body):
    return exchange(path, url, body)[0]


def loaded(path):
    c = UnixConnection(path)
    c.request("GET", "/api/ps")
    names = [m["name"] for m in json.load(c.getresponse())["models"]]
    c.close()
    return names


class Group(Domain):
    def ask(self, d, uid, gid):
        self.assertEqual(as_user(uid, ask, d.socket, chat("Hi", 4), gid=gid)[0], 200)

    def domains(self, d):
        return sorted((w["domain"], w["domain_id"], w["users"]) for w in self.workers(d))

    def test_the_primary_group_decides(self):
        with running(*OPTIONS, config="[Broker]\nIsolationDomain = group\n") as d:
            self.ask(d, SYNC, 40009)     # its entry says 65534, whatever the process has
            self.ask(d, NOBODY, 40010)
            self.assertEqual(self.domains(d), [("group", NOGROUP, 2)])
            self.ask(d, ALICE, 40009)    # no entry: the kernel's word
            self.ask(d, BOB, 40009)
            self.ask(d, CAROL, 40010)
            self.assertEqual(self.domains(d), [("group", 40009, 2), ("group", 40010, 1),
                                               ("group", NOGROUP, 2)])
            self.ask(d, ALICE, 40010)    # and that of its first process
            self.assertEqual(len(d.workers()), 3)


class Configuration(Domain):
    def test_a_wrong_word(self):
        path = self.flag("bitnetd.conf")
        with open(path, "w", encoding="utf-8") as f:
            f.write("[Broker]\nIsolationDomain = hosts\n")
        r = subprocess.run([BITNETD, "--user", "--config", path], capture_output=True, text=True,
                           env=dict(os.environ, XDG_RUNTIME_DIR=self.folder.name), timeout=20,
                           check=False)
        self.assertEqual(r.returncode, 78, r.stderr)
        self.assertIn(path + ":2: IsolationDomain= is not uid, group or host: \"hosts\"", r.stderr)

    def test_a_reload_does_not_change_it(self):
        with running(*OPTIONS, config="[Default]\nWeight = 7\n") as d:
            path = os.path.join(os.path.dirname(d.socket), "bitnetd.conf")
            with open(path, "w", encoding="utf-8") as f:
                f.write("[Default]\nWeight = 8\n" + HOST)
            said = self.bnctl(d, "reload", status=78)
            self.assertIn(path + ":4: IsolationDomain= is uid until a restart", said)
            quota = json.loads(self.bnctl(d, "quota", "--json", "show"))
            self.assertEqual(quota["limits"]["Weight"], 7)
            with open(path, "w", encoding="utf-8") as f:
                f.write("[Default]\nWeight = 8\n[Broker]\nIsolationDomain = uid\n")
            self.bnctl(d, "reload")
            quota = json.loads(self.bnctl(d, "quota", "--json", "show"))
            self.assertEqual(quota["limits"]["Weight"], 8)


if __name__ == "__main__":
    if os.geteuid() != 0:
        print("skipped: several users need root")
        sys.exit(77)
    unittest.main(verbosity=2)
