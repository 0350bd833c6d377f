"""Runs inside the booted container as root; writes TAP to the file named on the command line.

Every check is about the real units: what a user gets, what a worker may do, what another user
sees, and that no text is left behind.
"""
import glob
import json
import os
import re
import subprocess
import sys
import time

from lib import PATIENCE, ask, check, checks, command, expect_success, fail, manager

HERE = os.path.dirname(os.path.abspath(__file__))
CANARY = "zq7canary" + os.urandom(8).hex()
DYNAMIC = range(61184, 65520)


def workers():
    """Process id -> lines of /proc/PID/status, of all workers."""
    found = {}
    for path in glob.glob("/proc/[0-9]*/comm"):
        try:
            if open(path).read().strip() == "bitnetd-worker":
                pid = int(path.split("/")[2])
                text = open(f"/proc/{pid}/status").read()
                lines = [line for line in text.splitlines() if ":\t" in line]
                found[pid] = dict(line.split(":\t", 1) for line in lines)
        except OSError:
            pass
    return found


@check
def units_are_understood():
    units = ["bitnetd.service", "bitnetd.socket", "bitnetd-bus.socket", "bitnetd-admin.socket",
             "bitnetd-worker.socket", "bitnetd-worker@0-1-2.service"]
    result = command("systemd-analyze", "verify", "--man=no", *units)
    troubles = [line for line in result.stderr.splitlines() if "bitnetd" in line]
    if result.returncode != 0 or troubles:
        fail(f"exit {result.returncode}: {troubles}")


@check
def sockets_are_listening():
    for unit in ["bitnetd.socket", "bitnetd-bus.socket", "bitnetd-admin.socket",
                 "bitnetd-worker.socket"]:
        state = command("systemctl", "is-active", unit).stdout.strip()
        if state != "active":
            fail(f"{unit} is {state}")


@check
def alice_gets_an_answer():
    end = time.monotonic() + PATIENCE
    while True:
        result = ask("alice", "Name one colour.")
        # 75: the embedded model is still being packed
        if result.returncode != 75 or time.monotonic() > end:
            break
        time.sleep(1)
    if not expect_success(result).strip():
        fail("empty answer")


@check
def summarize_over_the_system_bus():
    text = ("The harbour was built in 1871. It has two piers and a lighthouse. Most boats carry "
            "fish and timber. In winter the northern pier is closed because of ice. ") * 8
    out = expect_success(command("/usr/bin/python3", f"{HERE}/summarize.py", user="alice",
                                 stdin=text, timeout=150))
    n = len(text.encode())
    if f"done  bytes {n} covered {n}" not in out:
        fail(f"not every byte was covered: {out[-200:]}")


@check
def curl_lists_models():
    out = expect_success(command("curl", "-sS", "--unix-socket", "/run/bitnetd/api.sock",
                                 "http://localhost/v1/models", user="alice"))
    if '"object"' not in out:
        fail(out[:300])


@check
def metrics_are_for_root():
    url = ["curl", "-sS", "--unix-socket", "/run/bitnetd/admin.sock", "http://x/metrics"]
    text = command(*url).stdout
    if 'bitnetd_jobs_total{verb="chat",result="done"}' not in text:
        fail(f"root reads {text[:200]!r}")
    if command(*url, user="alice").returncode == 0:
        fail("alice reads the metrics")


@check
def workers_are_locked_in():
    expect_success(ask("alice", "Name one animal."))
    found = workers()
    if not found:
        fail("no worker runs")
    for pid, status in found.items():
        for key, value in {"Seccomp": "2", "NoNewPrivs": "1", "CapEff": "0" * 16,
                           "CapPrm": "0" * 16, "CapBnd": "0" * 16}.items():
            if status[key] != value:
                fail(f"worker {pid}: {key} is {status[key]}, not {value}")
        uid = int(status["Uid"].split()[0])
        if uid not in DYNAMIC or len(set(status["Uid"].split())) != 1:
            fail(f"worker {pid} has uid {status['Uid']}")


        limits = open(f"/proc/{pid}/limits").read()
        for name in ["core file size", "file size", "processes"]:
            if not re.search(rf"^Max {name} +0 +0 ", limits, re.MULTILINE):
                fail(f"worker {pid} has a limit on {name} other than 0")
        if os.stat(f"/proc/{pid}/mem").st_uid != 0:
            fail(f"worker {pid} is dumpable")


