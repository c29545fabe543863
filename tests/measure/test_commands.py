#!/usr/bin/env python3
"""What holds for every command: its help, its streams and its files when something ends early."""

import json
import os
import resource
import signal
import subprocess
import time
import unittest

from harness import FOVEAL, GOLDEN, Case, foveal

COMMANDS = [["run"], ["chat"], ["serve"], ["inspect"], ["tokenize"], ["render"], ["calibrate"],
            *(["bench", name] for name in ("throughput", "latency", "serve", "kernels", "compare")),
            *(["bench", "prepare-dataset", name] for name in ("token-norm-dist", "token-unif-dist", "dataset")),
            *(["eval", name] for name in ("perplexity", "kl", "niah", "multi_turn", "ruler", "longbench_v1", "longbench_v2"))]


class Tiny(Case):
    def start(self, *words, **more):
        return subprocess.Popen([FOVEAL, *map(str, words)], text=True, stderr=subprocess.PIPE, **more)

    def test_every_command_helps_and_refuses(self):
        for words in COMMANDS:
            done = foveal(*words, "--help")
            self.assertIn(f"usage: foveal {' '.join(words)} [flags]", done.stdout)
            self.assertEqual(done.stderr, "", words)
            done = foveal(*words, "--no-such-flag", status=2)
            self.assertEqual(done.stdout, "", words)
            self.assertRegex(done.stderr, r"^\[cli\] got '--no-such-flag'; need a known flag \(see foveal .* --help\)\n$")

    def test_a_lost_reader_ends_a_command_quietly(self):
        for words in (["run", "--help"], ["inspect", "--model", GOLDEN, "--device", "cpu", "--tensors", "--log-level", "error"]):
            reads, writes = os.pipe()
            os.close(reads)
            ended = self.start(*words, stdout=writes)
            os.close(writes)
            self.assertEqual(ended.communicate(timeout=100), (None, ""))
            self.assertEqual(ended.returncode, 128 + signal.SIGPIPE)

    def test_an_interrupt_says_a_line(self):
        file = self.ids(*[1000] * 400)
        out = self.path / "out"
        words = ("eval", "--model", GOLDEN, "--device", "cpu", "--threads", 1, "perplexity", "--file", file, "--output-dir", out)
        running = self.start(*words, stdout=subprocess.DEVNULL)
        samples = out / "samples.jsonl"
        while running.poll() is None and not (samples.exists() and samples.stat().st_size):
            time.sleep(0.01)
        running.send_signal(signal.SIGINT)
        said = running.communicate(timeout=100)[1]
        self.assertEqual(running.returncode, -signal.SIGINT)
        self.assertEqual(said.splitlines()[-1], "[eval] got an interrupt before the end; need the same command again, which "
                                                f"goes on in '{out}'")
        self.assertFalse((out / "summary.json").exists())
        self.assertRegex(foveal(*words).stderr, r"\d+ of 400 samples were there already")

    def test_a_full_disk_leaves_no_files(self):
        old = self.write("old.jsonl", "before")
        before = set(self.path.iterdir())
        words = ("bench", "prepare-dataset", "--model", GOLDEN, "token-norm-dist", "--num-requests", 50, "--output")
        for name in ("old.jsonl", "new.jsonl"):
            # A limit of a file's size stands for a full disk.
            ended = self.start(*words, self.path / name, stdout=subprocess.DEVNULL,
                               preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)))
            self.assertRegex(ended.communicate(timeout=100)[1], r"^\[output\] got no write to '.*' \(.*\); need ")
            self.assertEqual(ended.returncode, 1)
        self.assertEqual(old.read_text(), "before")
        self.assertEqual(set(self.path.iterdir()), before)
        for words in (["bench", "prepare-dataset", "--model", GOLDEN, "token-norm-dist", "--output", "/dev/full"],
                      ["run", "--model", GOLDEN, "--device", "cpu", "--token-ids", "1,2", "--max-tokens", 1, "--stats", "/dev/full"],
                      ["run", "--model", GOLDEN, "--device", "cpu", "--token-ids", "1,2", "--max-tokens", 1, "--logits", "/dev/full"]):
            self.assertIn("(No space left on device); need ", foveal(*words, status=1).stderr)

    def test_a_file_of_bad_lines_is_answered_in_a_few(self):
        file = self.write("garbage.jsonl", "no json\n" * 300 + json.dumps({"input_ids": [1, 2, 3], "output_tokens": 1}) + "\n")
        done = foveal("eval", "--model", GOLDEN, "--device", "cpu", "perplexity", "--file", file, "--output-dir", self.path / "out")
        warnings = [line for line in done.stderr.splitlines() if " warn " in line]
        self.assertEqual(len(warnings), 6, done.stderr)
        self.assertRegex(warnings[0], r"warn  \[garbage.jsonl:1\] got .*; need a JSON object")
        self.assertTrue(warnings[-1].endswith(f"295 more have failed; {self.path / 'out'}/summary.json lists all 300"))
        done = foveal("bench", "throughput", "--model", GOLDEN, "--device", "cpu", "--dataset", file)
        self.assertEqual(len([line for line in done.stderr.splitlines() if " warn " in line]), 6, done.stderr)

    def test_json_is_json_whatever_a_file_is_called(self):
        file = os.fsencode(self.path) + b"/b\xff.jsonl"
        with open(file, "w") as lines:
            lines.write('{"input_ids": [1, 2, 3], "output_tokens": 1}\nno json\n')

        def run(*words):  # its log has the name's bytes, which are no text
            done = subprocess.run([FOVEAL, *map(os.fsencode, words)], capture_output=True, timeout=100)
            self.assertEqual(done.returncode, 0, done.stderr)

        for _ in range(2):  # the second reads what the first wrote
            run("eval", "--model", GOLDEN, "--device", "cpu", "perplexity", "--file", file, "--output-dir", self.path / "out")
            self.assertEqual(self.read("out/summary.json")["failed"], 1)
        run("bench", "throughput", "--model", GOLDEN, "--device", "cpu", "--dataset", file, "--report_json", self.path / "r.json")
        self.assertEqual(self.read("r.json")["failures"][0]["id"], "b\ufffd.jsonl:2")


if __name__ == "__main__":
    unittest.main(verbosity=2)
