"""A program built against an installed libfoveal, in another folder."""

import os
import pathlib
import re
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_find_package(model_path, tmp_path):
    build, cmake = os.environ.get("FOVEAL_BUILD"), os.environ.get("FOVEAL_CMAKE", "cmake")
    if not build:
        pytest.skip("FOVEAL_BUILD names no build to install from")
    prefix = tmp_path / "prefix"
    run(cmake, "--install", build, "--prefix", prefix, "--component", "library")
    run(cmake, "-S", ROOT / "examples", "-B", tmp_path / "build", f"-DCMAKE_PREFIX_PATH={prefix}")
    run(cmake, "--build", tmp_path / "build")
    text = run(tmp_path / "build/generate", model_path, "The capital of France is")
    assert "The capital of France is Paris" in text and "skip_softmax: skipped" in text
    failed = subprocess.run([tmp_path / "build/generate", "/nowhere.gguf"], capture_output=True,
                            text=True)
    assert failed.returncode == 1 and "; need " in failed.stderr  # the exception crossed the border

    library = next(prefix.glob("lib*/**/libfoveal.so"))
    names = run("nm", "-D", "--defined-only", "-C", library).splitlines()
    foreign = [name for name in names if "foveal::" not in name]
    assert not foreign, foreign[:5]
    needed = run("readelf", "-d", library)
    for name in ("boost", "yaml", "fmt", "xxhash", "cuda", "cublas"):
        assert name not in needed

    for kernels in prefix.glob("lib*/**/libfoveal_kernels.so"):  # of a build with CUDA
        names = run("nm", "-D", "--defined-only", kernels).splitlines()
        assert names and all(" T foveal_" in name for name in names), names
        needed = re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", kernels))
        assert all(name.startswith(("libc.", "libm.", "ld-linux")) for name in needed), needed