@check
def broker_has_no_privilege():
    pid = int(command("systemctl", "show", "-P", "MainPID", "bitnetd.service").stdout)
    status = open(f"/proc/{pid}/status").read()
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1", "CapEff:\t" + "0" * 16, "CapBnd:\t" + "0" * 16]:
        if line not in status:
            fail(f"the broker has no line {line!r}")
    if os.stat(f"/proc/{pid}").st_uid == 0:
        fail("the broker runs as root")
    if os.readlink(f"/proc/{pid}/ns/net") == os.readlink("/proc/1/ns/net"):
        fail("the broker has the machine's network")


@check
def a_worker_started_by_hand_refuses():
    program = "/usr/libexec/bitnetd/bitnetd-worker"
    start = ("import os, socket, sys; a, b = socket.socketpair(socket.AF_UNIX, "
             "socket.SOCK_SEQPACKET); os.dup2(a.fileno(), 9); "
             "os.dup2(9, 3); os.set_inheritable(3, True); "
             f"os.execv('{program}', ['{program}'])")
    for what, argv, user, expected in [
            ("without a link", [program], "bob", 200),
            ("as root", ["/usr/bin/python3", "-c", start], None, 201)]:
        code = command(*argv, user=user).returncode
        if code != expected:
            fail(f"{what}: exit {code}, expected {expected}")


@check
def workers_have_own_namespaces():
    for pid in workers():
        for kind in ["net", "mnt", "user", "ipc"]:
            if os.readlink(f"/proc/{pid}/ns/{kind}") == os.readlink(f"/proc/1/ns/{kind}"):
                fail(f"worker {pid} is in the {kind} namespace of process 1")
        names = [line.split(":")[0].strip() for line in open(f"/proc/{pid}/net/dev") if ":" in line]
        if names != ["lo"]:
            fail(f"worker {pid} sees the interfaces {names}")


@check
def workers_see_an_empty_root():
    for pid in workers():
        root = f"/proc/{pid}/root"
        for path in ["etc/passwd", "run/bitnetd/api.sock", "run/dbus/system_bus_socket", "home",
                     "usr/bin", "var/lib/bitnetd", "var/lib/private"]:
            if os.path.exists(f"{root}/{path}"):
                fail(f"worker {pid} could see /{path}")


@check
def workers_hold_only_the_link_and_connections():
    for pid in workers():
        for fd in os.listdir(f"/proc/{pid}/fd"):
            target = os.readlink(f"/proc/{pid}/fd/{fd}")
            if target != "/dev/null" and not target.startswith(("socket:", "anon_inode:[eventfd]")):
                fail(f"worker {pid} holds {target} as {fd}")


@check
def second_user_gets_a_second_worker_and_shares_weights():
    expect_success(ask("alice", "Name one city."))
    expect_success(ask("bob", "Name one river."))
    expect_success(ask("alice", "Name one lake."))
    found = workers()
    uids = {int(s["Uid"].split()[0]) for s in found.values()}
    if len(found) < 2 or len(uids) != len(found):
        fail(f"{len(found)} workers with the uids {sorted(uids)}")
    pss, size, sharers = weights(found)
    if len(set(sharers)) < 2 or len(set(sharers)) != len(sharers):
        fail(f"a model should be mapped once by each worker; mappings by process: {sharers}")
    if not 0.95 * size <= pss <= 1.05 * size:
        fail(f"{len(sharers)} workers: PSS {pss} of a file of {size} bytes")
    print(f"# {len(sharers)} workers, PSS {pss} of {size} bytes", file=tap)


