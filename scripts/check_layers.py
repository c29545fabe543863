#!/usr/bin/env python3
"""Includes go one way, intrinsics and PTX stay in their folders, backends are chosen in device/ only,
CUDA's handles and memory are made there, and kernels are launched from kernels/cuda.

A folder may include itself, what the table lists for it, and nothing else of ours."""

import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
PUBLIC = "foveal"  # include/foveal
ALLOWED = {
    "base": {PUBLIC},
    "device": {"base", PUBLIC},
    "kernels": {"base", "device", PUBLIC},
    "kv": {"base", "device", PUBLIC},
    "attention": {"base", "device", "kernels", "kv", PUBLIC},
    "tokenizer": {"base", PUBLIC},
    "sampler": {"base", "device", "kernels", PUBLIC},
    "scheduler": {"base", "kv", PUBLIC},
    "model": {"base", "device", "kernels", "kv", "attention", "tokenizer", PUBLIC},
    "engine": {"base", "device", "kernels", "kv", "attention", "model", "sampler", "scheduler",
               "tokenizer", PUBLIC},
    "server": {"base", "tokenizer", PUBLIC},
}
# Files that see less than their folder: the host half of kv knows no device.
HOST_KV = {"page_allocator", "prefix_index", "lanes"}
TOOLS = {"base", "tokenizer", "server", "tools", "measure", "eval", "bench", "calibrate", "client", PUBLIC}
TOOLS_INTERNAL = {"engine/inspect.h", "model/safetensors_writer.h", "engine/load.h",
                  "model/checkpoint.h"}  # introspection and parity files
METHODS = {path.name for path in (ROOT / "src/attention").iterdir() if path.is_dir()}
INCLUDE = re.compile(r'^\s*#\s*include\s+"([^"]+)"', re.M)
INTRINSIC = re.compile(r"\b_mm(?:256|512)?_\w+\(|#\s*include\s*<(?:immintrin|x86intrin|arm_neon)\.h>")
ASSEMBLY = re.compile(r"\basm\s+volatile\b|\basm\s*\(")
LAUNCH = re.compile(r"<<<|\bcudaLaunchKernel\w*\(")
# What makes or ends something that src/device owns.
OWNED = re.compile(r"\bcuda(?:Malloc|Free|HostAlloc|HostRegister|StreamCreate|StreamDestroy|EventCreate|EventDestroy|"
                   r"GraphInstantiate|StreamBeginCapture|StreamEndCapture|MemPoolCreate|SetDevice|DeviceReset)\w*\s*\(")
BACKEND = re.compile(r"#\s*if(?:def|ndef)?\b.*\bFOVEAL_CUDA\b")


def sources(*folders):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix in {".cc", ".h", ".cu", ".cuh"}:
                yield path


def check_include(path, include, problems):
    parts = path.relative_to(ROOT).parts
    target = include.split("/")[0]
    if parts[0] == "tools":
        if target not in TOOLS and include not in TOOLS_INTERNAL and "/" in include:
            problems.append(f"{path.relative_to(ROOT)}: tools may not include {include}")
        return
    folder = parts[1]
    is_test = path.stem.endswith(("_test", "_testing"))
    allowed = ALLOWED[folder] | {folder}
    if folder == "kv" and path.stem.removesuffix("_test") in HOST_KV:
        allowed = allowed - {"device"}
    if is_test and folder == "kernels":
        allowed = allowed | {"kv"}
    if target in ALLOWED and target not in allowed:
        problems.append(f"{path.relative_to(ROOT)}: {folder} may not include {include}")
    if folder == "scheduler" and include.startswith("kv/storage"):
        problems.append(f"{path.relative_to(ROOT)}: scheduler sees only the host half of kv")
    inside = re.match(r"attention/(\w+)/", include)
    if inside and inside.group(1) in METHODS:
        own = len(parts) > 3 and parts[1] == "attention" and parts[2] == inside.group(1)
        if not own:
            problems.append(f"{path.relative_to(ROOT)}: only its own room may include {include}")


def check_cuda(path, text, problems):
    where = path.relative_to(ROOT)
    folder = str(where.parent)
    is_test = path.stem.endswith(("_test", "_testing"))
    in_vocabulary = folder.startswith("src/kernels/cuda/device")
    if ASSEMBLY.search(text) and not in_vocabulary:
        problems.append(f"{where}: inline assembly lives in kernels/cuda/device only")
    if in_vocabulary:
        for include in INCLUDE.findall(text):
            if not include.startswith("kernels/cuda/device/"):
                problems.append(f"{where}: the device vocabulary may not include {include}")
    if OWNED.search(text) and not folder.startswith("src/device/cuda") and not is_test:
        problems.append(f"{where}: {OWNED.search(text).group(0)}...) belongs in device/cuda, as an owner")
    launches = folder.startswith("src/kernels/cuda") or is_test
    if LAUNCH.search(text) and not launches:
        problems.append(f"{where}: kernels are launched from kernels/cuda")
    if path.suffix in {".h", ".cc"} and re.search(r'^\s*#\s*include\s+"[^"]+\.cuh"', text, re.M):
        problems.append(f"{where}: device code (.cuh) is for .cu and .cuh files")


def main():
    problems = []
    for path in sources("src", "tools"):
        text = path.read_text()
        where = path.relative_to(ROOT)
        for include in INCLUDE.findall(text):
            check_include(path, include, problems)
        if "kernels/cpu/simd" not in str(where) and INTRINSIC.search(text):
            problems.append(f"{where}: intrinsics live in kernels/cpu/simd only")
        if not str(where).startswith("src/device") and BACKEND.search(text):
            problems.append(f"{where}: #ifdef on a backend lives in device/ only")
        check_cuda(path, text, problems)
        if re.search(r"(?<![\w:.])(?:std::)?(?:abort|exit|_exit|terminate)\s*\(", text) and \
                not path.stem.endswith("_test"):
            problems.append(f"{where}: nothing calls abort or exit; throw foveal::Error")
    for problem in problems:
        print(problem, file=sys.stderr)
    print(f"layers: {'good' if not problems else f'{len(problems)} problems'}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
