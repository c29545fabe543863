#!/usr/bin/env python3
"""foveal eval end to end. Without FOVEAL_TEST_MODEL a tiny random model without a tokenizer reads token
ids; with it, the real one's scores are checked."""

import json
import shutil
import unittest

from harness import GOLDEN, LICENSE, MODEL, SPARSE, STRONG, Case, foveal


class Eval(Case):
    def eval(self, task, *words, model=GOLDEN, out="out", status=0):
        done = foveal("eval", "--model", model, "--device", "cpu", "--threads", 2, task, *words,
                      "--output-dir", self.path / out, status=status)
        return done.stderr if status == 2 else self.read(f"{out}/summary.json")


class Tiny(Eval):
    def test_perplexity_of_one_arm_and_of_two(self):
        file = self.ids(400, 41)
        alone = self.eval("perplexity", "--file", file)
        self.assertEqual(alone["samples"], 2)
        self.assertGreater(alone["score"], 1)
        self.assertNotIn("sparse", alone)
        both = self.eval("perplexity", "--file", file, "--sparse-attention-config", STRONG, out="both")
        # Decode computes what prefill does, in bf16 with other sums.
        self.assertAlmostEqual(both["dense"]["nll"], alone["dense"]["nll"], delta=0.01)
        self.assertGreater(both["sparse"]["sparsity"]["prefill"], 0)
        change = both["difference"]["perplexity"]
        self.assertAlmostEqual(change["value"], both["sparse"]["perplexity"] - both["dense"]["perplexity"], 9)
        self.assertLessEqual(change["interval"][0], change["value"])
        self.assertGreaterEqual(change["interval"][1], change["value"])

    def test_windows_see_each_token_once(self):
        summary = self.eval("perplexity", "--file", self.ids(300), "--length", 64)
        self.assertEqual(summary["samples"], 5)
        lines = (self.path / "out/samples.jsonl").read_text().splitlines()
        counts = [sum(unit[1] for unit in json.loads(line)["arms"]["dense"]["values"]["nll"]) for line in lines]
        self.assertEqual(sum(counts), 300 - 5)

    def test_kl_of_dense_to_itself_is_nothing(self):
        summary = self.eval("kl", "--file", self.ids(200, 90))
        self.assertEqual(summary["score"], 0)
        self.assertEqual(summary["again"]["top1_agreement"], 1)

    def test_kl_of_sparse_is_something(self):
        summary = self.eval("kl", "--file", self.ids(400), "--sparse-attention-config", STRONG)
        self.assertGreater(summary["sparse"]["kl_prefill"], 0)
        self.assertGreater(summary["sparse"]["kl_decode"], 0)
        self.assertGreater(summary["sparse"]["sparsity"]["decode"], 0)

    def test_bad_samples_are_listed_and_the_others_done(self):
        file = self.ids(50)
        with file.open("a") as lines:
            lines.write('{"input_ids": [1]}\n{}\nno json\n{"input_ids": [1, 99999]}\n{"text": "a"}\n')
        summary = self.eval("perplexity", "--file", file)
        self.assertEqual((summary["samples"], summary["failed"]), (6, 5))
        for failure in summary["failures"]:
            self.assertRegex(failure["error"], r"^\[.*\] got .*; need ")
        self.eval("perplexity", "--file", self.write("bad.jsonl", "{}\n"), out="bad", status=1)

    def test_samples_must_fit_every_arm(self):
        # Beside a prompt RocketKV copies what it keeps: of a cache of 512 tokens it reads 448.
        words = ("--kv-max-tokens", 512, "--concurrency", 1, "--sparse-attention-config",
                 "{algorithm: rocket, window_size: 8, prompt_budget: 64}")
        summary = self.eval("kl", "--file", self.ids(500, 449, 448), "--length", 512, *words)
        self.assertEqual((summary["samples"], summary["failed"]), (3, 2))
        for failure, tokens in zip(summary["failures"], (500, 449)):
            self.assertIn(f"got {tokens} tokens; need at most 448, ", failure["error"])
        self.assertEqual(self.eval("perplexity", "--file", self.ids(500), "--kv-max-tokens", 512, out="alone")["failed"], 0)

    def test_a_cut_run_goes_on(self):
        file = self.ids(*[60] * 6)
        words = ("perplexity", "--file", file, "--concurrency", 1)
        whole = self.eval(*words, out="whole")
        self.eval(*words, "--num-samples", 4)
        samples = self.path / "out/samples.jsonl"
        lines = samples.read_text().splitlines(keepends=True)
        samples.write_text("".join(lines[:2]) + lines[2][:50])
        resumed = self.eval(*words)
        self.assertEqual(len(samples.read_text().splitlines()), 6)
        self.assertEqual(samples.read_text().splitlines(keepends=True)[:2], lines[:2])
        for summary in (whole, resumed):
            del summary["about"]
        self.assertEqual(whole, resumed)

    def test_other_settings_need_another_folder(self):
        file = self.ids(60)
        self.eval("perplexity", "--file", file)
        error = self.eval("perplexity", "--file", file, "--length", 32, status=2)
        self.assertIn("--overwrite", error)
        self.ids(60)  # the same name, other contents
        self.eval("perplexity", "--file", file, status=2)
        self.eval("perplexity", "--file", file, "--overwrite")

    def test_results_never_replace_inputs(self):
        model = self.path / "model"
        shutil.copytree(GOLDEN, model)
        results = self.path / "results"
        results.mkdir()
        file = self.ids(50, name="results/samples.jsonl")
        before = file.read_bytes()
        for words in (["--model", model, "--file", file, "--output-dir", results, "--overwrite"],
                      ["--model", model, "--file", LICENSE, "--output-dir", self.path / "." / "model"]):
            error = foveal("eval", "perplexity", *words, "--device", "cpu", status=2).stderr
            self.assertRegex(error, r"^\[output-dir\] got .*; need another f")
        self.assertEqual(file.read_bytes(), before)
        self.assertFalse((model / "samples.jsonl").exists())

    def test_odd_requests_are_refused(self):
        for words in (["eval"], ["eval", "nothing"], ["eval", "--model", GOLDEN, "niah"],
                      ["eval", "--model", GOLDEN, "kl", "--output-dir", self.path / "x"],
                      ["eval", "niah", "--lengths", "none", "--model", GOLDEN, "--output-dir", self.path / "x"],
                      ["eval", "--model", GOLDEN, "perplexity", "--file", LICENSE, "--length", "1",
                       "--output-dir", self.path / "x"],
                      ["eval", "--model", GOLDEN, "perplexity", "--file", LICENSE, "--skip-first", "2047",
                       "--output-dir", self.path / "x"]):
            self.refused(*words)
        # Sums of lengths would overflow.
        for flag, *words in (("--max-tokens", "niah"), ("--max-tokens", "multi_turn"),
                             ("--max-output-length", "longbench_v2", "--dataset-path", self.path)):
            for tokens in (2**63 - 1, 3074457345618258602):
                done = foveal("eval", "--model", GOLDEN, *words, flag, tokens, "--output-dir", self.path / "x", status=2)
                self.assertRegex(done.stderr, rf"^\[{flag}\] got .*; need ")
        self.assertIn("niah", foveal("eval", "--help").stdout)
        self.assertIn("--depths", foveal("eval", "niah", "--help").stdout)