def weights(found):
    """Sum of PSS over all mappings of the biggest packed file, its size, who maps it."""
    sizes = {os.stat(p).st_ino: os.stat(p).st_size
             for p in glob.glob("/var/lib/bitnetd/**", recursive=True) if os.path.isfile(p)}
    model = max(sizes, key=sizes.get)
    pss, sharers = 0, []
    for pid in found:
        inode = None
        for line in open(f"/proc/{pid}/smaps"):
            head = re.match(r"[0-9a-f]+-[0-9a-f]+ \S+ [0-9a-f]+ \S+ (\d+)", line)
            if head:
                inode = int(head[1])
                if inode == model:
                    sharers.append(pid)
            elif line.startswith("Pss:") and inode == model:
                pss += int(line.split()[1]) * 1024
    return pss, sizes[model], sharers


@check
def users_cannot_touch_workers():
    pid = next(iter(workers()))
    for argv in [["kill", "-0", str(pid)], ["cat", f"/proc/{pid}/mem"],
                 ["cat", f"/proc/{pid}/maps"], ["ls", f"/proc/{pid}/fd"]]:
        if command(*argv, user="bob").returncode == 0:
            fail(f"bob could {' '.join(argv)}")
    connect = ("import socket; socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)"
               ".connect('/run/bitnetd/worker.sock')")
    result = command("/usr/bin/python3", "-c", connect, user="bob")
    if "PermissionError" not in result.stderr:
        fail(f"bob at worker.sock: {result.stderr[-200:]}")
    if command("ls", "/var/lib/bitnetd", user="bob").returncode == 0:
        fail("bob can list the state directory")


@check
def nobody_else_can_own_the_name():
    result = command("/usr/bin/python3", f"{HERE}/own_name.py", user="bob")
    if result.returncode != 0:
        fail(f"exit {result.returncode}: {result.stderr[-300:]}")


def job_ids(user, *options):
    out = expect_success(command("bnctl", "ps", "--json", *options, user=user))
    return {job["job"] for job in json.loads(out)}


@check
def users_do_not_see_each_others_jobs():
    job = subprocess.Popen(["runuser", "-u", "alice", "--", "bnctl", "ask", "--max-tokens=400",
                            "Tell a very long story about the sea."], stdout=subprocess.PIPE,
                           stderr=subprocess.DEVNULL)
    try:
        job.stdout.read(1)
        own = job_ids("alice")
        if not own:
            fail("alice does not see her own job")
        if own & job_ids("bob"):
            fail(f"bob sees {own & job_ids('bob')}")
        if command("bnctl", "ps", "--json", "--all", user="bob").returncode != 77:
            fail("bob may ask for all jobs")
        if not own <= job_ids(None, "--all"):
            fail("root does not see the job")
    finally:
        job.kill()
        job.wait()


def set_weight(user, weight):
    """What is said when this user sets the weight of uid 4711; "" when it is done."""
    return manager("SetQuota", "ua{sv}b", "4711", "1", "Weight", "u", weight, "false",
                   user=user).stderr.strip()


def weight_of_4711():
    return re.search(r'"Weight" t (\d+)', manager("GetQuota", "u", "4711").stdout).group(1)


