#!/usr/bin/env bash
# clang-tidy 19 on the files of the last commit and of the working tree; --all: on every source file.
# Tests are left out: their macros are most of what it would report.
# Needs build/release/compile_commands.json (scripts/build.sh).
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${1:-}" = --all ]; then
  files=$(git ls-files 'src/*.cc' 'tools/*.cc')
else
  files=$({ git diff --name-only --diff-filter=d HEAD~1 2>/dev/null || git ls-files; } |
    { grep -E '^(src|tools)/.*\.cc$' || true; } | sort -u)
fi
files=$(echo "$files" | { grep -v '_test\.cc$' || true; })
[ -n "$files" ] || { echo "tidy: nothing changed"; exit 0; }
echo "$files" | xargs -P 2 -n 4 clang-tidy-19 --quiet -p build/release
echo "tidy: good ($(echo "$files" | wc -l) files)"
