#!/bin/sh
# cmake/nvcc_check.sh: passes a compiler's output and status on, and fails on what slows a kernel down.
check=$(dirname "$0")/../../cmake/nvcc_check.sh
folder=$(mktemp -d) || exit 1
trap 'rm -rf "$folder"' EXIT
cat >"$folder/nvcc" <<'END'
#!/bin/sh
echo "$FAKE_SAYS" >&2
for last; do :; done  # the object, as the last argument
touch "$last"
exit "$FAKE_STATUS"
END
chmod +x "$folder/nvcc"
failed=0
expect() {  # status, whether the object stays, what the compiler says, its status
  rm -f "$folder/x.o"
  said=$(FAKE_SAYS=$3 FAKE_STATUS=$4 "$check" "$folder/nvcc" -c -o "$folder/x.o" 2>&1)
  status=$?
  kept=no
  [ ! -f "$folder/x.o" ] || kept=yes
  case $said in "$3"*) ;; *) status="$status without the output" ;; esac
  if [ "$status $kept" != "$1 $2" ]; then
    echo "got status $status, object kept: $kept, for '$3'; need $1, $2"
    failed=1
  fi
}
expect 0 yes "" 0
expect 0 yes "ptxas info    : Used 168 registers" 0
expect 3 yes "error: identifier is undefined" 3
expect 1 no "ptxas info    : (C7510) Potential Performance Loss: wgmma.mma_async instructions are serialized" 0
expect 1 no "ptxas info    : (C7508) setmaxnreg is ignored" 0
exit $failed
