"""Manual pages as roff, on standard output, from programs' help, the commented configuration, or
the introspection file of the bus.

  page.py bnctl PROGRAM | bitnetd PROGRAM | config FILE | interface XML EXAMPLES
"""

import re
import subprocess
import sys
import xml.etree.ElementTree as ET

NAME = "org.bitnetd.Bitnetd1"


def escape(text):
    """Text that roff prints as it is; hyphens stay hyphens so that commands can be copied."""
    text = text.replace("\\", "\\e").replace("-", "\\-").replace("µ", "\\[mc]")
    text = text.replace("…", "...").replace("–", "\\[en]")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line
                     for line in text.split("\n"))


def section(title, *parts):
    return [f".SH {title}", *parts]


def paragraph(text):
    return f".PP\n{escape(text)}"


def literal(text):
    return f".PP\n.nf\n.RS 4\n{escape(text)}\n.RE\n.fi"


def header(name, number, what):
    return [f'.TH {name} {number} "" "bitnetd"', ".ad l", ".nh",
            *section("NAME", escape(name) + " \\- " + escape(what))]


def help_of(*command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.rstrip()


def blocks(text):
    """Prose as paragraphs, indented lines as they stand."""
    out = []
    for block in re.split(r"\n\s*\n", text):
        prose = not any(line.startswith(" ") for line in block.split("\n"))
        out.append(paragraph(block) if prose and block else literal(block) if block else "")
    return out


def bnctl_page(program):
    top = help_of(program, "--help")
    verbs = re.findall(r"^  bnctl (\w+).*$", top.split("bnctl VERB")[0], re.M)
    page = header("bnctl", 1, "ask the local language model of this machine")
    page += section("SYNOPSIS", ".B bnctl\n.I VERB\n[\\fIOPTION\\fR...] [\\fIARGUMENT\\fR...]")
    page += section("DESCRIPTION", *[paragraph(p) for p in BNCTL_ABOUT])
    page += section("COMMANDS")
    for verb in verbs:
        usage, text = help_of(program, verb, "--help").split("\n", 1)
        text = text.split("\nEvery verb:")[0].strip("\n")
        page += [".SS " + escape(usage.removeprefix("Usage: ")), *blocks(text)]
    common = help_of(program, verbs[0], "--help").split("\nEvery verb:\n")[1]
    page += section("OPTIONS OF EVERY COMMAND", literal(common))
    page += section("EXIT STATUS", paragraph(top.split("Exit status: ")[1]))
    return page + tail(BNCTL_SECTIONS)


def bitnetd_page(program):
    usage = help_of(program, "--help").split("\n\n", 1)[1]
    page = header("bitnetd", 8, "serve language models to the users of this machine")
    page += section("SYNOPSIS", ".B bitnetd\n[\\fIOPTION\\fR...]")
    page += section("DESCRIPTION", *[paragraph(p) for p in BITNETD_ABOUT])
    page += section("OPTIONS", literal(usage))
    return page + tail(BITNETD_SECTIONS)


def config_page(path):
    page = header("bitnetd.conf", 5, "configuration of bitnetd")
    page += section("SYNOPSIS", paragraph("/etc/bitnetd/bitnetd.conf"))
    page += section("DESCRIPTION")
    with open(path, encoding="utf-8") as f:
        parts = re.split(r"\n\n+", f.read().strip())
    for part in parts:
        lines = part.split("\n")
        if lines[0].startswith("["):
            page += [".SS " + escape(lines.pop(0) + " section")]
        keys = [line for line in lines if re.match(r"#?\w+ = ", line)]
        if keys:
            page += [".TP\n.B " + escape(k.lstrip("#")) + "\n.PD 0" for k in keys[:-1]]
            page += [".TP\n.B " + escape(keys[-1].lstrip("#")) + "\n.PD"]
            text = " ".join(line.lstrip("# ") for line in lines if line not in keys)
            page += [escape(text) or "\\&"]
        else:
            page += [paragraph(re.sub(r"^# ?", "", "\n".join(lines), flags=re.M))]
    return page + tail(CONFIG_SECTIONS)


def parse_examples(path):
    """"Interface.Member:" lines, each followed by its indented commands."""
    with open(path, encoding="utf-8") as f:
        parts = re.split(r"^(\w+(?:\.\w+)?):\n", f.read(), flags=re.M)
    return {name: re.sub(r"^    ", "", text.strip("\n"), flags=re.M)
            for name, text in zip(parts[1::2], parts[2::2])}


def comment_paragraphs(text):
    return [" ".join(p.split()) for p in re.split(r"\n\s*\n", text) if p.strip()]


def arguments(element, direction):
    found = [f"{a.get('type')} {a.get('name')}" for a in element.iter("arg")
             if a.get("direction", "out") == direction]
    return ", ".join(found)


def title_of(element):
    if element.tag == "property":
        return f"{element.get('name')} {element.get('type')}"
    if element.tag == "signal":
        return f"{element.get('name')} ({arguments(element, 'out')})"
    result = arguments(element, "out")
    return (f"{element.get('name')} ({arguments(element, 'in')})" +
            (f" -> ({result})" if result else ""))


def interface_section(interface, comment, examples):
    name = interface.get("name").removeprefix(NAME + ".")
    page = section(f"{name.upper()} INTERFACE", paragraph(comment) if comment else "")
    text = []
    for child in interface:
        if child.tag is ET.Comment:
            text = comment_paragraphs(child.text)
            continue
        kind = {"method": "Method", "property": "Property", "signal": "Signal"}[child.tag]
        page += [f".SS {kind} {escape(title_of(child))}", *[paragraph(t) for t in text]]
        example = examples.pop(f"{name}.{child.get('name')}", None)
        if child.tag == "method":
            page += [paragraph("Example:"), literal(example)] if example else []
        text = []
    return page


def interface_page(xml, examples_path):
    with open(xml, encoding="utf-8") as f:
        text = f.read()
    about = comment_paragraphs(re.search(r"<!--(.*?)-->", text, re.S).group(1))
    tree = ET.fromstring(text, ET.XMLParser(target=ET.TreeBuilder(insert_comments=True)))
    examples = parse_examples(examples_path)
    page = header(NAME, 5, "the D-Bus interface of bitnetd")
    page += section("SYNOPSIS", literal(f"{NAME} on the system bus, or on the session bus of a\n"
                                        "daemon in user mode; the same on the socket bus.sock"))
    page += section("DESCRIPTION", *[paragraph(p) for p in about])
    page += [".PP\n\\fB" + escape(EOF_WARNING) + "\\fR"]
    comment = ""
    for child in tree:
        if child.tag is ET.Comment:
            comment = " ".join(child.text.split())
        else:
            page += interface_section(child, comment, examples)
            comment = ""
    page += section("EXAMPLE", paragraph("A question, and its answer as it is generated:"),
                    literal(examples.pop("Program")))
    if examples:
        sys.exit(f"examples of unknown methods: {', '.join(examples)}")
    return page + tail(INTERFACE_SECTIONS)


def tail(sections):
    page = []
    for title, parts in sections:
        page += section(title, *[literal(p) if p.startswith("  ") else paragraph(p)
                                 for p in parts])
    return page


EOF_WARNING = ("End-of-file on the output is not success. Read Result of the job, or the last "
               "line where output is events, before you believe that the answer is whole.")

BNCTL_ABOUT = [
    "bnctl asks the language model that bitnetd(8) keeps for all users of this machine. Text goes "
    "over the Unix socket of the daemon straight to a process that serves this user alone; nothing "
    "is stored.",
    "The answer goes to standard output, everything else to standard error. Control characters in "
    "an answer are escaped where standard output is a terminal.",
]
BNCTL_SECTIONS = [
    ("ENVIRONMENT", ["BITNETD_SOCKET names the daemon's socket. Without it "
                     "$XDG_RUNTIME_DIR/bitnetd/api.sock is used where it exists, else "
                     "/run/bitnetd/api.sock."]),
    ("ADMINISTRATION", ["install, remove, verify, quota set, quota of other users, reload and --all "
                        "of ps, top and monitor are for root; others are asked to authenticate by "
                        "polkit(8). Without a desktop, start an agent first:",
                        "  pkttyagent --process $$ &"]),
    ("SEE ALSO", [f"bitnetd(8), bitnetd.conf(5), {NAME}(5), polkit(8)"]),
]
BITNETD_ABOUT = [
    "bitnetd lets programs and people use one language model: over HTTP as OpenAI's and Ollama's "
    "clients speak it on the Unix socket /run/bitnetd/api.sock, and over D-Bus. It decides who may "
    "use how much. Text is never its business: it passes between the client and a sandboxed "
    "worker of the client's own user.",
    "As a system service it is started by the first connection or bus call (bitnetd.socket, "
    f"bitnetd-bus.socket, bus activation of {NAME}). With --user it serves the user that starts it.",
]
BITNETD_SECTIONS = [
    ("SIGNALS", ["SIGHUP reads the configuration anew; a mistake changes nothing and is logged. "
                 "SIGTERM ends jobs and workers, then the daemon."]),
    ("FILES", ["  /etc/bitnetd/bitnetd.conf        configuration, see bitnetd.conf(5)\n"
               "  /run/bitnetd/api.sock            HTTP, every user\n"
               "  /run/bitnetd/bus.sock            the D-Bus interface without a bus\n"
               "  /run/bitnetd/admin.sock          metrics, root\n"
               "  /var/lib/bitnetd                 packed models, usage of the day"]),
    ("SEE ALSO", [f"bnctl(1), bitnetd.conf(5), {NAME}(5), systemd.socket(5)"]),
]
CONFIG_SECTIONS = [("SEE ALSO", [f"bitnetd(8), bnctl(1), {NAME}(5)"])]
INTERFACE_SECTIONS = [("SEE ALSO", ["bnctl(1), bitnetd(8), busctl(1), gdbus(1), polkit(8)"])]

MAKERS = {"bnctl": bnctl_page, "bitnetd": bitnetd_page, "config": config_page,
          "interface": interface_page}

if __name__ == "__main__":
    sys.stdout.reconfigure(encoding="utf-8")
    print("\n".join(line for line in MAKERS[sys.argv[1]](*sys.argv[2:]) if line))
