#!/usr/bin/env bash
# Runs the tests: scripts/test.sh [--full]
# Plain: set-up, one release build (every CUDA kernel is compiled, GPU or not), format / layer / size gates,
# clang-tidy on changed files, unit and contract tests, replay of the fuzz corpora, short tests on a real
# model, GPU tests (skipped, saying so, where there is no GPU), a build without CUDA, the Python wheel and
# libfoveal. --full adds clang-tidy on everything, sanitizer builds, libFuzzer runs and soaks.
set -euo pipefail
cd "$(dirname "$0")/.."

full=0
case ${1:-} in
  "") ;;
  --full) full=1 ;;
  *) echo "test: got '$1'; need --full or nothing" >&2; exit 2 ;;
esac
step() { echo; echo "--- $* ($(date +%H:%M:%S))"; }

step set-up
if [ $full = 1 ]; then scripts/setup.sh --full; else scripts/setup.sh --dev; fi

step gates
scripts/check_format.sh
python3 scripts/check_layers.py
python3 scripts/check_sizes.py
python3 scripts/check_kernel_docs.py
python3 scripts/check_docs.py

step build
scripts/build.sh release
python3 scripts/check_isa_symbols.py build/release

step clang-tidy
if [ $full = 1 ]; then scripts/check_tidy.sh --all; else scripts/check_tidy.sh; fi

step tests
model=$(scripts/fetch_model.sh)
export FOVEAL_TEST_MODEL=$PWD/$model
run_tests() { .venv/bin/ctest --test-dir "$1" --output-on-failure -j 2 -L "$2"; }
run_tests build/release unit
run_tests build/release slow
if [ -s build/release/gpu_programs.txt ]; then run_tests build/release gpu; fi

step "a build without CUDA"
scripts/build.sh cpu foveal device_test
build/cpu/bin/device_test --gtest_brief=1
build/cpu/bin/foveal run --model "$model" --device auto --prompt "The capital of France is" --max-tokens 1 >/dev/null

step python
tests/python/run.sh

if [ $full = 1 ]; then
  step soaks
  run_tests build/release soak
  for preset in asan tsan; do
    step "$preset"
    scripts/build.sh $preset
    run_tests build/$preset unit
  done
  step fuzz
  scripts/fuzz.sh 60
fi
step done
