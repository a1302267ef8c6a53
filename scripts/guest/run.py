#!/usr/bin/env python3
"""Runs a command as root in a guest that is emulated: another kernel, this machine's files.

  python scripts/guest/run.py --kernel=stock -- python3 -c 'print("hello")'

The guest has the host's files (read-only, but /run, which is its memory) and no network; the
command's output is printed, and its exit code returned. `make.sh` here gets the kernels.
"""

import argparse
import gzip
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from algorithmic_efficiency.errors import MeasurementError, UsageError

HERE = Path(__file__).resolve().parent
QEMU = 'qemu-system-x86_64'
KERNELS = ('stock', 'own')
# One thread emulates both processors, and without AVX: with more of either, programs in the guest
# were seen to crash now and then (QEMU 7.2).
ACCELERATOR, PROCESSOR = 'tcg,thread=single', 'Nehalem,+rdrand'
_SPARE_SEC = 20  # after which a guest ends itself, should nobody be there to end it
_CONSOLE_LINES = 15
_FILE, _FOLDER = 0o100755, 0o040755  # modes of a cpio archive


def cache() -> Path:
  """Where `make.sh` keeps what it makes."""
  base = os.environ.get('XDG_CACHE_HOME') or Path.home() / '.cache'
  return Path(base) / 'algorithmic_efficiency' / 'guest'


def missing(kernel: str) -> str:
  """What a guest lacks here, with what would bring it; '' if it can be run."""
  if shutil.which(QEMU) is None:
    return f'{QEMU} is not installed; run bash scripts/guest/make.sh qemu'
  if not (cache() / kernel / 'kernel').exists():
    return f'no {kernel} kernel in {cache()}; run bash scripts/guest/make.sh {kernel} first'
  return ''


def run(
  kernel: str, command: list[str], memory_mib: int = 1024, limit_sec: float = 120
) -> tuple[int, str]:
  """Runs a command in a guest: its exit code and what it printed.

  Raises UsageError where a guest lacks something, MeasurementError if it does not come to its end.
  """
  if reason := missing(kernel):
    raise UsageError(f'{reason}.')
  with tempfile.TemporaryDirectory(prefix='guest_') as name:
    folder = Path(name)
    (folder / 'initial.gz').write_bytes(_initial(cache() / kernel, command, limit_sec))
    console, output = folder / 'console', folder / 'output'
    line = _qemu(kernel, folder, memory_mib)
    with subprocess.Popen(line, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
      try:
        _, errors = process.communicate(timeout=limit_sec)
      except subprocess.TimeoutExpired:
        errors = f'not at its end after {limit_sec:g} s'.encode()
      finally:
        process.kill()
    text = output.read_text(errors='replace').replace('\r', '') if output.exists() else ''
    printed, _, last = text.rstrip('\n').rpartition('exit ')
    if not last.isdigit():
      seen = console.read_text(errors='replace').splitlines() if console.exists() else []
      told = '\n  '.join([*seen[-_CONSOLE_LINES:], text, errors.decode(errors='replace')])
      raise MeasurementError(f'the guest did not come to its end; its console said:\n  {told}')
    if int(last) != 0:
      sys.stderr.write(console.read_text(errors='replace'))
    return int(last), printed


def _qemu(kernel: str, folder: Path, memory_mib: int) -> list[str]:
  options = 'console=ttyS0 quiet panic=-1 reboot=t rdinit=/init random.trust_cpu=on mitigations=off'
  return [
    *(QEMU, '-accel', ACCELERATOR, '-cpu', PROCESSOR, '-smp', '2', '-m', str(memory_mib)),
    *('-nodefaults', '-display', 'none', '-no-reboot'),
    *('-kernel', str(cache() / kernel / 'kernel'), '-initrd', str(folder / 'initial.gz')),
    *('-append', options),
    *('-serial', f'file:{folder / "console"}', '-serial', f'file:{folder / "output"}'),
    *('-fsdev', 'local,id=host,path=/,security_model=none,readonly=on,multidevs=remap'),
    *('-device', 'virtio-9p-pci,fsdev=host,mount_tag=host'),
  ]


def _initial(made: Path, command: list[str], limit_sec: float) -> bytes:
  """The guest's first files, as a compressed cpio archive."""
  files = {
    'init': (HERE / 'init').read_bytes(),
    'bin/busybox': (made / 'busybox').read_bytes(),
    'limit': str(round(limit_sec + _SPARE_SEC)).encode(),
    'command': _script(command).encode(),
  }
  files |= {f'modules/{path.name}': path.read_bytes() for path in (made / 'modules').iterdir()}
  folders = ('bin', 'dev', 'proc', 'host', 'modules')
  entries = [(name, _FOLDER, b'') for name in folders]
  entries += [(name, _FILE, content) for name, content in files.items()]
  archive = b''.join(map(_cpio, range(1, len(entries) + 1), *zip(*entries, strict=True)))
  return gzip.compress(archive + _cpio(0, 'TRAILER!!!', 0, b''), compresslevel=1)


def _cpio(inode: int, name: str, mode: int, content: bytes) -> bytes:
  """An entry of a cpio archive of the new format (the kernel's initramfs buffer format)."""
  numbers = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name) + 1, 0)
  header = b'070701' + b''.join(b'%08X' % number for number in numbers) + name.encode() + b'\0'
  return header + bytes(-len(header) % 4) + content + bytes(-len(content) % 4)


def _script(command: list[str]) -> str:
  settings = {
    'PATH': os.environ.get('PATH', os.defpath),
    'PYTHONPATH': str(HERE.parents[1]),
    'PYTHONDONTWRITEBYTECODE': '1',
    'HOME': '/run',
    'TMPDIR': '/run',
    'PYTHONFAULTHANDLER': '1',
    'OMP_NUM_THREADS': '1',
    'OPENBLAS_NUM_THREADS': '1',
  }
  exports = [f'export {name}={shlex.quote(value)}' for name, value in settings.items()]
  return '\n'.join([*exports, f'cd {shlex.quote(os.getcwd())}', f'exec {shlex.join(command)}', ''])  # noqa: PTH109


def main() -> int:
  """The command; the exit code."""
  parser = argparse.ArgumentParser(description=__doc__.split('\n', 1)[0])
  parser.add_argument('--kernel', choices=KERNELS, required=True)
  parser.add_argument('--memory_mib', type=int, default=1024)
  parser.add_argument('--limit_sec', type=float, default=120, help='after which it is ended')
  parser.add_argument('command', nargs='+', help='after --')
  options = parser.parse_args()
  signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that the guest is ended too
  begun = time.monotonic()
  try:
    code, printed = run(options.kernel, options.command, options.memory_mib, options.limit_sec)
  except (UsageError, MeasurementError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2 if isinstance(error, UsageError) else 1
  print(printed, end='')
  print(f'the guest took {time.monotonic() - begun:.1f} s', file=sys.stderr)
  return code


if __name__ == '__main__':
  sys.exit(main())
