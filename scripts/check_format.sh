#!/usr/bin/env bash
# clang-format 19 on every C++ file git knows or would add. --fix rewrites them.
set -euo pipefail
cd "$(dirname "$0")/.."
mode=(--dry-run -Werror)
[ "${1:-}" != --fix ] || mode=(-i)
git ls-files -z --cached --others --exclude-standard '*.cc' '*.h' '*.cu' '*.cuh' |
  xargs -0 -r clang-format-19 "${mode[@]}"
if command -v rustfmt >/dev/null; then
  check=(--check)
  [ "${1:-}" != --fix ] || check=()
  git ls-files -z --cached --others --exclude-standard 'text/*.rs' |
    xargs -0 -r rustfmt --edition 2021 "${check[@]}"
fi
echo "format: good"
