#!/usr/bin/env python3
"""Writes fnmatch.json: what Python's fnmatch.fnmatchcase says about random and hostile cases."""

import fnmatch
import json
import pathlib
import random

HOSTILE = [
    ("", ""), ("", "a"), ("*", ""), ("**", "a.b"), ("?", ""), ("?", "a"), ("?", "."),
    ("[", "["), ("[a", "[a"), ("[]", "[]"), ("[]]", "]"), ("[]a]", "a"), ("[!]", "[!]"), ("[!]]", "]"),
    ("[!]]", "x"), ("[!]a]", "b"), ("[a-]", "-"), ("[a-]", "a"), ("[-a]", "-"), ("[--0]", "."),
    ("[z-a]", "m"), ("[!z-a]", "m"), ("[z-am]", "m"), ("[a-c-e]", "-"), ("[a-c-e]", "d"), ("[^a]", "^"),
    ("[^a]", "b"), ("[!^a]", "b"), ("[[]", "["), ("[a&&b]", "&"), ("[a||b]", "|"), ("[\\]", "\\"),
    ("[a\\]b]", "\\b]"), ("\\*", "\\anything"), ("\\*", "*"), ("a.b", "axb"), ("(a|b)", "a"), ("a+", "aa"),
    ("$", "$"), ("^a", "a"), ("A", "a"), ("model.layers.1", "model.layers.10"),
    ("model.layers.*.self_attn", "model.layers.3.self_attn"), ("*.3.*", "model.layers.3.self_attn"),
    ("*layers.[0-3].self_attn", "model.layers.3.self_attn"), ("*layers.1?.*", "model.layers.12.attention"),
    ("*", "a\nb"), ("a?b", "a\nb"), ("a", "a\n"), ("a*" * 30 + "b", "a" * 60), ("*a" * 30 + "*", "a" * 29),
    ("[!a-z]" * 5, "ABC12"), ("*?*?*?*", "ab"), ("*?*?*?*", "abc"), ("[a-b-c-d]", "c"), ("[!-]", "-"),
    ("[!--]", "-"), ("[]-a]", "^"), ("[*]", "*"), ("[?]", "x"), ("[!*]*", "ab"), ("[a-a]", "a"),
]


def random_cases(rng, count):
    for _ in range(count):
        pattern = "".join(rng.choice("**?[]!-abc.") for _ in range(rng.randrange(10)))
        name = "".join(rng.choice("abc.-]![") for _ in range(rng.randrange(8)))
        yield pattern, name


def likely_cases(rng, count):
    """Patterns cut out of the name, so that many match."""
    for _ in range(count):
        name = "".join(rng.choice("abc.-]!") for _ in range(rng.randrange(1, 10)))
        pattern = "".join(
            rng.choice([c, c, "?", "*", f"[{c}x]", f"[!{c}]", f"[a-{c}]", f"[{c}-z]"]) for c in name
        )
        yield pattern, name


def main():
    rng = random.Random(20261124)
    cases = HOSTILE + list(random_cases(rng, 250)) + list(likely_cases(rng, 350))
    rows = [[p, n, fnmatch.fnmatchcase(n, p)] for p, n in dict.fromkeys(cases)]
    path = pathlib.Path(__file__).with_name("fnmatch.json")
    path.write_text("[\n" + ",\n".join(json.dumps(row) for row in rows) + "\n]\n")
    print(f"{len(rows)} cases, {sum(row[2] for row in rows)} match")


if __name__ == "__main__":
    main()
