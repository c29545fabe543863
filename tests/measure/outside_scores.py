"""Scores of long-context evaluations, written from their published formulas apart from Foveal's. Only the
standard library. make_scores.py holds them against the packages that the published scores come from."""

import collections
import re
import string


def words(text):
    text = "".join(c for c in text.lower() if c not in string.punctuation)
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def qa_f1(answer, reference):
    got, want = words(answer), words(reference)
    same = sum((collections.Counter(got) & collections.Counter(want)).values())
    return 2 * same / (len(got) + len(want)) if same else 0.0


def common(x, y):
    best = {}
    for i in range(len(x) + 1):
        for j in range(len(y) + 1):
            if not i or not j:
                best[i, j] = 0
            else:
                best[i, j] = best[i - 1, j - 1] + 1 if x[i - 1] == y[j - 1] else max(best[i - 1, j], best[i, j - 1])
    i, j, out = len(x), len(y), set()
    while i and j:
        if x[i - 1] == y[j - 1]:
            out.add(x[i - 1])
            i, j = i - 1, j - 1
        elif best[i - 1, j] > best[i, j - 1]:
            i -= 1
        else:
            j -= 1
    return out


def rouge_l(answer, reference):
    got, want = ([part.split() or [""] for part in text.split(".") if part] for text in (answer, reference))
    if not got or not want:
        return 0.0
    both = set().union(*(common(x, y) for x in want for y in got))
    recall, precision = (len(both) / len({word for part in of for word in part}) for of in (want, got))
    return 2 * precision * recall / (precision + recall + 1e-8)


def classification(answer, reference, classes):
    named = [name for name in classes if name in answer]
    for name in named:  # while it shrinks, as published
        if name in reference and name != reference:
            named.remove(name)
    return 1 / len(named) if reference in named else 0.0


def share(numbers, wanted):
    return numbers.count(wanted) / len(numbers) if numbers else 0.0


def retrieval(answer, reference):
    return share(re.findall(r"\d+", answer), re.findall(r"Paragraph (\d+)", reference)[0])


def counting(answer, reference):
    return share(re.findall(r"\d+", answer), reference)


def code_line(answer):
    lines = answer.lstrip("\n").split("\n")
    return next((line for line in lines if not any(mark in line for mark in ("`", "#", "//"))), "")


def code_sim(answer, reference):
    line, row = code_line(answer), [0] * (len(reference) + 1)
    for c in line:
        diagonal = 0
        for j, d in enumerate(reference, 1):
            diagonal, row[j] = row[j], diagonal + 1 if c == d else max(row[j], row[j - 1])
    return round(200 * row[-1] / (len(line) + len(reference))) / 100 if line and reference else 0.0


def ruler_all(answer, references):
    return sum(one.lower() in answer.lower() for one in references) / len(references)


def ruler_any(answer, references):
    return float(any(one.lower() in answer.lower() for one in references))


def letter(answer):
    answer = answer.split("</think>")[-1].replace("*", "")
    for pattern in (r"The correct answer is \(([A-D])\)", r"The correct answer is ([A-D])", r"\b([A-D])\b"):
        if found := re.search(pattern, answer):
            return found.group(1)
    return ""


def longbench(kind, task, answer, references, classes):
    if task in ("trec", "triviaqa", "samsum", "lsht"):
        answer = answer.lstrip("\n").split("\n")[0]
    score = {"qa_f1": qa_f1, "rouge": rouge_l, "retrieval": retrieval, "count": counting, "code_sim": code_sim,
             "classification": lambda got, want: classification(got, want, classes)}[kind]
    return max(score(answer, reference) for reference in references)
