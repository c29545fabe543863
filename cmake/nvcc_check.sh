#!/bin/sh
# Runs nvcc (through ccache or not) and fails on what ptxas only remarks upon: C7508, setmaxnreg ignored,
# and C7510 to C7516, wgmma serialised for one reason or another ("Potential Performance Loss"). Either
# costs a kernel much of its speed and nothing else shows it.
# Outside ccache, which replays what a compilation said, so that a hit fails as the first one did.
said=$(mktemp) || exit 1
trap 'rm -f "$said"' EXIT
"$@" >"$said" 2>&1
status=$?
cat "$said" >&2
if grep -Eq 'C75(08|1[0-6])|Potential Performance Loss' "$said"; then
  echo "nvcc: got a kernel that ptxas slows down (C7508 or C751x above); need neither" >&2
  while [ $# -gt 1 ]; do
    [ "$1" != -o ] || rm -f "$2"
    shift
  done
  exit 1
fi
exit $status
