"""How far a long piece of work is: one line on a terminal, plain lines in a log."""

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

COUNTS = """
import sys, time
sys.path.insert(0, {root!r})
from algorithmic_efficiency import status_line
status = status_line.StatusLine({arguments})
for done in range({total} + 1):
  status.count(done, {total}, 'traces', 'the last of them')
  time.sleep({pause})
status.clear()
print('over', file=sys.stderr)
"""


def program(arguments='', total=10, pause=0.05):
  return COUNTS.format(root=str(ROOT), arguments=arguments, total=total, pause=pause)


def in_a_log(code):
  done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
  assert not done.stdout
  return done.stderr.splitlines()


def on_a_terminal(code):
  """What a program writes to a terminal of 80 columns."""
  reader, writer = pty.openpty()
  fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack('HHHH', 24, 80, 0, 0))
  process = subprocess.Popen([sys.executable, '-c', code], stderr=writer)
  os.close(writer)
  text = b''
  while True:
    try:
      text += os.read(reader, 65536)
    except OSError:  # the other end is closed
      break
  os.close(reader)
  assert process.wait() == 0
  return text.decode()


def test_quick_work_leaves_no_line_in_a_log():
  assert in_a_log(program(pause=0.0)) == ['over']


def test_a_log_gets_a_plain_line_now_and_then_with_the_time_left():
  lines = in_a_log(program("'score', log_every_sec=0.12"))
  assert lines.pop() == 'over'
  assert 2 <= len(lines) <= 6  # 0.55 s at least
  assert all(line.startswith('score: ') and line.isprintable() for line in lines)
  done = [int(line.split()[1].split('/')[0]) for line in lines]
  assert done == sorted(set(done))
  assert all(line.endswith('/10 traces, 0 s left: the last of them') for line in lines)


def test_the_time_left_is_not_told_from_what_came_first():
  code = program('log_every_sec=0.0', total=2, pause=0.0)
  first, second, third, _ = in_a_log(code)
  assert first == '0/2 traces: the last of them'
  assert 's left' in second
  assert 's left' in third


def test_quiet_is_quiet():
  assert in_a_log(program('log_every_sec=0.0, quiet=True')) == ['over']


def test_a_terminal_has_one_line_that_is_taken_away_at_the_end():
  began = time.monotonic()
  text = on_a_terminal(program(total=20))
  assert time.monotonic() - began > 1.0
  *drawn, last = text.split('\r')  # a terminal's own end of line has one too
  assert drawn.pop() == 'over'
  assert last == '\n'
  assert drawn.pop(0) == ''
  assert all(len(line) == 79 for line in drawn)
  assert not drawn.pop().strip()
  bars = [line.split(']')[0].count('#') for line in drawn]
  assert bars == sorted(bars)
  assert 5 <= len(bars) <= 21


def test_an_error_does_not_stand_behind_the_line():
  code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from algorithmic_efficiency.status_line import StatusLine
try:
  with StatusLine() as status:
    time.sleep(0.2)
    status.tell('half of it')
    raise ValueError('the other half')
except ValueError as error:
  print(error, file=sys.stderr)
"""
  drawn, wiped, said = on_a_terminal(code).removesuffix('\r\n').split('\r')[1:]
  assert drawn.rstrip() == 'half of it'
  assert (wiped.strip(), said) == ('', 'the other half')
