# Sourced by the other scripts: makes .venv in the project's root and installs what they need.
#
#   use_environment EXTRAS    for example: use_environment jax,plots
#
# PYTHON=python3.12 chooses the interpreter a new .venv is made with.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

# Installs the extras into .venv unless this very set is there already, and puts .venv on the PATH.
use_environment() {
  local extras=$1 venv=$root/.venv stamp wanted
  if [ ! -x "$venv/bin/python" ]; then
    echo "making .venv ($("${PYTHON:-python3}" --version))"
    "${PYTHON:-python3}" -m venv "$venv" || {
      echo "error: python3 -m venv failed; on Debian and Ubuntu: apt-get install python3-venv" >&2
      return 1
    }
  fi
  PATH=$venv/bin:$PATH
  export PATH VIRTUAL_ENV=$venv
  stamp=$venv/installed.txt
  for extra in ${extras//,/ }; do
    wanted="$extra $(cat "$root/setup.cfg" "$root/docker/constraints-cpu.txt" | cksum) $root"
    if ! grep -qxF "$wanted" "$stamp" 2>/dev/null; then
      echo "installing [$extra] into .venv"
      # torch first and exactly: a range would let pip take a build with gigabytes of CUDA.
      if [ "$extra" = pytorch ]; then
        install_cpu_torch
      fi
      python -m pip install --quiet --disable-pip-version-check \
        --constraint "$root/docker/constraints-cpu.txt" --editable "$root[$extra]" || return 1
      echo "$wanted" >> "$stamp"
    fi
  done
}

# PyTorch keeps its CPU builds on an index of its own (TORCH_INDEX_URL names another). The second
# try is for machines that cannot reach it but have the CPU build where pip looks.
install_cpu_torch() {
  local pin
  pin=$(grep '^torch==' "$root/docker/constraints-cpu.txt")
  if python -c 'import torch' 2>/dev/null; then
    return
  fi
  python -m pip install --quiet --disable-pip-version-check --no-deps \
    --retries 1 --timeout 20 \
    --index-url "${TORCH_INDEX_URL:-https://download.pytorch.org/whl/cpu}" "$pin" 2>/dev/null ||
    python -m pip install --quiet --disable-pip-version-check --no-deps "$pin"
}
