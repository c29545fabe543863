#!/bin/sh
# scripts/gpu_run.sh in a pack of two fake programs: what it runs, and that it never says good of nothing.
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cp "$(dirname "$0")/../../scripts/gpu_run.sh" "$folder/run.sh"
mkdir "$folder/bin"
echo abc >"$folder/commit.txt"
printf 'test good_test\ntest bad_test\nbench a_bench\n' >"$folder/programs.txt"
printf '#!/bin/sh\nexit 0\n' | tee "$folder/bin/good_test" >"$folder/bin/a_bench"
printf '#!/bin/sh\necho got 1\nexit 3\n' >"$folder/bin/bad_test"
chmod +x "$folder"/bin/*
failed=0
expect() {  # status, words of the output, arguments
  status=$1 words=$2
  shift 2
  said=$(bash "$folder/run.sh" "$@" 2>&1)
  got=$?
  if [ $got = "$status" ] && echo "$said" | grep -qF -- "$words"; then return; fi
  echo "run.sh $*: got status $got and '$said'; need $status and '$words'" >&2
  failed=1
}
expect 0 'good_test: good' good
expect 1 'bad_test: FAILED (3)'
expect 0 'a_bench: good' --bench
expect 2 "got no test that matches 'none'; need one of good_test bad_test" none
expect 2 "got no bench that matches 'good'; need one of a_bench" --bench good
expect 2 "got '['; need a regular expression" '['
expect 2 "got '--all'; need" --all
exit $failed
