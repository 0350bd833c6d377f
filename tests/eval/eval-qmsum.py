#!/usr/bin/env python3
"""Summaries of whole meetings (QMSum, validation) against the answer to their general query.

eval-qmsum.py SUMMARIZE-FILE MODEL [--count N] [--type T] [--length L] [--truncate TOKENS]
              [--context TEXT] [--threads N] [--show]

Prints ROUGE-1, 2 and L (stemmed). With --truncate the model sees only the first TOKENS tokens
of a meeting, in a single prompt: what a program without map and reduce would do. Needs the package
rouge-score; exit status 77 where it is missing."""

import argparse
import json
import lzma
import pathlib
import subprocess
import sys

DATA = pathlib.Path(__file__).resolve().parent.parent / "data/summarise/qmsum-12.jsonl.xz"
KINDS = ("rouge1", "rouge2", "rougeL")


def request(row, arguments):
    text = "\n".join(f"{speaker}: {content}" for speaker, content in row["turns"])
    r = {"id": row["id"], "text": text, "type": arguments.type, "length": arguments.length}
    if arguments.truncate:
        r["truncate"] = arguments.truncate
    if arguments.context:
        r["context"] = arguments.context
    return r


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("model")
    parser.add_argument("--count", type=int, default=12)
    parser.add_argument("--type", default="tldr")
    parser.add_argument("--length", default="long")
    parser.add_argument("--truncate", type=int, default=0)
    parser.add_argument("--context")
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
    lines = "".join(json.dumps(request(row, arguments)) + "\n" for row in rows)
    done = subprocess.run([arguments.program, "--jobs", "4", "--threads", arguments.threads,
                           arguments.model], input=lines,
                          stdout=subprocess.PIPE, text=True, check=True)
    total = [0.0] * len(KINDS)
    for row, line in zip(rows, done.stdout.splitlines(), strict=True):
        answer = json.loads(line)
        if answer["error"] or answer["coverage"]["dropped"]:
            sys.exit(f"{row['id']}: error {answer['error']}, coverage {answer['coverage']}")
        score = scorer.score(row["reference"], answer["summary"])
        values = [100 * score[kind].fmeasure for kind in KINDS]
        total = [a + b for a, b in zip(total, values)]
        c = answer["coverage"]
        print(f"{row['id']:8} {c['tokens']:6} tokens {c['pieces']:3} pieces {c['rounds']} rounds "
              f"{answer['seconds']:6.1f} s {len(answer['summary'].split()):4} words  " +
              "  ".join(f"{k} {v:.1f}" for k, v in zip(KINDS, values)), flush=True)
        if arguments.show:
            print("    " + answer["summary"].replace("\n", "\n    "))
    print(f"mean of {len(rows)}: " +
          "  ".join(f"{k} {v / len(rows):.1f}" for k, v in zip(KINDS, total)))


main()
