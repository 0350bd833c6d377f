#!/usr/bin/python3
"""Boots the installed tree in a container with a real systemd and runs checks.py inside.

    run.py BUILD_DIR

Needs root, debootstrap, systemd-nspawn and, once, a Debian mirror: the bare system is kept in
/var/cache/bitnetd-tests. Prints TAP; exits with 77 (skipped) and the reason where it cannot run.
"""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time

CACHE = "/var/cache/bitnetd-tests"
SUITE = "bookworm"
MIRROR = os.environ.get("BITNETD_TEST_MIRROR", "http://deb.debian.org/debian")
PACKAGES = ["dbus", "systemd", "systemd-sysv", "libpam-systemd", "libnss-systemd", "libsystemd0",
            "libseccomp2", "libsodium23", "libjansson4", "libcurl4", "libutf8proc2", "libinih1",
            "libhttp-parser2.9", "python3-minimal", "python3-dbus", "curl", "polkitd"]
MAX_AGE = 30 * 86400     # seconds, then the bare system is made anew
BOOT_SECONDS = 240
USERS = ["alice", "bob"]
LANDLOCK = "landlock_create_ruleset landlock_add_rule landlock_restrict_self"

CHECK_UNIT = """[Unit]
Description=Checks
After=multi-user.target bitnetd.socket
SuccessAction=poweroff-force
FailureAction=poweroff-force

[Service]
Type=oneshot
ExecStart=/usr/bin/python3 /usr/local/lib/bitnetd-check/checks.py /var/lib/bitnetd-check.tap
StandardOutput=journal
"""


def skip(reason):
    print(f"1..0 # SKIP {reason}")
    sys.exit(77)


def run(*command, **options):
    return subprocess.run(command, check=True, **options)


def bare_system():
    """A minimal Debian, made when there is none for this list of packages, or an old one."""
    name = hashlib.sha256(" ".join([SUITE, *PACKAGES]).encode()).hexdigest()[:12]
    tree = f"{CACHE}/{SUITE}-{name}"
    if os.path.isdir(tree) and time.time() - os.stat(tree).st_mtime < MAX_AGE:
        return tree
    os.makedirs(CACHE, mode=0o700, exist_ok=True)
    fresh = tempfile.mkdtemp(dir=CACHE)
    os.chmod(fresh, 0o755)
    with open(f"{CACHE}/debootstrap.log", "w") as log:
        made = subprocess.run(["debootstrap", "--variant=minbase",
                               "--include=" + ",".join(PACKAGES), SUITE, fresh, MIRROR],
                              stdout=log, stderr=log).returncode == 0
    if not made:
        shutil.rmtree(fresh)
        skip(f"debootstrap failed, see {CACHE}/debootstrap.log")
    shutil.rmtree(f"{fresh}/var/cache/apt")
    shutil.rmtree(tree, ignore_errors=True)
    os.utime(fresh)
    os.rename(fresh, tree)
    return tree


def packaged(build):
    """A build with the paths of a package: this one, or one of its own below it."""
    options = json.loads(run("meson", "introspect", "--buildoptions", build,
                             stdout=subprocess.PIPE).stdout)
    if any(o["name"] == "prefix" and o["value"] == "/usr" for o in options):
        return build
    own = f"{build}/system-test-build"
    if not os.path.exists(f"{own}/build.ninja"):
        source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        run("meson", "setup", own, source, "--prefix=/usr", "-Dtests=false",
            stdout=subprocess.DEVNULL)
    run("meson", "compile", "-C", own, stdout=subprocess.DEVNULL)
    return own


def install(build, tree, work):
    """What a package would do: files, users, enabled sockets."""
    stage = f"{work}/stage"
    run("meson", "install", "-C", build, "--no-rebuild", "--quiet", "--destdir", stage,
        stdout=subprocess.DEVNULL)
    # tar, because it follows the tree's own links (/lib is one) instead of replacing them
    with subprocess.Popen(["tar", "-C", stage, "--owner=0", "--group=0", "-c", "."],
                          stdout=subprocess.PIPE) as tar:
        run("tar", "-C", tree, "-x", "--keep-directory-symlink", stdin=tar.stdout)
    for user in USERS:
        run("chroot", tree, "useradd", "--create-home", user)
    run("systemd-sysusers", f"--root={tree}", stderr=subprocess.DEVNULL)
    run("systemctl", f"--root={tree}", "--quiet", "enable", "bitnetd.service", "bitnetd.socket",
        "bitnetd-bus.socket", "bitnetd-admin.socket", "bitnetd-worker.socket")


