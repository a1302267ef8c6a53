"""A headless Chromium, driven over its own debugging pipe: no driver has to be installed."""

import base64
import fcntl
import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path
from typing import Any

NAMES = ('chromium', 'chromium-browser', 'google-chrome')
_WAIT_SEC = 60.0


def executable() -> str | None:
  """The browser, or None where there is none."""
  return next((path for name in NAMES if (path := shutil.which(name))), None)


class Browser:
  """One page.

  Attributes:
    events: all that the browser told by itself, such as requests and lines on the console.
  """

  def __init__(self, profile: Path) -> None:
    command = [
      executable() or '', '--headless', '--no-sandbox', '--disable-gpu', '--no-first-run',
      '--hide-scrollbars', '--disable-dev-shm-usage', '--disable-background-networking',
      '--remote-debugging-pipe', f'--user-data-dir={profile}', 'about:blank',
    ]  # fmt: skip
    there, self._to = os.pipe()
    self._from, back = os.pipe()
    # The browser has its ends of the pipes as 3 and 4. A shell arranges that: Python would have to
    # fork for it, which JAX, if some other test has it imported, warns of.
    ends = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (there, back)]
    arrange = f'exec "$@" 3<&{ends[0]} 4>&{ends[1]} {ends[0]}<&- {ends[1]}>&-'
    self._process = subprocess.Popen(
      ['bash', '-c', arrange, 'bash', *command], pass_fds=ends, stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )  # fmt: skip
    for end in (there, back, *ends):
      os.close(end)
    self._buffer, self._number, self._session = b'', 0, ''
    self.events: list[dict[str, Any]] = []
    targets = self.call('Target.getTargets')['targetInfos']
    target = next(t['targetId'] for t in targets if t['type'] == 'page')
    self._session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
    for domain in ('Page', 'Network', 'Runtime', 'Log'):
      self.call(f'{domain}.enable')

  def call(self, method: str, **parameters: Any) -> dict[str, Any]:
    """The result of a method of the DevTools protocol."""
    self._number += 1
    message: dict[str, Any] = {'id': self._number, 'method': method, 'params': parameters}
    if self._session:
      message['sessionId'] = self._session
    os.write(self._to, json.dumps(message).encode() + b'\0')
    while True:
      answer = self._next()
      if answer.get('id') == self._number:
        assert 'error' not in answer, (method, answer['error'])
        return answer['result']
      self.events.append(answer)

  def _next(self) -> dict[str, Any]:
    end = time.monotonic() + _WAIT_SEC
    while b'\0' not in self._buffer:
      assert select.select([self._from], [], [], max(0.0, end - time.monotonic()))[0], 'no answer'
      piece = os.read(self._from, 1 << 20)
      assert piece, 'the browser has ended'
      self._buffer += piece
    message, _, self._buffer = self._buffer.partition(b'\0')
    return json.loads(message)

  def open(self, page: Path, width: int, height: int = 900, dark: bool = False) -> None:
    """Loads a page in a window of that size and theme, to its end."""
    self.call('Emulation.setDeviceMetricsOverride', width=width, height=height,
              deviceScaleFactor=1, mobile=width < 600)  # fmt: skip
    scheme = {'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}
    self.call('Emulation.setEmulatedMedia', features=[scheme])
    self.events.clear()
    self.call('Page.navigate', url=page.absolute().as_uri())
    while not any(event.get('method') == 'Page.loadEventFired' for event in self.events):
      self.events.append(self._next())

  def value(self, script: str) -> Any:
    """What an expression of JavaScript gives on the page."""
    answer = self.call('Runtime.evaluate', expression=script, returnByValue=True, awaitPromise=True)
    assert 'exceptionDetails' not in answer, answer['exceptionDetails']
    return answer['result'].get('value')

  def told(self, *methods: str) -> list[dict[str, Any]]:
    """The events of these kinds since the page was opened."""
    self.value('1')  # what was told before has arrived with this answer
    return [event['params'] for event in self.events if event.get('method') in methods]

  def screenshot(self, path: Path) -> None:
    """The whole page as PNG."""
    data = self.call('Page.captureScreenshot', captureBeyondViewport=True)['data']
    path.write_bytes(base64.b64decode(data))

  def close(self) -> None:
    """Ends the browser."""
    self._process.terminate()
    try:
      self._process.wait(20)
    except subprocess.TimeoutExpired:
      self._process.kill()
      self._process.wait()
    for end in (self._to, self._from):
      os.close(end)
