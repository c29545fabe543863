#!/usr/bin/env bash
# Installs what building Foveal needs and is missing: Debian packages, pip tools in .venv, Rust.
#   scripts/setup.sh [--dev] [--full] [--cuda on|off|auto]
# --dev adds what scripts/test.sh needs, --full what scripts/test.sh --full needs. CUDA's compiler and
# libraries (1.1 GB in .venv, no GPU needed) come with auto, the default, on x86-64; where PyPI cannot
# give them, an installed nvcc 13 (CUDA_HOME or PATH) serves. on insists on CUDA, off leaves it out.
set -euo pipefail
cd "$(dirname "$0")/.."

die() { echo "setup: $*" >&2; exit 1; }

dev=0 full=0 cuda=auto
while [ $# -gt 0 ]; do
  case $1 in
    --dev) dev=1 ;;
    --full) dev=1 full=1 ;;
    --cuda) [ $# -ge 2 ] || die "got --cuda alone; need --cuda on, off or auto"; cuda=$2; shift ;;
    -h|--help) sed -n '2,6s/^# //p' "$0"; exit 0 ;;
    *) die "got '$1'; need --dev, --full or --cuda on|off|auto" ;;
  esac
  shift
done
case $cuda in
  on|off) ;;
  auto) [ "$(uname -m)" = x86_64 ] || cuda=off ;;
  *) die "got --cuda $cuda; need on, off or auto" ;;
esac

packages=(g++ ninja-build ccache git ca-certificates python3 python3-venv libboost1.81-dev
  libboost-json1.81-dev libfmt-dev libyaml-cpp-dev libcli11-dev libxxhash-dev libssl-dev)
[ $dev = 0 ] || packages+=(libgtest-dev clang-format-19 clang-tidy-19 python3-dev)
[ $full = 0 ] || packages+=(clang-19 libclang-rt-19-dev)
rust_need=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' text/Cargo.toml)
rust_have=$(rustc --version 2>/dev/null | cut -d' ' -f2 || true)
if ! command -v cargo >/dev/null || [ -z "$rust_have" ] ||
   [ "$(printf '%s\n' "$rust_need" "$rust_have" | sort -V | head -n 1)" != "$rust_need" ]; then
  packages+=(cargo-web rustc-web)
fi

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f '${Status}' "$package" 2>/dev/null)" = "install ok installed" ] ||
    missing+=("$package")
done
# A compiler, Python or git that did not come from a package serves as well.
have() { case $1 in
  g++) command -v g++ ;; git) command -v git ;; python3) command -v python3 ;;
  python3-venv) python3 -c 'import venv, ensurepip' ;;
  python3-dev) test -f "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h" ;; ninja-build) command -v ninja ;;
  *) false ;; esac >/dev/null 2>&1; }
still=()
for package in ${missing[@]+"${missing[@]}"}; do have "$package" || still+=("$package"); done

if [ ${#still[@]} -gt 0 ]; then
  . /etc/os-release 2>/dev/null || true
  if [ "${ID:-} ${VERSION_ID:-}" != "debian 12" ]; then
    die "got ${PRETTY_NAME:-an unknown system}; need Debian 12 to install by itself. Missing here: ${still[*]}"
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "setup: need root to install Debian packages. Run this, then try again:" >&2
    echo "  sudo apt-get update && sudo apt-get install --no-install-recommends ${still[*]}" >&2
    exit 1
  fi
  echo "setup: installing ${still[*]}"
  log=$(mktemp)
  if ! { apt-get update -q && DEBIAN_FRONTEND=noninteractive \
         apt-get install -y -q --no-install-recommends "${still[@]}"; } >"$log" 2>&1; then
    tail -n 20 "$log" >&2
    die "apt-get failed; the lines above say why"
  fi
  rm -f "$log"
fi

requirements=scripts/requirements.txt
[ $dev = 0 ] || requirements=scripts/requirements-dev.txt
pip_install() {  # a file of requirements, whose copy in .venv says that it is installed
  local stamp=.venv/$(basename "$1").done
  ! cmp -s "$1" "$stamp" || return 0
  echo "setup: installing ${2:-pip tools} into .venv"
  [ -x .venv/bin/python ] || python3 -m venv .venv || return 1
  .venv/bin/pip install -q --disable-pip-version-check -r "$1" && cp "$1" "$stamp"
}
system_nvcc() {  # the installed nvcc, if it is of CUDA 13
  local nvcc
  nvcc=$(PATH=${CUDA_HOME:+$CUDA_HOME/bin:}$PATH:/usr/local/cuda/bin command -v nvcc) || return 1
  "$nvcc" --version | grep -q 'release 13\.' && echo "$nvcc"
}

pip_install $requirements
if [ $cuda != off ] && ! pip_install scripts/requirements-cuda.txt "CUDA 13.0 (1.1 GB)"; then
  if nvcc=$(system_nvcc); then
    echo "setup: got no CUDA from PyPI; the build takes $nvcc"
  elif [ $cuda = on ]; then
    die "got no CUDA from PyPI and no nvcc 13; need one of them for --cuda on"
  else
    echo "setup: got no CUDA from PyPI and no nvcc 13; the build is for CPUs only" >&2
  fi
fi
