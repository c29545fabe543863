"""What the tests of eval, bench and calibrate share. Only the standard library."""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
FOVEAL = os.environ.get("FOVEAL_BINARY", str(ROOT / "build/release/bin/foveal"))
# Without a real model, a tiny random one that has no tokenizer: texts are ids then.
MODEL = os.environ.get("FOVEAL_TEST_MODEL", "")
GOLDEN = ROOT / "tests/golden/llama3"
VOCAB = 384
LICENSE = pathlib.Path("/usr/share/common-licenses/GPL-3")
SPARSE = "{algorithm: skip_softmax, threshold_scale_factor: {prefill: 30.0, decode: 30.0}}"
# Attention of random weights is nearly even: only a threshold close to 1 leaves anything out.
STRONG = "{algorithm: skip_softmax, threshold_scale_factor: {prefill: 330.0, decode: 330.0}}"


def foveal(*words, status=0):
    done = subprocess.run([FOVEAL, *map(str, words)], capture_output=True, text=True, timeout=1200)
    if done.returncode != status:
        raise AssertionError(f"status {done.returncode}: {done.stderr}")
    return done


class Case(unittest.TestCase):
    def setUp(self):
        self.folder = tempfile.TemporaryDirectory()
        self.path = pathlib.Path(self.folder.name)
        self.addCleanup(self.folder.cleanup)

    def write(self, name, text):
        (self.path / name).write_text(text)
        return self.path / name

    def read(self, name):
        return json.loads((self.path / name).read_text())

    def ids(self, *lengths, name="ids.jsonl", seed=None, **fields):
        """A file with a line of random ids for each length; others each time without a seed."""
        seed = random.randrange(1 << 32) if seed is None else seed
        print("seed", seed, file=sys.stderr)
        draw = random.Random(seed)
        lines = [json.dumps({"input_ids": [draw.randrange(VOCAB) for _ in range(count)], **fields})
                 for count in lengths]
        return self.write(name, "\n".join(lines) + "\n")

    def refused(self, *words):
        self.assertRegex(foveal(*words, status=2).stderr, r"^\[.*\] got .*; need ")
