#!/usr/bin/env bash
# Runs what scripts/gpu_pack.sh packed, in the folder it lies in:
#   run.sh [REGEX]             every test whose name matches, one after the other; 1 if one failed
#   run.sh --bench [REGEX]     the benchmarks
#   run.sh --sanitize [REGEX]  the tests under compute-sanitizer's memcheck (slow: pick some)
# The output of each goes to logs/NAME.log; one line a program is printed, and the log of those that
# failed. FOVEAL_TEST_MODEL names a real model for the tests that take one.
set -uo pipefail
cd "$(dirname "$0")"

kind=test runner=()
case ${1:-} in
  --bench) kind=bench; shift ;;
  --sanitize) runner=(compute-sanitizer --error-exitcode 1); shift ;;
  --*) echo "run: got '$1'; need --bench, --sanitize or a regular expression" >&2; exit 2 ;;
esac
regex=${1:-.}
die() { echo "run: $*" >&2; exit 2; }
[ ${#runner[@]} = 0 ] || command -v "${runner[0]}" >/dev/null || die "got no compute-sanitizer; need it on the path"
programs=$(awk -v kind=$kind -v regex="$regex" '$1 == kind && $2 ~ regex { print $2 }' programs.txt) ||
  die "got '$regex'; need a regular expression"
[ -n "$programs" ] || die "got no $kind that matches '$regex'; need one of$(awk -v kind=$kind '$1 == kind { printf " %s", $2 }' programs.txt)"

# NVIDIA's PyPI packages, where this machine's Python has them, keep cuBLASLt off the library path.
pypi=$(python3 -c 'import nvidia; print(list(nvidia.__path__)[0])' 2>/dev/null || true)
[ ! -d "$pypi/cu13/lib" ] || export LD_LIBRARY_PATH=${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$pypi/cu13/lib

mkdir -p logs
gpu=$(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1)
echo "commit $(cat commit.txt); ${gpu:-nvidia-smi names no GPU}"
failed=0
while read -r name; do
  start=$(date +%s)
  ${runner[@]+"${runner[@]}"} "bin/$name" >"logs/$name.log" 2>&1
  status=$?
  note=good
  if [ $status != 0 ]; then
    note="FAILED ($status)" failed=1
  elif reason=$(grep -m 1 -o 'gpu tests skipped:.*' "logs/$name.log"); then
    note=$reason
  fi
  echo "$name: $note, $(($(date +%s) - start)) s"
  if [ $status != 0 ]; then
    grep -E 'FAILED|Failure|rror|got ' "logs/$name.log" | head -n 40
  elif [ $kind = bench ]; then
    cat "logs/$name.log"
  fi
done <<<"$programs"
exit $failed
