#!/usr/bin/env python3
"""foveal bench end to end, with a tiny random model or the real one that FOVEAL_TEST_MODEL names."""

import json
import math
import shutil
import statistics
import unittest

from harness import GOLDEN, MODEL, STRONG, VOCAB, Case, foveal

COMMON = ("--device", "cpu", "--threads", 2)


class Bench(Case):
    def prepare(self, *words, model=GOLDEN, name="data.jsonl"):
        foveal("bench", "prepare-dataset", "--model", model, "--output", self.path / name, *words)
        return [json.loads(line) for line in (self.path / name).read_text().splitlines()]

    def bench(self, command, *words, model=GOLDEN, status=0):
        foveal("bench", command, "--model", model, *COMMON, "--dataset", self.path / "data.jsonl",
               "--report_json", self.path / "report.json", *words, status=status)
        return self.read("report.json")


class Tiny(Bench):
    def test_normal_lengths_are_those_asked_for(self):
        words = ("token-norm-dist", "--num-requests", 400, "--input-mean", 100, "--input-stdev", 10,
                 "--output-mean", 20, "--output-stdev", 0)
        lines = self.prepare(*words)
        self.assertEqual(len(lines), 400)
        lengths = [len(line["input_ids"]) for line in lines]
        # Five standard errors: of a mean of 400 with deviation 10, and of that deviation.
        self.assertAlmostEqual(statistics.mean(lengths), 100, delta=2.5)
        self.assertAlmostEqual(statistics.stdev(lengths), 10, delta=1.8)
        self.assertEqual({line["output_tokens"] for line in lines}, {20})
        self.assertTrue(all(0 <= token < VOCAB for line in lines for token in line["input_ids"]))
        self.assertEqual(lines, self.prepare(*words))
        self.assertNotEqual(lines, self.prepare(*words, "--random-seed", 1))

    def test_even_lengths_reach_both_ends(self):
        lines = self.prepare("token-unif-dist", "--num-requests", 300, "--input-min", 3, "--input-max", 6,
                             "--output-min", 2, "--output-max", 2)
        self.assertEqual({len(line["input_ids"]) for line in lines}, {3, 4, 5, 6})

    def test_throughput_reports_what_was_done(self):
        lines = self.prepare("token-norm-dist", "--num-requests", 6, "--input-mean", 400, "--input-stdev", 3,
                             "--output-mean", 12, "--output-stdev", 2)
        report = self.bench("throughput", "--sparse-attention-config", STRONG, "--request-json",
                            self.path / "requests.json", "--output-json", self.path / "outputs.json")
        info, speed = report["request_info"], report["performance"]
        self.assertEqual(info["num_requests"], 6)
        self.assertEqual(info["cached_input_tokens"], 0)  # the warm-up read the same prompts
        tokens = sum(line["output_tokens"] for line in lines)
        self.assertAlmostEqual(info["avg_output_length"], tokens / 6)
        self.assertAlmostEqual(speed["system_output_throughput_tok_s"] * speed["total_latency_ms"] / 1000, tokens)
        self.assertEqual(report["failures"], [])
        sparsity = report["sparsity"]
        self.assertEqual(sparsity["method"], "skip_softmax")
        self.assertGreater(sparsity["prefill"]["skipped"], 0)
        self.assertGreater(sparsity["decode"]["v_bytes_saved"], 0)
        requests = self.read("requests.json")
        self.assertTrue(all(0 < one["ttft_ms"] <= one["latency_ms"] for one in requests))
        outputs = self.read("outputs.json")
        self.assertEqual([len(one["token_ids"]) for one in outputs], [line["output_tokens"] for line in lines])

    def test_tokens_do_not_depend_on_concurrency(self):
        self.prepare("token-norm-dist", "--num-requests", 5, "--input-mean", 60, "--input-stdev", 9,
                     "--output-mean", 8, "--output-stdev", 2)
        for words in ((), ("--concurrency", 2), ("--concurrency", 1)):
            self.bench("throughput", *words, "--output-json", self.path / f"outputs{len(words)}{words[-1:]}.json")
        got = [json.loads(file.read_text()) for file in self.path.glob("outputs*.json")]
        self.assertEqual(len(got), 3)
        self.assertTrue(got[0] == got[1] == got[2])

    def test_latency_has_one_request_in_flight(self):
        self.prepare("token-norm-dist", "--num-requests", 3, "--input-mean", 20, "--output-mean", 5)
        report = self.bench("latency")
        self.assertLessEqual(report["request_info"]["avg_num_concurrent_requests"], 1)
        self.assertEqual(report["world_info"]["max_batch_size"], 1)

    def test_bad_requests_are_listed(self):
        self.ids(20, 1, name="data.jsonl", output_tokens=4)
        with (self.path / "data.jsonl").open("a") as lines:
            lines.write('{"input_ids": [1]}\n{"input_ids": [1, 9999], "output_tokens": 2}\nno\n'
                        '{"input_ids": [], "output_tokens": 2}\n{"input_ids": [1], "output_tokens": 1000000}\n')
        report = self.bench("throughput")
        self.assertEqual(report["request_info"]["num_requests"], 2)
        self.assertEqual(len(report["failures"]), 5)
        for failure in report["failures"]:
            self.assertRegex(failure["error"], r"^\[.*\] got .*; need ")

    def test_compare_of_equals(self):
        self.prepare("token-norm-dist", "--num-requests", 2, "--input-mean", 40, "--output-mean", 4)
        report = self.bench("compare", "--rounds", 3)
        self.assertEqual(report["outputs_equal"], 1)
        times = report["comparisons"]["total_latency_ms"]
        self.assertEqual((len(times["baseline"]), len(times["tested"])), (3, 3))
        self.assertLess(times["interval"][0], times["interval"][1])

    def test_flags_of_trtllm_bench_are_taken(self):
        self.prepare("token-norm-dist", "--num-requests", 1, "--input-mean", 8, "--output-mean", 2)
        report = self.bench("throughput", "--backend", "pytorch", "--tp", 1, "--pp_size", 1, "--beam_width", 1, "--enable_chunked_context",
                            "--kv_cache_free_gpu_mem_fraction", 0.01, "--max_batch_size", 4, "--workspace", "/nowhere",
                            "--scheduler_policy", "max_utilization", "--target_input_len", 8, "--trust_remote_code")
        self.assertEqual(report["request_info"]["num_requests"], 1)
        words = ("--dataset", self.path / "data.jsonl")
        for odd in (["--tp", 2], ["--cp_size", 2], ["--scheduler_policy", "guaranteed_no_evict"],
                    ["--iteration_log", "x"], ["--custom_tokenizer", "x"], ["--revision", "x"]):
            self.refused("bench", "throughput", "--model", GOLDEN, *words, *odd)
        # As trtllm-bench is called: a name, where it lies, and both before the command.
        foveal("bench", "--model", "meta-llama/Llama-3.1-8B", "--model_path", GOLDEN, "throughput", *words, "--device",
               "cpu")

    def test_kernels_are_held_against_what_the_machine_can_do(self):
        words = ("bench", "kernels", "--device", "cpu", "--threads", 2, "--keys", 256, "--rows", 64, "--layers", 2, "--n", 64, "--k", 256,
                 "--min-seconds", 0.001, "--report_json", self.path / "k.json", "--csv", self.path / "k.csv")
        foveal(*words)
        report = self.read("k.json")
        self.assertGreater(report["roof"]["gflops"], 0)
        kernels = {row["kernel"]: row for row in report["kernels"]}
        for name in ("attention_prefill", "skip_softmax_decode", "rocket: select_pages", "topk", "gemm_prefill"):
            self.assertGreater(kernels[name]["seconds"], 0, name)
        prefill = kernels["attention_prefill"]
        # 64 rows behind 192 keys, each with those before it: 4 flops a channel and pair.
        pairs = 9 * sum(range(193, 257))
        self.assertEqual(prefill["flop"], 4 * 64 * pairs)
        self.assertAlmostEqual(prefill["roof_fraction"],
                               1e-9 * prefill["flop"] / prefill["seconds"] / report["roof"]["gflops"])
        decode = kernels["attention_decode"]
        self.assertEqual((decode["bound"], decode["bytes"]), ("memory", 256 * 3 * 64 * 2 * 2))
        self.assertEqual(kernels["gemm_prefill"]["flop"], 2 * 64 * 64 * 256)
        self.assertEqual(len((self.path / "k.csv").read_text().splitlines()), len(report["kernels"]) + 1)
        foveal(*words[:4], "--kernels", "gemm", "--n", 32, "--k", 256, "--dtype", "q4_k", "--min-seconds", 0.001)
        for odd in (["--device", "cpu", "--kernels", "none"], ["--device", "cpu", "--dtype", "none"],
                    ["--device", "cpu", "--kernels", "dsa"], ["--device", "tpu"]):
            self.refused("bench", "kernels", *odd)

    def test_sizes_that_a_kernel_has_no_form_for_are_refused_before_anything_runs(self):
        for family, flag, *words in (("attention", "rows", "--keys", 64, "--rows", 1), ("attention", "head-dim", "--head-dim", 9),
                                     ("rocket", "keys", "--keys", 64), ("rocket", "head-dim", "--head-dim", 63),
                                     ("gemm", "k", "--k", 33, "--dtype", "q4_1"), ("topk,attention", "rows", "--rows", 100),
                                     ("attention", "--factor", "--factor", 1e39), ("attention", "--factor", "--factor", 1e-60)):
            done = foveal("bench", "kernels", "--device", "cpu", "--kernels", family, *words, status=2)
            self.assertEqual(done.stdout, "", words)
            self.assertRegex(done.stderr, rf"^\[{flag}\] got .*; need ")
        # The others' limits are not a family's own.
        foveal("bench", "kernels", "--device", "cpu", "--kernels", "topk", "--keys", 64, "--head-dim", 9, "--min-seconds", 0.001)

    def test_tiny_products_end_and_are_finite(self):
        foveal("bench", "kernels", "--device", "cpu", "--kernels", "gemm", "--n", 1, "--k", 1, "--min-seconds", 0.001,
               "--report_json", self.path / "k.json")
        for row in self.read("k.json")["kernels"]:
            self.assertTrue(math.isfinite(row["roof_fraction"]), row)

    def test_bytes_of_pages_are_at_most_the_caches(self):
        foveal("bench", "kernels", "--device", "cpu", "--kernels", "rocket", "--keys", 256, "--layers", 1, "--topk", 1000000,
               "--min-seconds", 0.001, "--report_json", self.path / "k.json")
        kernels = {row["kernel"]: row for row in self.read("k.json")["kernels"]}
        self.assertEqual(kernels["rocket: attend_pages"]["bytes"], 256 * 3 * 64 * 2 * 2)

    def test_odd_requests_are_refused(self):
        self.prepare("token-norm-dist", "--num-requests", 1, "--input-mean", 4, "--output-mean", 2)
        data = self.path / "data.jsonl"
        for words in (["bench"], ["bench", "nothing"], ["bench", "throughput", "--model", GOLDEN],
                      ["bench", "throughput", "--model", GOLDEN, "--dataset", data, "--concurrency", 0],
                      ["bench", "throughput", "--model", GOLDEN, "--dataset", data, "--report_json", data],
                      ["bench", "throughput", "--model", GOLDEN, "--dataset", GOLDEN / "config.json"],
                      ["bench", "prepare-dataset", "--model", GOLDEN, "--output", self.path / "x", "gaussian"],
                      ["bench", "prepare-dataset", "--model", GOLDEN, "--output", self.path / "x",
                       "token-norm-dist", "--input-mean", -3]):
            self.refused(*words)

    def test_outputs_never_replace_inputs_or_each_other(self):
        self.prepare("token-norm-dist", "--num-requests", 1, "--input-mean", 4, "--output-mean", 2)
        data = self.path / "data.jsonl"
        text = self.write("text.jsonl", '{"text": "a b c"}\n')
        config = self.write("c.yaml", "kv_cache_config: {max_tokens: 64}\n")
        model = self.path / "model"
        shutil.copytree(GOLDEN, model)
        run = ("--model", model, "--dataset", data, "--config", config)
        serve = ("bench", "serve", "--url", "http://127.0.0.1:9", "--tokenizer-model", model, "--dataset", data)
        one, same = self.path / "one", self.path / "." / "one"
        before = {path: path.read_bytes() for path in (data, text, config, *model.iterdir())}
        for words in (["bench", "throughput", *run, "--request-json", one, "--output-json", same],
                      ["bench", "throughput", *run, "--request-csv", config],
                      ["bench", "latency", *run, "--report-json", model / "config.json"],
                      ["bench", "compare", *run, "--report-json", model / "model.safetensors"],
                      ["bench", "compare", *run, "--report-json", data],
                      ["bench", "kernels", "--device", "cpu", "--report-json", one, "--csv", same],
                      [*serve, "--report-json", one, "--request-csv", same],
                      [*serve, "--report-json", model / "config.json"],
                      ["bench", "prepare-dataset", "--model", model, "dataset", "--file", text, "--output", text]):
            error = foveal(*words, status=2).stderr
            self.assertRegex(error, r"^\[.*\] got '.*', which (is also read as '|--.* writes to as well)", words)
        self.assertEqual(before, {path: path.read_bytes() for path in before})
        self.assertFalse(one.exists())


@unittest.skipUnless(MODEL, "needs FOVEAL_TEST_MODEL")
class Real(Bench):
    def test_texts_become_requests_without_special_tokens(self):
        self.write("texts.jsonl", '{"text": "To be or not to be"}\n{"prompt": "one two", "output_tokens": 3}\n')
        lines = self.prepare("dataset", "--file", self.path / "texts.jsonl", "--output-mean", 7, model=MODEL)
        self.assertEqual([line["output_tokens"] for line in lines], [7, 3])
        self.assertEqual(self.bench("throughput", model=MODEL)["request_info"]["num_requests"], 2)


if __name__ == "__main__":
    unittest.main(verbosity=2)
