#!/usr/bin/env python3
"""foveal eval longbench_v1 and longbench_v2 on made-up files of the published form."""

import json
import os
import random
import unittest

import outside_scores
from harness import MODEL, Case, foveal

# A tokenizer is needed; without a model there is nothing to run.
WORDS = "the a an old sailor carried red lantern across narrow bridge while snow melted near hall".split()
SETS = {"hotpotqa": "qa_f1", "gov_report": "rouge", "trec": "classification", "passage_retrieval_en": "retrieval",
        "passage_count": "count", "lcc": "code_sim", "samsum": "rouge"}
CLASSES = ["Date", "Other date", "Place"]


def text(draw, count):
    out = [draw.choice(WORDS) for _ in range(count)]
    for idx in range(0, count, 7):
        out[idx] += draw.choice([".", ",", "?", ".\n"])
    return " ".join(out)


def reference(draw, name):
    kind = SETS[name]
    if kind == "classification":
        return draw.choice(CLASSES)
    if kind in ("retrieval", "count"):
        number = str(draw.randrange(1, 31))
        return f"Paragraph {number}" if kind == "retrieval" else number
    return text(draw, 12 if kind == "rouge" else 4)


@unittest.skipUnless(MODEL, "needs FOVEAL_TEST_MODEL")
class Real(Case):
    def eval(self, task, *words, out="out", status=0):
        done = foveal("eval", "--model", MODEL, "--device", "cpu", "--threads", 2, task, *words,
                      "--output-dir", self.path / out, status=status)
        return done.stderr if status == 2 else self.read(f"{out}/summary.json")

    def samples(self, out="out"):
        return [json.loads(line) for line in (self.path / out / "samples.jsonl").read_text().splitlines()]

    def data(self, draw, count=2):
        for name in SETS:
            lines = [json.dumps({"_id": f"{name}{idx}", "context": text(draw, 900 if idx else 60), "input": text(draw, 6),
                                 "answers": [reference(draw, name) for _ in range(1 if idx else 2)],
                                 "all_classes": CLASSES}) for idx in range(count)]
            self.write(f"{name}.jsonl", "\n".join(lines) + "\n")
        return ("--dataset-path", self.path)

    def test_scores_are_those_of_another_make(self):
        draw = random.Random(7)
        summary = self.eval("longbench_v1", *self.data(draw), "--max-input-length", 512)
        self.assertEqual((summary["samples"], summary["failed"]), (2 * len(SETS), 0))
        means = {}
        for sample in self.samples():
            task, arm = sample["tags"]["task"], sample["arms"]["dense"]
            # The question lost its middle: no more than asked for, and what is around it.
            self.assertLess(sample["prompt_tokens"], 512 + 100)
            want = outside_scores.longbench(SETS[task], task, arm["answers"][0], sample["references"], CLASSES)
            self.assertAlmostEqual(arm["values"]["score"][0][0], want, 9, msg=f"{task}: {arm['answers'][0]!r}")
            means.setdefault(sample["tags"]["group"], {}).setdefault(task, []).append(want)
        groups = [[sum(scores) / len(scores) for scores in group.values()] for group in means.values()]
        self.assertAlmostEqual(summary["score"], 100 * sum(sum(one) / len(one) for one in groups) / len(groups), 9)

    def test_the_published_prompts_are_used_where_they_are_given(self):
        draw = random.Random(8)
        words = self.data(draw, 1)
        self.write("dataset2prompt.json", json.dumps({name: "{input} {context}" for name in SETS}))
        self.write("dataset2maxlen.json", json.dumps({name: 3 for name in SETS}))
        self.eval("longbench_v1", *words, "--tasks", "lcc", "--prompts-dir", self.path, "--system_prompt", "Be brief.",
                  "--chat_template_kwargs", '{"x": 1}', "--tp_size", 1, out="own")
        self.eval("longbench_v1", *words, "--chat_template_kwargs", "[]", out="bad", status=2)
        long = self.eval("longbench_v1", *words, "--tasks", "lcc")
        self.assertEqual(long["samples"], 1)
        own, usual = (self.samples(out)[0]["arms"]["dense"]["answers"][0] for out in ("own", "out"))
        self.assertLess(len(own), len(usual))
        self.write("dataset2maxlen.json", json.dumps({name: 2**63 - 1 for name in SETS}))
        self.eval("longbench_v1", *words, "--tasks", "lcc", "--prompts-dir", self.path, out="huge", status=2)

    def test_bad_samples_are_listed_and_others_refused(self):
        self.data(random.Random(9), 1)
        with (self.path / "hotpotqa.jsonl").open("a") as lines:
            lines.write('{"context": "x"}\nno\n{"context": "x", "input": "y", "answers": []}\n'
                        '{"context": 3, "input": "y", "answers": ["z"]}\n')
        summary = self.eval("longbench_v1", "--dataset-path", self.path, "--tasks", "hotpotqa")
        self.assertEqual((summary["samples"], summary["failed"]), (5, 4))
        for failure in summary["failures"]:
            self.assertRegex(failure["error"], r"^\[.*\] got .*; need ")
        for words in (["--tasks", "dureader"], ["--tasks", "nothing"], ["--prompts-dir", self.path / "none"]):
            foveal("eval", "--model", MODEL, "longbench_v1", "--dataset-path", self.path, *words, "--output-dir",
                   self.path / "x", status=1 if words[1] == "dureader" or "none" in str(words[1]) else 2)
        self.eval("longbench_v1", "--dataset-path", os.devnull, out="y", status=2)

    def test_texts_are_cut_to_what_every_arm_takes(self):
        # Beside a prompt RocketKV copies the 256 tokens that it keeps: of a cache of 1,024 it reads 768.
        summary = self.eval("longbench_v1", *self.data(random.Random(10), 2), "--tasks", "hotpotqa", "--kv-max-tokens",
                            1024, "--concurrency", 1, "--sparse-attention-config",
                            "{algorithm: rocket, prompt_budget: 256}")
        self.assertEqual((summary["samples"], summary["failed"]), (2, 0))
        self.assertLess(max(sample["prompt_tokens"] for sample in self.samples()), 1024 - 256)

    def choices(self, count=4):
        draw = random.Random(5)
        lines = [{"_id": str(idx), "domain": "Code" if idx % 2 else "Law", "sub_domain": "x", "difficulty": "easy",
                  "length": "short", "question": text(draw, 5), "choice_A": "one", "choice_B": "two", "choice_C": "three",
                  "choice_D": "four", "answer": "ABCD"[idx % 4], "context": text(draw, 1500),
                  "retrieved_context": [{"content": text(draw, 20), "c_idx": 0}]} for idx in range(count)]
        return self.write("data.jsonl", "".join(json.dumps(line) + "\n" for line in lines))

    def test_choices_are_read_and_ways_differ(self):
        file = self.choices()
        limits = ("--max-input-length", 400, "--max-output-length", 12)
        summary = self.eval("longbench_v2", "--dataset-path", self.path, *limits, "--sparse-attention-config",
                            "{algorithm: skip_softmax, threshold_scale_factor: {prefill: 30.0, decode: 30.0}}")
        self.assertEqual((summary["samples"], summary["failed"]), (4, 0))
        self.assertIn("difference", summary)
        for sample in self.samples():
            arm = sample["arms"]["dense"]
            self.assertEqual(arm["values"]["score"][0][0],
                             float(outside_scores.letter(arm["answers"][0]) == sample["references"][0]))
            self.assertLess(sample["prompt_tokens"], 400 + 100)
        lengths = {}
        for way in ("--no-context", "--rag=1", "--cot"):
            self.eval("longbench_v2", "--dataset-path", file, *limits, way, "--num-samples", 1, out=way)
            sample = self.samples(way)[0]
            lengths[way] = sample["prompt_tokens"]
            self.assertEqual(len(sample["arms"]["dense"]["answers"]), 2 if way == "--cot" else 1)
        self.assertLess(lengths["--no-context"], lengths["--rag=1"])
        self.assertLess(lengths["--rag=1"], lengths["--cot"])

    def test_filters_pass_over_samples(self):
        file = self.choices()
        words = ("--dataset-path", file, "--max-input-length", 64, "--max-output-length", 2)
        self.assertEqual(self.eval("longbench_v2", *words, "--domain", "Law")["samples"], 2)
        self.assertEqual(self.eval("longbench_v2", *words, "--start-idx", 3, out="late")["samples"], 1)
        refused = self.eval("longbench_v2", *words, "--start-idx", 4, out="after", status=2)
        self.assertIn("[start_idx] got 4; need less than the 4 samples there are", refused)
        # The default limit is for long contexts: so many of them would not fit, but no sample is so long.
        words = ("--dataset-path", file, "--max-output-length", 2, "--num-samples", 1, "--concurrency", 1024)
        self.assertEqual(self.eval("longbench_v2", *words, out="wide")["samples"], 1)
        self.eval("longbench_v2", *words, "--difficulty", "hard", out="none", status=2)
        self.eval("longbench_v2", *words, "--rag", 1, "--no-context", out="both", status=2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
