"""Checks of quotas: what is configured, changed and used counts for real users, groups and slices,
and over a reload and a restart."""
import json
import os
import signal
import subprocess
import tempfile
import time

from lib import ask, check, command, expect_success, fail, manager

HERE = os.path.dirname(os.path.abspath(__file__))
FOLDER = "/etc/bitnetd/bitnetd.conf.d"
UNIT_FOLDER = "/etc/systemd/system/bitnetd.service.d"
BUSCTL = ("busctl", "call", "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1",
          "org.bitnetd.Bitnetd1.Manager", "GetQuota", "u", "4294967295")


def configure(name, text):
    """A drop-in; None takes it away."""
    os.makedirs(FOLDER, exist_ok=True)
    if text is None:
        os.unlink(f"{FOLDER}/{name}")
        return
    with open(f"{FOLDER}/{name}", "w") as f:
        f.write(text)
    os.chmod(f"{FOLDER}/{name}", 0o644)


def quota(user, *options):
    return json.loads(expect_success(command("bnctl", "quota", "--json", *options, user=user)))


def limit(user, key):
    return quota(user)["limits"][key]


def expect(what, found, expected):
    if found != expected:
        fail(f"{what}: {found!r}, expected {expected!r}")


def uid_of(user):
    return command("id", "-u", user).stdout.strip()


def told(text):
    """How often the journal of the broker says so."""
    command("journalctl", "--sync")
    return command("journalctl", "-u", "bitnetd.service", "-o", "cat",
                   "--no-pager").stdout.count(text)


def hang_up_until(done):
    """SIGHUP is answered by nobody: waits until it shows."""
    expect_success(command("systemctl", "kill", "--kill-whom=main", "--signal=HUP",
                           "bitnetd.service"))
    end = time.monotonic() + 30
    while not done():
        if time.monotonic() > end:
            fail("SIGHUP did nothing")
        time.sleep(0.05)


@check
def a_good_configuration_is_taken_on_reload():
    # more starts in a few seconds than systemd likes
    os.makedirs(UNIT_FOLDER, exist_ok=True)
    with open(f"{UNIT_FOLDER}/40-starts.conf", "w") as f:
        f.write("[Unit]\nStartLimitIntervalSec=0\n")
    expect_success(command("systemctl", "daemon-reload"))
    expect_success(command("groupadd", "writers"))
    expect_success(command("usermod", "-aG", "writers", "alice"))
    expect("before", limit("alice", "MaxQueuedJobs"), 16)
    configure("50-group.conf", "[Group writers]\nMaxQueuedJobs = 7\n")
    hang_up_until(lambda: limit("alice", "MaxQueuedJobs") == 7)
    expect("of bob, who is not in the group", limit("bob", "MaxQueuedJobs"), 16)
    out = expect_success(command("bnctl", "quota", "explain", user="alice"))
    if f"[Group writers] {FOLDER}/50-group.conf:2" not in out:
        fail(out)
    configure("50-group.conf", "[Group writers]\nMaxQueuedJobs = 6\n")
    expect("without a reload", limit("alice", "MaxQueuedJobs"), 7)
    expect_success(command("bnctl", "reload"))
    expect("after bnctl reload", limit("alice", "MaxQueuedJobs"), 6)
    configure("50-group.conf", "[Group writers]\nMaxQueuedJobs = 5\n")
    expect_success(command("systemctl", "reload", "bitnetd.service"))
    expect("after systemctl reload", limit("alice", "MaxQueuedJobs"), 5)
    expect("bnctl reload of alice", command("bnctl", "reload", user="alice").returncode, 77)


@check
def a_bad_configuration_keeps_the_old_one_and_says_why():
    complaint = f"{FOLDER}/99-bad.conf:2"
    configure("50-group.conf", "[Group writers]\nMaxQueuedJobs = 4\n")
    configure("99-bad.conf", "[Default]\nMaxQueuedJobs = lots\n")
    hang_up_until(lambda: told(complaint) == 1)
    expect("after SIGHUP", limit("alice", "MaxQueuedJobs"), 5)
    result = command("bnctl", "reload")
    if result.returncode != 78 or complaint not in result.stderr:
        fail(f"bnctl reload: exit {result.returncode}: {result.stderr}")
    expect("times in the journal after bnctl reload", told(complaint), 2)
    if command("systemctl", "reload", "bitnetd.service").returncode == 0:
        fail("systemctl reload took it")
    expect("after all", limit("alice", "MaxQueuedJobs"), 5)
    expect_success(ask("alice", "Name one bird."))
    configure("99-bad.conf", None)
    expect_success(command("bnctl", "reload"))
    expect("repaired", limit("alice", "MaxQueuedJobs"), 4)


