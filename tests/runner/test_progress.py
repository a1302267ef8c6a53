"""What a person sees of a trial: a live line on a terminal, plain lines anywhere else."""

import io
import logging
import os
import pty
import re
import sys

import pytest

from algorithmic_efficiency.runner.progress import Progress

WIPE = '\r\x1b[2K'


class Screen:
  """Shows what a terminal would of a text with carriage returns and wiped lines."""

  def __init__(self):
    self.lines = ['']
    self.column = 0

  def feed(self, text):
    for part in re.findall(r'\x1b\[2K|\r|\n|[^\r\n\x1b]+|\x1b', text):
      if part == '\n':
        self.lines.append('')
        self.column = 0
      elif part == '\r':
        self.column = 0
      elif part == '\x1b[2K':
        self.lines[-1] = ''
      else:
        line = self.lines[-1].ljust(self.column)
        self.lines[-1] = line[: self.column] + part + line[self.column + len(part) :]
        self.column += len(part)


class Terminal:
  """stdout as a terminal, by a pair of pseudo-terminals."""

  def __init__(self):
    self._reader, writer = pty.openpty()
    os.set_blocking(self._reader, False)
    self.stdout = os.fdopen(writer, 'w')

  def read(self):
    self.stdout.flush()
    text = ''
    while True:
      try:
        text += os.read(self._reader, 65536).decode()
      except BlockingIOError:
        return text.replace('\r\n', '\n')  # what the terminal makes of a line's end

  def close(self):
    self.stdout.close()
    os.close(self._reader)


@pytest.fixture(autouse=True)
def log():
  """The package's log goes to stdout, whatever that is, as it does in a run."""

  class ToStdout(logging.Handler):
    def emit(self, record):
      sys.stdout.write(f'{record.getMessage()}\n')
      sys.stdout.flush()

  logger = logging.getLogger('algorithmic_efficiency')
  handler = ToStdout()
  level = logger.level
  logger.setLevel(logging.INFO)
  logger.addHandler(handler)
  yield
  logger.removeHandler(handler)
  logger.setLevel(level)


@pytest.fixture
def terminal():
  terminal = Terminal()
  yield terminal
  terminal.close()


@pytest.fixture
def file():
  return io.StringIO()


@pytest.fixture
def progress_on(monkeypatch):
  """Makes a Progress with a stream as stdout; within the test, since pytest sets its own before."""

  def make(stdout, max_global_steps=None, targets=('validation/accuracy',), **more):
    monkeypatch.setattr(sys, 'stdout', stdout)
    return Progress('trial 1/2', 100.0, max_global_steps, list(targets), **more)

  return make


FOUND = {'train/loss': 0.5, 'validation/loss': 0.25, 'validation/accuracy': 0.875, 'test/loss': 9.0}


def test_a_file_gets_plain_lines_and_no_escape_codes(file, progress_on):
  progress = progress_on(file)
  for step in range(1, 200_001):
    progress.tick(step, step * 1e-3)
    if step % 50_000 == 0:
      progress.evaluated(step, step * 1e-3, FOUND)
  progress.clear()
  text = file.getvalue()
  assert '\x1b' not in text
  assert '\r' not in text
  assert text.endswith('\n')
  lines = text.splitlines()
  assert len([line for line in lines if 'accuracy' in line]) == 4
  assert len(lines) < 10  # 200 s: a plain line a minute at most, and none soon after an evaluation
  assert all(line.startswith('trial 1/2') for line in lines)


def test_a_plain_line_comes_once_a_minute_and_tells_the_rate(file, progress_on):
  progress = progress_on(file)
  for step in range(1, 151):
    progress.tick(step * 10, float(step))
  assert file.getvalue().splitlines() == [
    'trial 1/2  step 600  10 steps/s  60.0 s of 100 s',
    'trial 1/2  step 1,200  10 steps/s  120.0 s of 100 s',
  ]


@pytest.mark.parametrize(('joules', 'shown'), [
  (None, ''), (812.4, '812 J  '), (12_345.0, '12.3 kJ  '), (4.56e7, '45.60 MJ  '),
])  # fmt: skip
def test_a_line_tells_the_last_loss_and_the_energy(file, progress_on, joules, shown):
  progress = progress_on(file, joules=lambda: joules)
  progress.evaluated(1, 0.5, FOUND)
  progress.tick(600, 60.5)
  line = file.getvalue().splitlines()[-1]
  assert line == f'trial 1/2  step 600  10 steps/s  loss 0.2500  {shown}60.5 s of 100 s'


