#!/usr/bin/env bash
# Runs every libFuzzer target for N seconds (default 60): scripts/fuzz.sh [N] [target...]
set -euo pipefail
cd "$(dirname "$0")/.."
seconds=${1:-60}
[ $# = 0 ] || shift
if [ $# = 0 ]; then
  sources=(tests/fuzz/fuzz_*.cc)
  sources=("${sources[@]##*/}")
  set -- "${sources[@]%.cc}"
fi
scripts/build.sh fuzz "$@"
for name in "$@"; do
  binary=build/fuzz/bin/$name
  corpus=build/fuzz/corpus/$name
  mkdir -p "$corpus"
  echo "fuzz: $name, $seconds s"
  "$binary" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 \
    -artifact_prefix="build/fuzz/$name-" "$corpus" "tests/fuzz/corpus/$name" 2>"build/fuzz/$name.log" ||
    { tail -n 40 "build/fuzz/$name.log" >&2; exit 1; }
done
