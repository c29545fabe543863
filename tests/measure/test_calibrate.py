#!/usr/bin/env python3
"""foveal calibrate end to end, with a tiny random model or the real one that FOVEAL_TEST_MODEL names."""

import json
import shutil
import unittest

from harness import GOLDEN, LICENSE, MODEL, Case, foveal

COMMON = ("--method", "skip_softmax", "--device", "cpu", "--threads", 2)


# Whether a rising law follows from texts of random ids is a matter of chance: some are always the same.
class Calibrate(Case):
    def calibrate(self, output, *words, model=GOLDEN):
        foveal("calibrate", "--model", model, *COMMON, "--output", self.path / output, "--report-json",
               self.path / "report.json", *words)
        return self.read("report.json")


class Tiny(Calibrate):
    def test_a_checkpoint_with_the_formula_runs_at_the_target(self):
        file = self.ids(2000)
        report = self.calibrate("config.json", "--file", file, "--lengths", "400", "--target-sparsity",
                                "{prefill: 0.04}", "--num-samples", 2)
        section = self.read("config.json")["sparse_attention_config"]
        group = section["config_groups"]["group_0"]
        self.assertEqual(group["calibration"]["tiles"], "16x32")
        self.assertEqual(set(group["target_sparsity"]), {"prefill"})
        # In the checkpoint's folder, the formula gives the factor that the report names.
        folder = self.path / "model"
        shutil.copytree(GOLDEN, folder)
        shutil.copy(self.path / "config.json", folder / "config.json")
        shown = foveal("inspect", "--model", folder, "--device", "cpu")
        self.assertIn("skip_softmax", shown.stdout)
        self.assertNotIn("tiles", shown.stderr)
        foveal("eval", "--model", folder, "--device", "cpu", "--baseline", "dense", "perplexity", "--file", file,
               "--length", 400, "--decode-tokens", 0, "--output-dir", self.path / "out")
        got = self.read("out/summary.json")["sparse"]["sparsity"]["prefill"]
        want = [check["achieved"] for check in report["prefill"]["checks"] if check["target"] == 0.04]
        # Attention of random weights is nearly even: about 6 % is all there is to leave out.
        self.assertAlmostEqual(want[0], 0.04, delta=0.02)
        self.assertAlmostEqual(got, want[0], delta=0.02)  # other texts of the same kind

        # Of other tiles the formula is not right, and loading says so.
        config = folder / "config.json"
        config.write_text(config.read_text().replace("16x32", "128x128"))
        self.assertIn("128x128", foveal("inspect", "--model", folder, "--device", "cpu").stderr)

    def test_layers_that_the_checkpoint_leaves_dense_stay_so(self):
        folder = self.path / "model"
        shutil.copytree(GOLDEN, folder)
        config = folder / "config.json"
        whole = json.loads(config.read_text())
        patterns = ["model.layers.1.self_attn"]
        whole["sparse_attention_config"] = {"algorithm": "skip_softmax", "ignore": patterns,
                                            "threshold_scale_factor": {"prefill": 100, "decode": 100}}
        config.write_text(json.dumps(whole))
        self.calibrate("config.json", "--file", self.ids(2100, seed=1), "--lengths", "256,512", "--decode-tokens", 4,
                       "--num-samples", 1, model=folder)
        group = self.read("config.json")["sparse_attention_config"]["config_groups"]["group_0"]
        self.assertEqual(group["ignore"], patterns)
        # YAML may be used beside a checkpoint that does not say so.
        self.calibrate("c.yaml", "--file", self.ids(2100, seed=1), "--lengths", "256,512", "--decode-tokens", 4,
                       "--num-samples", 1, model=folder)
        self.assertIn("dense_layers: [1]\n", (self.path / "c.yaml").read_text())

    def test_a_phase_without_a_law_does_not_take_the_others_with_it(self):
        for found, missing, length, decoded in (("prefill", "decode", 400, 1), ("decode", "prefill", 128, 4)):
            done = foveal("calibrate", "--model", GOLDEN, *COMMON, "--file", self.ids(2100, seed=1), "--num-samples", 1,
                          "--lengths", length, "--decode-tokens", decoded, "--output", self.path / "c.yaml",
                          "--report-json", self.path / "report.json", status=1)
            why = f"[calibrate] got 10 points in {missing} from which no rising law follows; need longer texts, or more"
            self.assertTrue(done.stderr.endswith(f"{why}; '{self.path / 'c.yaml'}' leaves {missing} dense\n"), done.stderr)
            self.assertIn(f"{missing}: no law\n", done.stdout)
            report = self.read("report.json")
            self.assertGreater(report[found]["factor"], 0)
            self.assertEqual(report[missing], {"missing": why})
            text = (self.path / "c.yaml").read_text()
            self.assertIn(f"# {missing}: dense, for it has no law: {why}\n", text)
            self.assertNotIn(f"    {missing}:", text)
            foveal("inspect", "--model", GOLDEN, "--device", "cpu", "--config", self.path / "c.yaml")

    def test_groups_of_other_algorithms_stay(self):
        folder = self.path / "model"
        shutil.copytree(GOLDEN, folder)
        config = folder / "config.json"
        whole = json.loads(config.read_text())
        other = {"algorithm": "another", "topk": 3}
        old = {"algorithm": "skip_softmax", "threshold_scale_factor": {"formula": "a", "prefill": {"a": 3}}}
        for groups, name in (({"group_0": other, "mine": old}, "mine"), ({"group_0": other}, "group_1")):
            whole["sparse_attention_config"] = {"config_groups": groups, "ignore": ["*.1.self_attn"]}
            config.write_text(json.dumps(whole))
            self.calibrate("config.json", "--file", self.ids(2100, seed=1), "--lengths", "256,512", "--decode-tokens", 4,
                           "--num-samples", 1, model=folder)
            section = self.read("config.json")["sparse_attention_config"]
            self.assertEqual(set(section["config_groups"]), {"group_0", name})
            self.assertEqual(section["config_groups"]["group_0"], other)
            self.assertIn("a", section["config_groups"][name]["threshold_scale_factor"]["prefill"])
            self.assertNotEqual(section["config_groups"][name], old)
            self.assertEqual(section["ignore"], ["*.1.self_attn"])

    def test_yaml_is_a_configuration(self):
        file = self.ids(1000)
        self.calibrate("c.yaml", "--file", file, "--lengths", "400", "--num-samples", 1,
                       "--target-sparsity", "{prefill: 0.03}")
        summary = foveal("eval", "--model", GOLDEN, "--device", "cpu", "--config", self.path / "c.yaml", "perplexity",
                         "--file", file, "--output-dir", self.path / "out").stdout
        self.assertIn("sparse", summary)

    def test_layers_stay_dense_until_the_kl_is_kept_to(self):
        file = self.ids(1700)
        words = ("--file", file, "--lengths", "400", "--num-samples", 2, "--decode-tokens", 8,
                 "--target-sparsity", "{prefill: 0.04}")
        loose = self.calibrate("loose.json", *words, "--budget-kl", 100)["layers"]
        self.assertEqual(loose["length"], 400)
        self.assertEqual((loose["dense_layers"], loose["alone"]), ([], []))
        self.assertEqual(loose["before"], loose["after"])
        self.assertGreater(loose["before"]["kl"], 0)
        # Less than both layers cost together, and no less than one alone does.
        alone = []
        for layer in (0, 1):
            config = self.write("one.yaml", "sparse_attention_config: {algorithm: skip_softmax, threshold_scale_factor: "
                                f"{{prefill: 390}}, dense_layers: [{1 - layer}]}}\n")
            foveal("eval", "--model", GOLDEN, "--device", "cpu", "--config", config, "kl", "--file", file, "--length", 400,
                   "--decode-tokens", 0, "--output-dir", self.path / f"one{layer}")
            layers = self.read(f"one{layer}/summary.json")["sparse"]["sparsity"]["layers"]
            alone.append([of["prefill"] > 0 for of in layers])
        self.assertEqual(alone, [[True, False], [False, True]])
        report = self.calibrate("config.json", *words, "--budget-kl", 0.999 * loose["kl"])
        got = report["layers"]
        self.assertEqual([cost["layer"] for cost in got["alone"]], [0, 1])
        self.assertEqual(len(got["dense_layers"]), 1)
        worst = max(got["alone"], key=lambda cost: cost["kl"])
        self.assertEqual(got["dense_layers"], [worst["layer"]])
        self.assertLess(got["after"]["prefill_left_out"], got["before"]["prefill_left_out"])
        group = self.read("config.json")["sparse_attention_config"]["config_groups"]["group_0"]
        self.assertEqual(group["ignore"], [f"model.layers.{worst['layer']}.self_attn"])
        none = foveal("calibrate", "--model", GOLDEN, *COMMON, *words, "--budget-kl", 0, "--output", self.path / "c.yaml",
                      status=2)
        self.assertIn("[budget-kl] got 0; need at least ", none.stderr)

    def test_layers_are_chosen_on_the_longest_texts(self):
        words = ("--file", self.ids(1700), "--num-samples", 1, "--target-sparsity", "{prefill: 0.04}",
                 "--budget-kl", 100)
        for lengths in ("256,400", "400,256"):
            self.assertEqual(self.calibrate("c.yaml", *words, "--lengths", lengths)["layers"]["length"], 400)

    def test_odd_requests_are_refused(self):
        file = self.ids(100)
        same = self.path / "one.yaml"
        error = foveal("calibrate", "--model", GOLDEN, *COMMON, "--file", file, "--output", same, "--report-json",
                       self.path / "." / "one.yaml", status=2).stderr
        self.assertIn("which --report-json writes to as well", error)
        self.refused("calibrate", "--model", GOLDEN, *COMMON, "--file", file, "--output", file)
        output = ("--output", self.path / "c.yaml")
        for words in (["--method", "rocket", *output], ["--method", "dsa", *output], ["--method", "skip_softmax"],
                      ["--method", "rocket", *output, "--file", file, "--prompt-budgets", "none"],
                      ["--method", "rocket", *output, "--file", file, "--lengths", "100", "--prompt-budgets", "512"],
                      ["--method", "rocket", *output, "--file", file, "--law", "three"],
                      ["--method", "rocket", *output, "--file", file, "--target-sparsity", "0.5"],
                      ["--method", "rocket", "--output", self.path / "c.json", "--file", file],
                      [*COMMON, *output, "--file", file, "--topks", "4"],
                      [*COMMON, *output, "--file", file, "--lengths", "400"],
                      [*COMMON, *output, "--file", file, "--lengths", "40", "--target-sparsity", "1.5"],
                      [*COMMON, *output, "--file", file, "--target-sparsity", "{}"],
                      [*COMMON, *output, "--file", file, "--lengths", "40", "--decode-tokens", "40"],
                      [*COMMON, *output, "--file", file, "--sparse-attention-config",
                       "{algorithm: skip_softmax, threshold_scale_factor: 3}"],
                      [*COMMON, *output, "--file", file, "--decode-tokens", 2**63 - 1],
                      [*COMMON, "--output", self.path, "--file", file]):
            self.refused("calibrate", "--model", GOLDEN, *words)
        if MODEL:
            self.refused("calibrate", "--model", MODEL, *COMMON, "--output", self.path / "config.json")


    def test_rocket_takes_the_least_memory_that_the_kl_allows(self):
        file = self.ids(420)
        words = ("--method", "rocket", "--device", "cpu", "--threads", 2, "--file", file, "--lengths", 400,
                 "--num-samples", 1, "--prompt-budgets", "64,128,4096", "--topks", "4,1024",
                 "--output", self.path / "c.yaml", "--report-json", self.path / "r.json")
        foveal("calibrate", "--model", GOLDEN, *words, "--budget-kl", 100)
        points = self.read("r.json")["points"]
        self.assertEqual([(point["prompt_budget"], point["topk"]) for point in points],
                         [(64, 4), (64, 1024), (128, 4), (128, 1024)])
        self.assertEqual([point["chosen"] for point in points], [True, False, False, False])
        self.assertLess(points[0]["kv_bytes"], points[2]["kv_bytes"])
        self.assertGreater(points[0]["kl"], 0)
        foveal("inspect", "--model", GOLDEN, "--device", "cpu", "--config", self.path / "c.yaml")
        self.refused("calibrate", "--model", GOLDEN, *words, "--budget-kl", 0)

    def test_rocket_writes_all_that_it_measured(self):
        file = self.write("base.yaml", "sparse_attention_config: {algorithm: rocket, window_size: 8, topr: 0.5, rank_size: 2,\n"
                                       "  score: mean_std, kt_cache_dtype: bfloat16}\n")
        foveal("calibrate", "--model", GOLDEN, "--method", "rocket", "--device", "cpu", "--threads", 2, "--config", file,
               "--file", self.ids(420), "--lengths", 400, "--num-samples", 1, "--prompt-budgets", 64, "--topks", 4,
               "--budget-kl", 100, "--output", self.path / "c.yaml")
        written = [line for line in (self.path / "c.yaml").read_text().splitlines() if not line.startswith("#")]
        self.assertEqual(sorted(written), sorted(
            ["sparse_attention_config:", "  algorithm: rocket", "  window_size: 8", "  topr: 0.5", "  topk: 4",
             "  prompt_budget: 64", "  kt_cache_dtype: bfloat16", "  rank_size: 2", "  score: mean_std"]))
        foveal("inspect", "--model", GOLDEN, "--device", "cpu", "--config", self.path / "c.yaml")

    def test_rocket_says_which_windows_a_text_does_not_fill(self):
        words = ("--method", "rocket", "--device", "cpu", "--threads", 2, "--file", self.ids(420), "--budget-kl", 100,
                 "--prompt-budgets", 64, "--topks", 4, "--output", self.path / "c.yaml", "--lengths")
        short = foveal("calibrate", "--model", GOLDEN, *words, 400).stderr
        self.assertRegex(short, r"\[file\] got 20 tokens for window .*; need 400 ")
        none = foveal("calibrate", "--model", GOLDEN, *words, 421, status=2).stderr
        self.assertRegex(none, r"^\[file\] got no window of 421 tokens in '.*'; need a longer text, ")
        empty = ("--method", "rocket", "--device", "cpu", "--output", self.path / "c.yaml", "--lengths", 100, "--file")
        for text, error in (("", r"\[file\] got '.*/empty.*' with nothing in it"), ("no json", r"\[empty.jsonl:1\] got ")):
            name = self.write("empty.jsonl" if text else "empty.txt", text)
            self.assertRegex(foveal("calibrate", "--model", GOLDEN, *empty, name, status=2).stderr, "^" + error)
        beyond = foveal("calibrate", "--model", GOLDEN, *words, 1025, status=1).stderr
        self.assertIn("[lengths] got 1025; need at most 1024, the least of the model's context", beyond)


@unittest.skipUnless(MODEL and LICENSE.exists(), "needs FOVEAL_TEST_MODEL and the GPL's text")
class Real(Calibrate):
    def test_half_of_prefill_is_left_out_of_texts_not_seen(self):
        report = self.calibrate("c.yaml", "--file", LICENSE, "--lengths", "1024", "--num-samples", 1,
                                "--target-sparsity", "{prefill: 0.5}", model=MODEL)
        for check in report["prefill"]["checks"]:
            self.assertAlmostEqual(check["achieved"], check["target"], delta=0.05)


if __name__ == "__main__":
    unittest.main(verbosity=2)
