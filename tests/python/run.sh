#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh environment and tests it there; then installs libfoveal
# and builds a program against it. Takes the release build's objects through ccache, its text crate as
# it is. FOVEAL_TEST_MODEL names a real model; without it the tests that need text are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
release=build/release
[ -f $release/CMakeCache.txt ] || { echo "python: got no $release; need scripts/build.sh first" >&2; exit 1; }
cached() { sed -n "s/^$1:[A-Z]*=//p" $release/CMakeCache.txt; }

# The tools of pyproject.toml, at a place that stays the same, so that ccache knows their headers.
tools=build/python/tools
[ -x $tools/bin/python ] || python3 -m venv $tools
mapfile -t requires < <($tools/bin/python -c '
import tomllib
print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")')
$tools/bin/pip install -q --disable-pip-version-check "${requires[@]}"
options=(-C build-dir=build/wheel -C "cmake.define.FOVEAL_TEXT_BUILD=$PWD/$release/text")
if command -v ccache >/dev/null; then
  # As scripts/build.sh has it, and as deep below the root: names of sources are relative to the build folder.
  export CCACHE_BASEDIR=$PWD CCACHE_NOHASHDIR=1
  options+=(-C cmake.define.CMAKE_C_COMPILER_LAUNCHER=ccache -C cmake.define.CMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
rm -rf build/python/dist
log=build/python/wheel.log
if ! CC=$(cached CMAKE_C_COMPILER) CXX=$(cached CMAKE_CXX_COMPILER) CMAKE_EXECUTABLE=$(cached CMAKE_COMMAND) \
    $tools/bin/pip wheel . --no-build-isolation --no-deps -w build/python/dist "${options[@]}" >$log 2>&1; then
  cat $log >&2
  exit 1
fi

python3 -m venv --clear build/python/test
build/python/test/bin/pip install -q --disable-pip-version-check pytest build/python/dist/*.whl
.venv/bin/cmake --build $release --target foveal_shared
export FOVEAL_BUILD=$PWD/$release FOVEAL_CMAKE=$PWD/.venv/bin/cmake
exec build/python/test/bin/python -m pytest -q -p no:cacheprovider tests/python "$@"
