#!/usr/bin/env python3
"""Tasks for bench-guessing: guessing-tasks.py ABSTRACTS.jsonl MEETINGS.jsonl QUESTIONS.json [COUNT]

Rewrites of abstracts (SciTLDR's format), extracts and summaries of pieces of meetings (QMSum's), and
questions of general knowledge and small stories, which repeat nothing."""

import json
import sys

ABSTRACT = {
    "copy": "Repeat the following text exactly, word for word:\n\n%s",
    "correct": "Correct the spelling of the following text. Change nothing else.\n\n%s",
}
MEETING = {
    "extract": "Text:\n\n%s\n\nCopy the three most important sentences of this text, word for word.",
    "summary": "Text:\n\n%s\n\nWrite a summary of this text in five sentences.",
}
CHAT = ["Tell me a story about a dog.", "Why is the sky blue?", "Name three colors.",
        "Write a short poem about the sea.", "What is a river?", "Explain gravity to a child.",
        "How does a computer work?", "What should I cook tonight?"]
MAX_TOKENS = 200


def misspelt(text):
    """Every eighth longer word loses a letter."""
    words = text.split()
    for i in range(5, len(words), 8):
        if len(words[i]) > 5:
            words[i] = words[i][:2] + words[i][3:]
    return " ".join(words)


def meeting(row, words=400):
    turns = row["meeting_transcripts"]
    text = "\n".join(f"{t['speaker']}: {t['content']}" for t in turns[len(turns) // 3:])
    return " ".join(text.split(" ")[:words])


def rows(path, count):
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f][:count]


def main():
    count = int(sys.argv[4]) if len(sys.argv) > 4 else 8
    tasks = []
    for row in rows(sys.argv[1], count):
        text = " ".join(row["source"])
        tasks.append(("copy", ABSTRACT["copy"] % text))
        tasks.append(("correct", ABSTRACT["correct"] % misspelt(text)))
    for row in rows(sys.argv[2], count):
        tasks += [(kind, wish % meeting(row)) for kind, wish in MEETING.items()]
    with open(sys.argv[3], encoding="utf-8") as f:
        tasks += [("questions", q[0]) for q in json.load(f)][:2 * count]
    tasks += [("chat", q) for q in CHAT[:count]]
    for kind, user in tasks:
        print(json.dumps({"kind": kind, "user": user, "max_tokens": MAX_TOKENS}))


if __name__ == "__main__":
    main()
