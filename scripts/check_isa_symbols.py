#!/usr/bin/env python3
"""Objects compiled for one instruction-set level share no inline function with the rest.

The linker keeps one copy of a weak symbol, and it could be the one with AVX-512 in it: the program
would then die on an older machine, far from any kernel. check_isa_symbols.py BUILD_DIR"""

import pathlib
import re
import subprocess
import sys

LEVELS = ("avx2", "avx512", "avx512bf16")
# Emitted by the compiler for data of our own namespaces, never for shared code.
HARMLESS = re.compile(r"^(DW\.ref\.|_ZGV|_ZTI|_ZTS|_ZTV)")


def main():
    build = pathlib.Path(sys.argv[1])
    problems, count = [], 0
    for level in LEVELS:
        for obj in sorted(build.rglob(f"foveal_*_{level}.dir/**/*.o")):
            count += 1
            out = subprocess.run(["nm", str(obj)], check=True, capture_output=True, text=True).stdout
            for line in out.splitlines():
                kind, _, name = line[17:].partition(" ")
                if kind in {"W", "V", "u"} and not HARMLESS.match(name):
                    if re.search(rf"\d+{level}[A-Z\d]", name):
                        continue  # a template of this level's own namespace
                    problems.append(f"{obj.name} ({level}): shares {name}")
    for problem in problems:
        print(problem, file=sys.stderr)
    if count == 0:
        print("isa symbols: found no objects; need a build directory", file=sys.stderr)
        return 1
    print(f"isa symbols: {count} objects, {'good' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
