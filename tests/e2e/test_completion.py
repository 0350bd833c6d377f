"""Completion of command lines: real shells are offered what help says, models and jobs as they are,
and nothing, silently, without a daemon."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest

from harness import BNCTL, SMOL, TINY, DaemonCase

BASH = """
source <("$1" completion bash)
COMP_WORDS=("${@:1}") COMP_CWORD=$(($# - 1))
_bnctl
(( ${#COMPREPLY[@]} )) && printf '%s\\n' "${COMPREPLY[@]}"
exit 0
"""
# The parts of zsh's completion that the script uses, printing instead.
ZSH = """
compdef() { : }
_describe() { print -rl -- "${(@P)4}" }
_files() { print -rl -- FILES }
compset() { : }
source <("$1" completion zsh)
words=("$@") CURRENT=$#
_bnctl
"""


class Completion(DaemonCase):
    def shell(self, *command, **env):
        r = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False,
                           env=dict(os.environ, BITNETD_SOCKET=self.d.socket, **env))
        self.assertEqual((r.returncode, r.stderr), (0, ""))
        return r.stdout.splitlines()

    def bash(self, *words):
        return self.shell("bash", "--norc", "-c", BASH, "bash", BNCTL, *words)

    def plain(self, *words):
        return [line.split("\t")[0] for line in self.shell(BNCTL, "completion", "zsh", "--", *words)]

    def test_everything_in_help_is_offered(self):
        overview = "\n".join(self.shell(BNCTL, "--help"))
        verbs = re.findall(r"^  bnctl ([a-z]+)", overview.split("Examples:")[0], re.M)
        self.assertGreater(len(verbs), 15)
        self.assertEqual(self.bash(""), verbs)
        for verb in verbs:
            told = set()
            for line in self.shell(BNCTL, verb, "--help"):
                if line.lstrip().startswith("-"):
                    told |= set(re.findall(r"(?<![\w-])--([a-z][a-z-]*)", line.split("   ")[0]
                                           if not line.startswith("      ") else line))
            offered = {o[2:].rstrip("=") for o in self.bash(verb, "--")}
            self.assertLessEqual(told, offered, verb)
            self.assertIn("help", offered)
            for option in offered:  # and is understood
                r = self.d.bnctl(verb, f"--{option}=1" if f"--{option}=" in self.bash(verb, "--")
                                 else f"--{option}", "--help")
                self.assertEqual(r.returncode, 0, (verb, option, r.stderr))

    def test_words(self):
        self.assertEqual(self.bash("su"), ["summarize"])
        self.assertEqual(self.bash("summarize", "--ty"), ["--type="])
        self.assertEqual(self.bash("summarize", "--type", "=", "t"), ["tldr", "teaser"])
        self.assertEqual(self.bash("summarize", "--type", "="),
                         ["tldr", "teaser", "key-points", "headline"])
        self.assertEqual(self.bash("summarize", "--type", "k"), ["key-points"])
        self.assertEqual(self.plain("summarize", "--type=t"), ["--type=tldr", "--type=teaser"])
        self.assertEqual(self.bash("quota", ""), ["show", "explain", "set"])
        self.assertEqual(self.bash("completion", ""), ["bash", "zsh", "fish"])
        self.assertEqual(self.bash("nothing", ""), [])
        self.assertEqual(self.bash("status", ""), [])
        self.assertEqual(self.plain("replay", ""), [":files"])
        self.assertEqual(self.plain("ask", "--file", ""), [":files"])
        self.assertEqual(self.bash("ps", "--al"), ["--all"])

    def test_files(self):
        with tempfile.TemporaryDirectory() as folder:
            for name in ("one text", "other"):
                with open(os.path.join(folder, name), "w", encoding="utf-8"):
                    pass
            start = os.path.join(folder, "o")
            self.assertEqual(sorted(self.bash("summarize", start)), [start + "ne text", start + "ther"])
            self.assertEqual(self.bash("ask", "-f", start + "t"), [start + "ther"])

    def test_models_and_jobs(self):
        self.assertIn(SMOL, self.bash("ask", "-m", ""))
        self.assertEqual(self.bash("ask", "--model", "=", TINY[:4]), [TINY])
        self.assertEqual(self.bash("verify", TINY[:4]), [TINY])
        job = self.d.bnctl("ask", "--detach", "-n3", "Hello!").stdout.strip()
        self.d.bnctl("wait", job)
        self.assertIn(job, self.bash("output", ""))
        self.assertEqual(self.bash("output", job[:-1] if len(job) > 1 else "")[-1], job)
        self.assertNotIn(job, self.bash("cancel", ""))
        self.assertNotIn(job, self.bash("output", job, ""))
        line = [o for o in self.shell(BNCTL, "completion", "fish", "--", "wait", "")
                if o.startswith(job)]
        self.assertEqual(line, [f"{job}\tchat, done"])

    def test_no_daemon(self):
        for words in (("output", ""), ("ask", "-m", ""), ("verify", "")):
            self.assertEqual(self.bash(words[0], "--socket", "/nowhere", *words[1:]), [])

    @unittest.skipUnless(shutil.which("zsh"), "zsh is not installed")
    def test_zsh(self):
        def zsh(*words):
            return self.shell("zsh", "-f", "-c", ZSH, "zsh", BNCTL, *words)

        self.assertEqual(zsh("su"), ["summarize:Summarise text of any length"])
        self.assertIn("--type=:tldr (default), teaser, key-points, headline", zsh("summarize", "--"))
        self.assertIn("--verbose:print the coverage report", zsh("summarize", "--"))
        self.assertEqual(zsh("summarize", "--type=te"), ["--type=teaser"])
        self.assertIn(f"{SMOL}:the default model", zsh("verify", ""))
        self.assertEqual(zsh("install", ""), ["FILES"])

    @unittest.skipUnless(shutil.which("fish"), "fish is not installed")
    def test_fish(self):
        def fish(line):
            with tempfile.TemporaryDirectory() as home:
                return self.shell(
                    "fish", "-N", "-c", "bnctl completion fish | source; complete -C $argv[1]", line,
                    PATH=os.path.dirname(BNCTL) + ":" + os.environ["PATH"], HOME=home)

        self.assertEqual(fish("bnctl su"), ["summarize\tSummarise text of any length"])
        self.assertEqual(fish("bnctl summarize --type=te"), ["--type=teaser"])
        self.assertIn("--verbose\tprint the coverage report", fish("bnctl summarize --"))
        self.assertIn(f"{SMOL}\tthe default model", fish("bnctl verify "))
        self.assertIn("/etc/", fish("bnctl install /et"))


if __name__ == "__main__":
    unittest.main(verbosity=2)
