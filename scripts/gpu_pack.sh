#!/usr/bin/env bash
# Packs the GPU tests and benchmarks for a machine with a GPU, where nothing is built:
#   scripts/gpu_pack.sh [DIR] [REGEX]      -> DIR (default build/gpu_pack); REGEX picks programs by name
# Copy DIR there and run DIR/run.sh. Building needs nvcc (scripts/setup.sh), no GPU. What the programs need
# there: a driver for CUDA 13, and libcublasLt.so.13 for matrix products (see docs/cuda.md).
set -euo pipefail
cd "$(dirname "$0")/.."
case ${1:-} in
  -h|--help) sed -n '2,5s/^# //p' "$0"; exit 0 ;;
  -*) echo "gpu_pack: got '$1'; need [DIR] [REGEX]" >&2; exit 2 ;;
esac

pack=${1:-build/gpu_pack}
regex=${2:-.}
die() { echo "gpu_pack: $*" >&2; exit 1; }

scripts/build.sh release build.ninja >/dev/null
list=build/release/gpu_programs.txt
[ -s $list ] || die "got a build without CUDA; need scripts/setup.sh --cuda on"
mapfile -t programs < <(awk -v regex="$regex" '$2 ~ regex { print $2 }' $list)
[ ${#programs[@]} -gt 0 ] || die "got no program of $list that matches '$regex'; need one that does"
scripts/build.sh release "${programs[@]}"

[ ! -e "$pack" ] || [ -f "$pack/programs.txt" ] || die "got $pack, which is no earlier pack; need a new folder or one"
rm -rf "$pack"
mkdir -p "$pack/bin"
pack=$(realpath "$pack")
for program in "${programs[@]}"; do strip -o "$pack/bin/$program" "build/release/bin/$program"; done
awk -v regex="$regex" '$2 ~ regex' $list >"$pack/programs.txt"
# What they read lies where the source tree has it; they run in the pack's top folder.
awk '{ for (field = 3; field <= NF; ++field) print $field }' "$pack/programs.txt" | sort -u |
  while read -r data; do cp -r --parents "$data" "$pack"; done
git describe --always --dirty --abbrev=12 >"$pack/commit.txt" 2>/dev/null || echo unknown >"$pack/commit.txt"
cp scripts/gpu_run.sh "$pack/run.sh"
bytes=$(du -sb "$pack" | cut -f1)
echo "gpu_pack: $pack has ${#programs[@]} programs in $((bytes >> 20)) MiB (xz makes half of it; a REGEX picks some)"
