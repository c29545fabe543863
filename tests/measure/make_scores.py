#!/usr/bin/env python3
"""Writes tools/eval/testdata/scores.jsonl: stored predictions with their scores. Needs `rouge` and `rapidfuzz`,
which published LongBench scores are computed with (the latter as fuzzywuzzy with its fast back end)."""

import json
import pathlib
import random

import outside_scores
import rapidfuzz
import rouge

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
WORDS = ("the a an old sailor carried Red lantern, across narrow bridge. while snow melted? near hall it's café "
         "naïve Ärger 12 7 ... — “quoted” 東京 x_y the-end A.\n B. U.S.A").split(" ")
CLASSES = ["Date", "Other date", "Place", "Other place", "Place name"]


def text(draw, most):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(most)))


def changed(draw, words):
    """A prediction that has something of its reference."""
    out = [word for word in words.split(" ") if draw.random() < 0.7]
    for _ in range(draw.randrange(4)):
        out.insert(draw.randrange(len(out) + 1), draw.choice(WORDS))
    return " ".join(out)


def checked_rouge(answer, reference):
    try:
        want = rouge.Rouge().get_scores([answer], [reference], avg=True)["rouge-l"]["f"]
    except ValueError:  # an empty text
        want = 0.0
    assert abs(outside_scores.rouge_l(answer, reference) - want) < 1e-12, (answer, reference)
    return want


def checked_code(answer, reference):
    line = outside_scores.code_line(answer)
    want = round(rapidfuzz.fuzz.ratio(line, reference)) / 100 if line and reference else 0.0
    assert outside_scores.code_sim(answer, reference) == want, (answer, reference)
    return want


def lines(draw):
    for _ in range(200):
        reference = text(draw, 40) or "snow"
        answer = draw.choice([changed(draw, reference), text(draw, 60), reference])
        yield "qa_f1", answer, [reference], outside_scores.qa_f1(answer, reference)
        yield "rouge", answer, [reference], checked_rouge(answer, reference)
        code = draw.choice(["", "\n", "# note\n", "```\n"]) + changed(draw, reference) + draw.choice(["", "\nrest"])
        yield "code_sim", code, [reference], checked_code(code, reference)
        label = draw.choice(CLASSES)
        named = " ".join(draw.choice([*CLASSES, "nothing"]) for _ in range(draw.randrange(4)))
        yield "classification", named, [label], outside_scores.classification(named, label, CLASSES)
        number, said = str(draw.randrange(1, 9)), " ".join(str(draw.randrange(1, 9)) for _ in range(draw.randrange(4)))
        yield "retrieval", "It is " + said, ["Paragraph " + number], outside_scores.retrieval(said, "Paragraph " + number)
        yield "count", said + " in all", [number], outside_scores.counting(said, number)
        references = [draw.choice(WORDS) for _ in range(draw.randrange(1, 4))]
        references = [one.strip() for one in references if one.isascii()] or ["snow"]
        yield "ruler_all", answer, references, outside_scores.ruler_all(answer, references)
        yield "ruler_any", answer, references, outside_scores.ruler_any(answer, references)


if __name__ == "__main__":
    folder = ROOT / "tools/eval/testdata"
    folder.mkdir(exist_ok=True)
    with (folder / "scores.jsonl").open("w") as out:
        for kind, answer, references, score in lines(random.Random(11)):
            out.write(json.dumps({"kind": kind, "answer": answer, "references": references, "score": score},
                                 ensure_ascii=False) + "\n")
