#!/usr/bin/env bash
# clang-tidy 19 on what differs from origin/main (from the last commit but one where that is the same),
# new files included; a changed header stands for the source beside it. --all: on every source file.
# Tests are left out: their macros are most of what it would report.
# Needs build/release/compile_commands.json (scripts/build.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --all ]; then
  files=$(git ls-files 'src/*.cc' 'tools/*.cc')
else
  base=$(git merge-base HEAD origin/main 2>/dev/null || true)
  [ -n "$base" ] && [ "$base" != "$(git rev-parse HEAD)" ] || base=HEAD~1
  if ! git rev-parse -q --verify "$base^{commit}" >/dev/null; then
    echo "tidy: no earlier commit to compare with; scripts/check_tidy.sh --all checks everything"
    exit 0
  fi
  files=$({ git diff --name-only --diff-filter=d "$base"; git ls-files --others --exclude-standard; } |
    sed 's/\.h$/.cc/' | { grep -E '^(src|tools)/.*\.cc$' || true; } | sort -u |
    while read -r file; do [ ! -f "$file" ] || echo "$file"; done)
fi
files=$(echo "$files" | { grep -Ev '_test(ing)?\.cc$' || true; })
[ -n "$files" ] || { echo "tidy: nothing changed"; exit 0; }
echo "$files" | xargs -P 2 -n 4 clang-tidy-19 --quiet -p build/release
echo "tidy: good ($(echo "$files" | wc -l) files)"