def test_the_devices_are_asked_for_energy_once_a_second(terminal, progress_on):
  asked = []
  progress = progress_on(terminal.stdout, joules=lambda: asked.append(1) or 5.0)
  for step in range(1000):
    progress.tick(step, step * 0.01)
  assert 8 <= len(asked) <= 10


def test_an_evaluation_is_one_line_with_the_targets(file, progress_on):
  progress_on(file).evaluated(12_345, 6.789, FOUND)
  (line,) = file.getvalue().splitlines()
  for part in ('trial 1/2', '12,345', '6.79 s', 'train/loss 0.5000', 'validation/loss 0.2500',
               'validation/accuracy 0.8750'):  # fmt: skip
    assert part in line
  assert 'test/loss' not in line


def test_a_loss_that_is_the_target_is_told_once(file, progress_on):
  progress_on(file, targets=('validation/loss', 'test/loss')).evaluated(1, 1.0, FOUND)
  assert file.getvalue().count('validation/loss') == 1
  assert 'test/loss 9.0000' in file.getvalue()


def test_metrics_that_are_no_numbers_any_more_are_shown(file, progress_on):
  progress_on(file).evaluated(1, 1.0, {**FOUND, 'validation/loss': float('nan')})
  assert 'validation/loss nan' in file.getvalue()


def test_a_terminal_has_one_live_line_that_is_drawn_over_itself(terminal, progress_on):
  progress, screen = progress_on(terminal.stdout), Screen()
  drawn = []
  for step in range(1, 1001):
    progress.tick(step, step * 0.01)
    text = terminal.read()
    screen.feed(text)
    assert len(screen.lines) == 1
    if text:
      assert text.startswith(WIPE)
      drawn.append((step, screen.lines[0]))
  assert 40 <= len(drawn) <= 50  # five times a second in ten seconds
  step, line = drawn[-1]
  assert f'step {step:,} ' in line
  assert '100 steps/s' in line
  assert line.count('trial 1/2') == 1


def test_the_live_line_is_wiped_before_an_evaluation_line(terminal, progress_on):
  progress, screen = progress_on(terminal.stdout), Screen()
  progress.tick(100, 1.0)
  screen.feed(terminal.read())
  assert 'step 100' in screen.lines[0]
  progress.evaluated(120, 1.1, FOUND)
  text = terminal.read()
  assert text.startswith(WIPE + 'trial')
  screen.feed(text)
  assert [line[:9] for line in screen.lines] == ['trial 1/2', '']
  assert '[' not in screen.lines[0]
  progress.tick(200, 2.0)
  screen.feed(terminal.read())
  assert len(screen.lines) == 2
  assert 'step 200' in screen.lines[1]
  assert 'accuracy' in screen.lines[0]


def test_clear_wipes_only_what_is_there(terminal, progress_on):
  progress, screen = progress_on(terminal.stdout), Screen()
  progress.clear()
  assert terminal.read() == ''
  progress.tick(1, 5.0)
  progress.clear()
  progress.clear()
  text = terminal.read()
  assert text.endswith(WIPE)
  assert text.count(WIPE) == 2
  screen.feed(text)
  assert screen.lines == ['']


@pytest.mark.parametrize(
  ('max_global_steps', 'step', 'seconds', 'filled'),
  [
    (None, 5, 50.0, 10), (None, 5, 99.9, 19), (None, 5, 250.0, 20), (100, 75, 50.0, 15),
    (1000, 75, 50.0, 10), (100, 100, 1.0, 20),
  ],
)  # fmt: skip
def test_the_bar_shows_what_is_nearer_its_end(
  terminal, progress_on, max_global_steps, step, seconds, filled
):
  progress_on(terminal.stdout, max_global_steps).tick(step, seconds)
  bar = re.search(r'\[(#*)(\.*)\]', terminal.read())
  assert (len(bar[1]), len(bar[2])) == (filled, 20 - filled)


def test_a_terminal_that_was_closed_does_not_stop_a_trial(progress_on):
  class Closed(io.StringIO):
    def isatty(self):
      return True

    def write(self, text):
      if '\x1b' in text:  # the log has its own way to bear it
        raise OSError(5, 'Input/output error')
      return super().write(text)

  stdout = Closed()
  progress = progress_on(stdout)
  for step in range(1, 10):
    progress.tick(step, float(step))
  progress.clear()
  progress.evaluated(10, 10.0, FOUND)
  assert 'accuracy' in stdout.getvalue()
