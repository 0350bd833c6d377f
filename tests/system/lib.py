"""What the checks share: the list of them, and running commands as somebody."""
import subprocess

PATIENCE = 150   # seconds until the embedded model is packed and verified

checks = []


def check(fn):
    checks.append(fn)
    return fn


def fail(text):
    raise AssertionError(text)


def command(*argv, user=None, stdin=None, timeout=90):
    if user:
        argv = ("runuser", "-u", user, "--", *argv)
    return subprocess.run(argv, input=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                          text=True, timeout=timeout, cwd="/")


def expect_success(result):
    if result.returncode != 0:
        fail(f"exit {result.returncode}: {result.stdout[-300:]} {result.stderr[-300:]}")
    return result.stdout


def ask(user, prompt, tokens=8):
    """The prompt goes through standard input: arguments are visible to everybody."""
    return command("bnctl", "ask", "--quiet", "--no-stream", f"--max-tokens={tokens}",
                   "--temperature=0", user=user, stdin=prompt)


def manager(method, *arguments, user=None):
    return command("busctl", "call", "org.bitnetd.Bitnetd1", "/org/bitnetd/Bitnetd1",
                   "org.bitnetd.Bitnetd1.Manager", method, *arguments, user=user)