@unittest.skipUnless(MODEL and LICENSE.exists(), "needs FOVEAL_TEST_MODEL and the GPL's text")
class Real(Eval):
    def test_perplexity_is_that_of_other_engines(self):
        summary = self.eval("perplexity", "--file", LICENSE, "--num-samples", 1, model=MODEL)
        # Hugging Face transformers, float32, the same weights and the same 2,048 tokens: 19.7155.
        self.assertAlmostEqual(summary["score"] / 19.7155, 1, delta=0.005)

    def test_needles_are_found_and_sparse_is_compared(self):
        summary = self.eval("niah", "--lengths", "512,1024", "--depths", 3, "--sparse-attention-config", SPARSE,
                            model=MODEL)
        self.assertEqual(summary["samples"], 6)
        self.assertGreaterEqual(summary["dense"]["score"], 80)
        self.assertGreater(summary["sparse"]["sparsity"]["prefill"], 0.1)
        self.assertIn({"length": "512", "depth": "0.500"}, [group["tags"] for group in summary["groups"]])

    def test_ruler_has_every_task(self):
        summary = self.eval("ruler", "--lengths", 1024, "--num-samples", 1, "--tasks",
                            "niah_single_1,niah_multikey_2,vt,cwe,fwe,qa_1", model=MODEL)
        self.assertEqual((summary["samples"], summary["failed"]), (6, 0))
        self.assertIn({"length": "1024", "task": "vt"}, [group["tags"] for group in summary["groups"]])

    def test_turns_have_scores_of_their_own(self):
        summary = self.eval("multi_turn", "--lengths", 1024, "--num-samples", 2, "--turns", 3, model=MODEL)
        turns = [summary["dense"][f"turn_{idx}"] for idx in (1, 2, 3)]
        self.assertAlmostEqual(summary["score"], sum(turns) / 3)


if __name__ == "__main__":
    unittest.main(verbosity=2)