@check
def polkit_decides_on_administration():
    refused = "Call failed: Not allowed"
    if not set_weight("alice", "500").startswith(refused):
        fail("without a rule alice may: " + set_weight("alice", "500"))
    rule = "/etc/polkit-1/rules.d/10-bitnetd-check.rules"
    with open(rule, "w") as f:
        f.write('polkit.addRule(function(action, subject) {'
                'if (action.id == "org.bitnetd.manage-quota" && subject.user == "alice")'
                ' return polkit.Result.YES; });')
    os.chmod(rule, 0o644)
    command("systemctl", "restart", "polkit.service")
    said = set_weight("alice", "501")
    if said or weight_of_4711() != "501":
        fail(f"with a rule alice may not: {said}, {weight_of_4711()}")
    if not set_weight("bob", "502").startswith(refused):
        fail("bob may")
    if not manager("ListJobs", "a{sv}", "1", "all", "b", "true",
                   user="alice").stderr.startswith(refused):
        fail("one action allows another")
    command("systemctl", "mask", "--runtime", "--now", "polkit.service")
    try:
        if not set_weight("alice", "503").startswith(refused):
            fail("alice may without polkit")
        if set_weight(None, "504") or weight_of_4711() != "504":
            fail("root may not without polkit")
    finally:
        command("systemctl", "unmask", "--runtime", "polkit.service")
        os.unlink(rule)


def start_by(action):
    """The stopped broker is started by what somebody does with it."""
    command("systemctl", "stop", "bitnetd.service")
    if command("systemctl", "is-active", "bitnetd.service").returncode == 0:
        fail("it did not stop")
    expect_success(action())
    if command("systemctl", "is-active", "bitnetd.service").returncode != 0:
        fail("it answered, but the unit is not active")


@check
def a_bus_call_starts_the_broker():
    start_by(lambda: manager("GetStatus", user="alice"))


@check
def a_connection_starts_the_broker():
    start_by(lambda: command("curl", "-sS", "--unix-socket", "/run/bitnetd/api.sock",
                             "http://localhost/v1/models", user="bob"))
    start_by(lambda: command("bnctl", "status", user="bob"))


@check
def killed_worker_gives_a_clear_error_and_the_next_request_works():
    job = subprocess.Popen(["runuser", "-u", "alice", "--", "bnctl", "ask", "--max-tokens=400",
                            "Tell a very long story about the sea."], stdout=subprocess.PIPE,
                           stderr=subprocess.PIPE, text=True)
    job.stdout.read(1)
    for pid in workers():
        try:
            os.kill(pid, 9)
        except ProcessLookupError:
            pass
    _, errors = job.communicate(timeout=60)
    if job.returncode != 70 or "worker" not in errors.lower():
        fail(f"exit {job.returncode}: {errors[-300:]}")
    expect_success(ask("alice", "Name one tree."))


@check
def broker_restart_loses_no_socket():
    old = command("systemctl", "show", "-P", "MainPID", "bitnetd.service").stdout.strip()
    os.kill(int(old), 9)
    end = time.monotonic() + PATIENCE
    result = ask("alice", "Name one metal.")
    while result.returncode == 75 and time.monotonic() < end:
        time.sleep(1)
        result = ask("alice", "Name one metal.")
    expect_success(result)
    new = command("systemctl", "show", "-P", "MainPID", "bitnetd.service").stdout.strip()
    if new in ("0", old):
        fail(f"main process {old}, then {new}")


@check
def canary_is_nowhere():
    expect_success(ask("alice", f"Repeat this word: {CANARY}", tokens=24))
    document = f"{CANARY} is the name of a ship. {CANARY} sails on Mondays. " * 3
    seen = watch_bus(lambda: expect_success(command(
        "/usr/bin/python3", f"{HERE}/summarize.py", user="alice", stdin=document, timeout=150)))
    if b"Summarize" not in seen:
        fail("the bus monitor saw no call")
    if CANARY.encode() in seen:
        fail("on the bus")
    command("journalctl", "--sync")
    journal = subprocess.run(["journalctl", "-o", "export", "--no-pager"], stdout=subprocess.PIPE)
    if not journal.stdout:
        fail("the journal is empty")
    if CANARY.encode() in journal.stdout:
        line = next(x for x in journal.stdout.split(b"\n") if CANARY.encode() in x)
        fail(f"in the journal, in a field of {len(line)} bytes: {line[:60]!r}")
    for place in ["/var/lib", "/var/log", "/var/tmp", "/tmp", "/run", "/home", "/root"]:
        found = command("grep", "-rlsF", "--devices=skip", CANARY, place).stdout.strip()
        if found:
            fail(f"in {found}")
    if glob.glob("/var/lib/systemd/coredump/*"):
        fail("there is a core file")