@check
def quotas_and_budgets_survive_a_restart():
    uid = uid_of("alice")
    expect("alice sets her own",
           command("bnctl", "quota", "set", "MaxQueuedJobs=9", user="alice").returncode, 77)
    expect_success(command("bnctl", "quota", "set", f"--uid={uid}", "--persistent",
                           "MaxQueuedJobs=8", "TokensPerDay=100K"))
    expect_success(command("bnctl", "quota", "set", f"--uid={uid}", "MaxObjects=99"))
    expect("the user's before the group's", limit("alice", "MaxQueuedJobs"), 8)
    before = quota("alice")["used"]["TokensPerDay"]
    expect_success(ask("alice", "Name one flower."))
    used = quota("alice")["used"]
    if used["TokensPerDay"] <= before or used["CPUTimePerDay"] == 0:
        fail(f"an answer cost {used}, before {before} tokens")
    expect_success(command("systemctl", "restart", "bitnetd.service"))
    after = quota("alice")
    expect("persistent", after["limits"]["MaxQueuedJobs"], 8)
    expect("until the daemon ends", after["limits"]["MaxObjects"], 256)
    expect("used", after["used"]["TokensPerDay"], used["TokensPerDay"])
    if after["used"]["CPUTimePerDay"] < used["CPUTimePerDay"]:
        fail(f"CPU time {used['CPUTimePerDay']} became {after['used']['CPUTimePerDay']}")

    spent = used["TokensPerDay"]
    expect_success(command("bnctl", "quota", "set", f"--uid={uid}", "--persistent",
                           f"TokensPerDay={spent}"))
    expect_success(command("systemctl", "restart", "bitnetd.service"))
    result = ask("alice", "Name one flower.")
    if result.returncode != 75 or "tokens of the day" not in result.stderr:
        fail(f"a spent budget: exit {result.returncode}: {result.stderr[-300:]}")
    expect_success(ask("bob", "Name one flower."))
    expect_success(command("bnctl", "quota", "set", f"--uid={uid}", "--persistent",
                           "MaxQueuedJobs=", "TokensPerDay="))
    configure("50-group.conf", None)
    expect_success(command("bnctl", "reload"))
    expect("all is taken back", limit("alice", "MaxQueuedJobs"), 16)


# --- slices ---

def in_slice(name, *argv, user="alice", options=(), stdin=None):
    return command("systemd-run", "--quiet", "--wait", "--pipe", f"--slice={name}",
                   f"--uid={user}", *options, *argv, stdin=stdin)


@check
def slices_need_the_drop_in():
    configure("60-slices.conf", "[Slice batch.slice]\nMaxQueuedJobs = 3\nAllowVerbs = embed\n"
                                "[Slice batch-vip.slice]\nMaxQueuedJobs = 300\n")
    result = command("bnctl", "reload")
    if (result.returncode != 78 or f"{FOLDER}/60-slices.conf:2" not in result.stderr or
            "bitnetd.service.d/50-slices.conf" not in result.stderr):
        fail(f"exit {result.returncode}: {result.stderr}")
    expect_success(command("cp", "/usr/share/doc/bitnetd/50-slices.conf", UNIT_FOLDER))
    expect_success(command("systemctl", "daemon-reload"))
    expect_success(command("systemctl", "restart", "bitnetd.service"))


@check
def a_slice_has_a_quota_of_its_own():
    inside = json.loads(expect_success(in_slice("batch.slice", "bnctl", "quota", "--json")))
    expect("in batch.slice", (inside["slice"], inside["limits"]["MaxQueuedJobs"]),
           ("batch.slice", 3))
    outside = quota("alice")
    expect("outside", (outside["slice"], outside["limits"]["MaxQueuedJobs"]), ("", 16))
    inner = json.loads(expect_success(in_slice("batch-vip.slice", "bnctl", "quota", "--json")))
    expect("in batch-vip.slice", (inner["slice"], inner["limits"]["MaxQueuedJobs"],
                                  inner["limits"]["AllowVerbs"]),
           ("batch-vip.slice", 300, "embed"))
    out = expect_success(in_slice("batch-x.slice", "bnctl", "quota", "explain"))
    for line in ["in batch.slice", f"[Slice batch.slice] {FOLDER}/60-slices.conf:2"]:
        if line not in out:
            fail(f"no {line!r} in {out}")
    for argv in [["bnctl", "quota", "--json", f"--uid={uid_of('alice')}", "--slice=batch.slice"],
                 ["runuser", "-u", "alice", "--", "bnctl", "quota", "--json",
                  "--slice=batch.slice"]]:
        shown = json.loads(expect_success(command(*argv)))
        expect("asked for by name", (shown["slice"], shown["limits"]["MaxQueuedJobs"]),
               ("batch.slice", 3))


