"""The documented interface is the real one, and it carries no text.

usage: check-interface.py INTROSPECT-PROGRAM INTERFACE.xml
"""

import subprocess
import sys
import xml.etree.ElementTree as ET

PREFIX = "org.bitnetd.Bitnetd1."

# Every string on the bus and what it is: a name, a word of a fixed list or a fixed sentence.
STRINGS = {
    "model", "name", "use_case", "reason", "message", "result",
    "State", "Result", "ErrorName", "ErrorMessage", "Verb", "Model", "Priority",
    "Version", "SocketPath", "Name", "Problem", "priority", "state", "Slice",
}
# Names, states, verbs, priorities; keys, sections and files of the configuration.
STRUCTS = {"a(sttbs)", "a(oussssttt)", "a(oustttttub)", "a{s(ssu)}"}
OTHER = {"h", "o", "b", "u", "t", "d", "as", "a{sv}", "aa{sv}"}


def describe(root):
    """A set of tuples that says everything about our interfaces."""
    out = set()
    for interface in root.iter("interface"):
        name = interface.get("name")
        if not name.startswith(PREFIX):
            continue
        for member in interface:
            if member.tag == "property":
                out.add((name, "property", member.get("name"), member.get("type"),
                         member.get("access")))
            elif member.tag in ("method", "signal"):
                args = tuple((a.get("direction") or "out", a.get("type"), a.get("name"))
                             for a in member.iter("arg"))
                out.add((name, member.tag, member.get("name"), args))
    return out


def problems_of_text(interface):
    for entry in sorted(interface, key=str):
        values = [(entry[3], entry[2])] if entry[1] == "property" else [
            (kind, name) for _, kind, name in entry[3]]
        for kind, name in values:
            if not name:
                yield f"{entry[0]}.{entry[2]}: an argument without a name"
            elif kind == "s" and name not in STRINGS:
                yield f"{entry[0]}.{entry[2]}: string {name} is not known to be harmless"
            elif kind != "s" and kind not in STRUCTS | OTHER:
                yield f"{entry[0]}.{entry[2]}: {name} has type {kind}"


def main():
    output = subprocess.run([sys.argv[1]], check=True, capture_output=True, timeout=60).stdout
    real = set()
    for document in output.decode().split("\0"):
        start = document.find("<node")
        if start >= 0:
            real |= describe(ET.fromstring(document[start:]))
    documented = describe(ET.parse(sys.argv[2]).getroot())
    problems = [f"not documented: {e}" for e in sorted(real - documented, key=str)]
    problems += [f"documented, but not there: {e}" for e in sorted(documented - real, key=str)]
    problems += list(problems_of_text(real))
    if len(real) < 40:
        problems.append(f"only {len(real)} members were seen")
    for p in problems:
        print(p)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