def watch_bus(action):
    """Everything that root can see on the bus while the action runs."""
    with open("/dev/shm/monitor", "w+b") as log:
        monitor = subprocess.Popen(["busctl", "monitor"], stdout=log, stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        try:
            action()
            time.sleep(0.2)
        finally:
            monitor.terminate()
            monitor.wait()
        log.seek(0)
        return log.read()


@check
def journal_entries_have_fields():
    ready = "b17e7d00000000000000000000000011"
    expect_success(ask("alice", "Name one river."))
    command("journalctl", "--sync")
    out = expect_success(command("journalctl", "-o", "json", "--no-pager", f"MESSAGE_ID={ready}"))
    entries = [json.loads(line) for line in out.splitlines()]
    uid = command("id", "-u", "alice").stdout.strip()
    if uid not in [e.get("BITNETD_UID") for e in entries]:
        fail(f"no worker of {uid} in {len(entries)} entries")
    for e in entries:
        for name, value in e.items():
            if name.startswith("BITNETD_") and not value.isdigit():
                fail(f"{name} is no number")
    expect_success(command("journalctl", "--update-catalog"))
    if "A worker is ready" not in command("journalctl", "--dump-catalog", ready).stdout:
        fail("the catalog does not explain it")


import quotas  # noqa: E402 (their checks come here)


def active():
    return command("systemctl", "is-active", "bitnetd.service").stdout.strip() == "active"


@check
def leaves_when_idle_and_comes_back():
    """By the socket and by the bus; a call that meets the end is answered by the next instance."""
    drop_ins = {"/run/bitnetd/bitnetd.conf.d": "[Broker]\nIdleExitSec = 1\n",
                # more starts in ten seconds than systemd likes
                "/run/systemd/system/bitnetd.service.d": "[Unit]\nStartLimitIntervalSec=0\n"}
    for folder, text in drop_ins.items():
        os.makedirs(folder, exist_ok=True)
        os.chmod(folder, 0o755)
        with open(folder + "/50-idle.conf", "w") as f:
            f.write(text)
    expect_success(command("systemctl", "daemon-reload"))
    expect_success(command("systemctl", "restart", "bitnetd.service"))
    status = ("busctl", "call", "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1",
              "org.bitnetd.Bitnetd1.Manager", "GetStatus")
    for turn in range(3):
        deadline = time.monotonic() + PATIENCE
        while active():
            if time.monotonic() > deadline:
                fail("it does not leave")
            time.sleep(0.02)
        expect_success(command(*status, user="alice", timeout=30))
    for turn in range(16):  # some of them meet it leaving
        time.sleep(1 + 0.02 * turn)
        expect_success(command(*status, user="alice", timeout=30))
    for folder in drop_ins:
        os.unlink(folder + "/50-idle.conf")
    expect_success(command("systemctl", "daemon-reload"))
    expect_success(command("systemctl", "restart", "bitnetd.service"))
    expect_success(ask("alice", "Name one sea."))


@check
def no_unit_has_failed():
    out = command("systemctl", "list-units", "--failed", "--plain", "--no-legend",
                  "bitnetd*").stdout
    if out.strip():
        fail(out.strip())


def main():
    print(f"1..{len(checks)}", file=tap)
    for number, fn in enumerate(checks, 1):
        name = fn.__name__.replace("_", " ")
        start = time.monotonic()
        try:
            fn()
            print(f"ok {number} - {name} # {time.monotonic() - start:.1f} s", file=tap, flush=True)
        except Exception as error:
            print(f"not ok {number} - {name}", file=tap)
            for line in f"{type(error).__name__}: {error}".splitlines():
                print(f"# {line}", file=tap, flush=True)


with open(sys.argv[1], "w") as tap:
    main()
