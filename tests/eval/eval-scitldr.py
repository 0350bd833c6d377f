#!/usr/bin/env python3
"""One-sentence summaries of 72 scientific abstracts (SciTLDR, dev) against their references.

eval-scitldr.py SUMMARIZE-FILE MODEL [--count N] [--threads N] [--show]

Prints ROUGE-1, 2 and L (stemmed, the best reference for each) of the summaries and of the first
sentence alone. Needs the package rouge-score; exit status 77 where it is missing. Fails below
33 / 23.5 when all abstracts are used, and below the first sentence when only some are."""

import argparse
import json
import lzma
import pathlib
import subprocess
import sys

DATA = pathlib.Path(__file__).resolve().parent.parent / "data/summarise/scitldr-72.jsonl.xz"
KINDS = ("rouge1", "rouge2", "rougeL")
WANTED = {"rouge1": 33.0, "rougeL": 23.5}


def summarize(program, model, threads, requests):
    lines = "".join(json.dumps(r) + "\n" for r in requests)
    done = subprocess.run([program, "--jobs", "16", "--threads", threads, model], input=lines,
                          stdout=subprocess.PIPE, text=True, check=True)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    if [a["id"] for a in answers] != [r["id"] for r in requests]:
        sys.exit("answers do not match the requests")
    return answers


def best(scorer, references, text):
    scores = [scorer.score(reference, text) for reference in references]
    return [100 * max(s[kind].fmeasure for s in scores) for kind in KINDS]


def mean(rows):
    return [sum(column) / len(rows) for column in zip(*rows)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=72)
    parser.add_argument("--threads", default="2")
    parser.add_argument("--show", action="store_true")
    arguments = parser.parse_args()
    try:
        from rouge_score import rouge_scorer
    except ImportError:
        print("skipped: the Python package rouge-score is not installed")
        sys.exit(77)
    scorer = rouge_scorer.RougeScorer(KINDS, use_stemmer=True)
    rows = [json.loads(line) for line in lzma.open(DATA, "rt", encoding="utf-8")]
    rows = rows[:arguments.count]
    answers = summarize(arguments.program, arguments.model, arguments.threads, [
        {"id": r["id"], "text": " ".join(r["source"]), "type": "tldr", "length": "short"}
        for r in rows])
    for row, answer in zip(rows, answers):
        if answer["error"] or answer["coverage"]["dropped"]:
            sys.exit(f"{row['id']}: error {answer['error']}, coverage {answer['coverage']}")
        if arguments.show:
            print(answer["summary"], "\n    ", row["target"][0])
    ours = mean([best(scorer, r["target"], a["summary"]) for r, a in zip(rows, answers)])
    first = mean([best(scorer, r["target"], r["source"][0]) for r in rows])
    words = sum(len(a["summary"].split()) for a in answers) / len(rows)
    print(f"{len(rows)} abstracts, {words:.1f} words on average")
    print("first sentence  " + "  ".join(f"{k} {v:.1f}" for k, v in zip(KINDS, first)))
    print("summary         " + "  ".join(f"{k} {v:.1f}" for k, v in zip(KINDS, ours)))
    scores = dict(zip(KINDS, ours))
    wanted = WANTED if len(rows) == 72 else dict(zip(KINDS, first))
    if any(scores[k] < limit for k, limit in wanted.items()):
        print(f"below {wanted}")
        sys.exit(1)


main()