@check
def a_slice_counts_over_http_and_on_the_message_bus():
    verb = ("bnctl", "ask", "--quiet", "--max-tokens=4")
    result = in_slice("batch.slice", *verb, stdin="Name one stone.")
    expect("a verb that the slice may not", result.returncode, 77)
    expect_success(ask("alice", "Name one stone."))
    out = expect_success(in_slice("batch.slice", *BUSCTL))
    if '"Slice" s "batch.slice"' not in out:
        fail(f"on the message bus: {out}")
    out = expect_success(command(*BUSCTL, user="alice"))
    if '"Slice" s ""' not in out:
        fail(f"on the message bus, outside: {out}")
    configure("60-slices.conf", "[Slice batch.slice]\nTokensPerDay = 100K\n"
                                "[Slice batch-vip.slice]\nMaxQueuedJobs = 300\n")
    expect_success(command("bnctl", "reload"))
    before = quota("alice")["used"]["TokensPerDay"]
    expect_success(in_slice("batch.slice", *verb, stdin="Name one stone."))
    expect("tokens outside", quota("alice")["used"]["TokensPerDay"], before)
    spent = quota("alice", "--slice=batch.slice")["used"]["TokensPerDay"]
    if spent == 0:
        fail("nothing was charged to the slice")
    expect_success(command("systemctl", "restart", "bitnetd.service"))
    expect("after a restart", quota("alice", "--slice=batch.slice")["used"]["TokensPerDay"], spent)


@check
def a_delegated_unit_cannot_fake_a_slice():
    names = ["batch-vip.slice", "system.slice", "user.slice", "batch.slice"]
    out = expect_success(in_slice("batch.slice", "/usr/bin/python3", f"{HERE}/delegated.py", *names,
                                  options=["--property=Delegate=yes"]))
    attempts = [json.loads(line) for line in out.splitlines()]
    expect("attempts", len(attempts), 2 * len(names))
    for path, seen in attempts:
        expect(path, seen, "batch.slice")


@check
def a_users_own_manager_decides_on_no_slice():
    uid = uid_of("alice")
    configure("70-user.conf", "[Slice user.slice]\nMaxQueuedJobs = 5\n"
                              "[Slice app.slice]\nMaxQueuedJobs = 500\n"
                              "[Slice user-vip.slice]\nMaxQueuedJobs = 500\n")
    expect_success(command("bnctl", "reload"))
    expect_success(command("systemctl", "start", f"user@{uid}.service"))
    for name in ["app.slice", "user-vip.slice", "batch-vip.slice"]:
        out = expect_success(command("env", f"XDG_RUNTIME_DIR=/run/user/{uid}", "systemd-run",
                                     "--quiet", "--user", "--scope", f"--slice={name}",
                                     "--setenv=BITNETD_SOCKET=/run/bitnetd/api.sock", "sh", "-c",
                                     "cat /proc/self/cgroup; bnctl quota --json", user="alice"))
        group, _, numbers = out.partition("{")
        if f"/user@{uid}.service/" not in group or f"/{name}/" not in group:
            fail(f"it did not run in {name}: {group}")
        numbers = json.loads("{" + numbers)
        expect(f"in {name}", (numbers["slice"], numbers["limits"]["MaxQueuedJobs"]),
               ("user.slice", 5))
    expect_success(command("systemctl", "stop", f"user@{uid}.service"))
    configure("70-user.conf", None)
    expect_success(command("bnctl", "reload"))


@check
def who_has_ended_is_in_no_slice():
    pid = int(command("systemctl", "show", "-P", "MainPID", "bitnetd.service").stdout)
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o777)
        os.kill(pid, signal.SIGSTOP)
        client = subprocess.Popen(["runuser", "-u", "alice", "--", "/usr/bin/python3",
                                   f"{HERE}/orphan.py", folder], stdout=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + 20
            while not os.path.exists(f"{folder}/connected") and time.monotonic() < end:
                time.sleep(0.01)
        finally:
            os.kill(pid, signal.SIGCONT)
        open(f"{folder}/go", "w").close()
        answer, _ = client.communicate(timeout=60)
    if not answer.startswith("HTTP/1.1 403 ") or "slice_unknown" not in answer:
        fail(answer[:400])


@check
def slices_can_be_given_up():
    configure("60-slices.conf", None)
    for name in ["40-starts.conf", "50-slices.conf"]:
        os.unlink(f"{UNIT_FOLDER}/{name}")
    expect_success(command("systemctl", "daemon-reload"))
    expect_success(command("systemctl", "restart", "bitnetd.service"))
    out = expect_success(in_slice("batch.slice", "bnctl", "quota", "--json"))
    expect("the slice", json.loads(out)["slice"], "")
    expect("the broker sees", manager("GetStatus", user="alice").returncode, 0)