def add_checks(tree):
    here = os.path.dirname(os.path.abspath(__file__))
    lib = f"{tree}/usr/local/lib/bitnetd-check"
    os.makedirs(lib)
    for name in ["checks.py", "lib.py", "quotas.py", "summarize.py", "own_name.py", "delegated.py",
                 "orphan.py"]:
        shutil.copy(f"{here}/{name}", lib)
    unit = f"{tree}/etc/systemd/system/bitnetd-check.service"
    with open(unit, "w") as f:
        f.write(CHECK_UNIT)
    wants = f"{tree}/etc/systemd/system/default.target.wants"
    os.makedirs(wants, exist_ok=True)
    os.symlink("/etc/systemd/system/bitnetd-check.service", f"{wants}/bitnetd-check.service")
    # the whole journal in one place that can be searched after the machine is gone
    os.makedirs(f"{tree}/var/log/journal", exist_ok=True)


def own_cgroup():
    """A control group (v2) for the machine below ours, so that two machines at a time do not meet in
    the same ones; None where that cannot be had."""
    try:
        mount = next(line.split()[1] for line in open("/proc/self/mounts")
                     if line.split()[2] == "cgroup2")
        ours = next(line[3:].strip() for line in open("/proc/self/cgroup")
                    if line.startswith("0::"))
        return tempfile.mkdtemp(prefix="bitnetd-system-", dir=mount + ours)
    except (StopIteration, OSError):
        return None


def boot(tree, log):
    """With control groups v2 also where the host has others: quotas by slice need them."""
    group = own_cgroup()

    def enter():
        if group:
            with open(f"{group}/cgroup.procs", "w") as f:
                f.write("0")

    try:
        run_machine(tree, log, enter)
    finally:
        for folder, _, _ in os.walk(group or "", topdown=False):
            os.rmdir(folder)


def run_machine(tree, log, enter):
    command = ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--boot",
               "--private-network", "--link-journal=no", "--timezone=off", "--resolv-conf=off",
               "--console=pipe", f"--system-call-filter={LANDLOCK}", f"--directory={tree}"]
    with open(log, "w") as out:
        machine = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                                   env=os.environ | {"SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
                                   preexec_fn=enter)
        try:
            machine.wait(timeout=BOOT_SECONDS)
        except subprocess.TimeoutExpired:
            machine.send_signal(signal.SIGTERM)
            try:
                machine.wait(timeout=20)
            except subprocess.TimeoutExpired:
                machine.kill()
                machine.wait()
            print(f"# the machine did not finish within {BOOT_SECONDS} s", flush=True)


def show_troubles(tree, log):
    with open(log, errors="replace") as f:
        for line in f.readlines()[-30:]:
            print("console:", line.rstrip(), file=sys.stderr)
    journal = subprocess.run(["journalctl", "-D", f"{tree}/var/log/journal", "-b", "--no-pager",
                              "-q", "-n", "120"], stdout=subprocess.PIPE, text=True)
    for line in journal.stdout.splitlines():
        print("journal:", line, file=sys.stderr)


def main():
    build = os.path.abspath(sys.argv[1])
    if os.geteuid() != 0:
        skip("only root can boot a container")
    for tool in ["debootstrap", "systemd-nspawn", "meson", "tar", "journalctl"]:
        if not shutil.which(tool):
            skip(f"no {tool}")
    base = bare_system()
    work = tempfile.mkdtemp(prefix="bitnetd-system-", dir=CACHE)
    try:
        tree, log = f"{work}/tree", f"{work}/console.log"
        run("cp", "-a", "--reflink=auto", base, tree)
        install(packaged(build), tree, work)
        add_checks(tree)
        boot(tree, log)
        results = f"{tree}/var/lib/bitnetd-check.tap"
        text = open(results).read() if os.path.exists(results) else ""
        print(text, end="")
        complete = any(line.startswith("1..") for line in text.splitlines())
        failed = "not ok" in text or not complete
        if failed:
            print(text, file=sys.stderr) # meson shows this where it hides the TAP
            show_troubles(tree, log)
        if not complete:
            print("Bail out! the checks did not finish")
        return 1 if failed else 0
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
