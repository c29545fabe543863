#!/usr/bin/env bash
# Builds Foveal: scripts/build.sh [preset] [ninja arguments...] -> build/<preset>/bin/foveal
# Presets: release (default), debug, cpu (release without CUDA), asan, tsan, fuzz. Run scripts/setup.sh first.
set -euo pipefail
cd "$(dirname "$0")/.."

preset=${1:-release}
[ $# = 0 ] || shift
cmake=.venv/bin/cmake
[ -x $cmake ] || { echo "build: got no .venv/bin/cmake; need scripts/setup.sh first" >&2; exit 1; }
options=()
if command -v ccache >/dev/null; then
  # Another clone of the same sources finds what this one compiled.
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
  options+=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
log=build/$preset/configure.log
mkdir -p "build/$preset"
if ! $cmake --preset "$preset" "${options[@]}" >"$log" 2>&1; then
  cat "$log" >&2
  exit 1
fi
exec ninja -C "build/$preset" "$@"
