"""Tests of downloading, from a real server on this machine that can also misbehave."""

import contextlib
import hashlib
import http.server
import os
import pty
import socket
import subprocess
import sys
import threading
import time

import pytest

from algorithmic_efficiency.workloads import download

CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT).hexdigest()
SCRIPT = """
import logging, pathlib, sys
from algorithmic_efficiency.workloads import download
logging.basicConfig(level=logging.INFO, format='%(levelname)s %(message)s')
download.fetch('file.gz', sys.argv[2], pathlib.Path(sys.argv[3]), [sys.argv[1]])
"""


class Handler(http.server.BaseHTTPRequestHandler):
  """Serves CONTENT; the first part of the path says how."""

  def do_GET(self):
    self.server.requested.append(self.path)
    manner = self.path.split('/')[1]
    if manner == 'absent':
      self.send_error(404)
      return
    self.send_response(200)
    if manner != 'unknown_size':
      self.send_header('Content-Length', str(len(CONTENT)))
    self.end_headers()
    if manner == 'cut':
      self.wfile.write(CONTENT[:300])
    elif manner == 'damaged':
      self.wfile.write(CONTENT[:-1] + b'\0')
    else:
      self.wfile.write(CONTENT)

  def log_message(self, format, *args):
    pass


@pytest.fixture
def server():
  with http.server.ThreadingHTTPServer(('127.0.0.1', 0), Handler) as running:
    running.requested = []
    running.url = f'http://127.0.0.1:{running.server_address[1]}'
    thread = threading.Thread(target=running.serve_forever, kwargs={'poll_interval': 0.02})
    thread.start()
    yield running
    running.shutdown()
    thread.join()


def fetch(folder, *mirrors):
  return download.fetch('file.gz', MD5, folder, mirrors)


@pytest.mark.parametrize('manner', ['whole', 'whole/', 'unknown_size'])
def test_the_file_arrives_whole_and_alone(server, tmp_path, manner):
  path = fetch(tmp_path, f'{server.url}/{manner}')
  assert path == tmp_path / 'file.gz'
  assert path.read_bytes() == CONTENT
  assert list(tmp_path.iterdir()) == [path]
  assert server.requested == [f'/{manner.rstrip("/")}/file.gz']


@pytest.mark.parametrize(
  ('manner', 'reason'),
  [
    ('cut', '300 of 512,000 bytes'),
    ('damaged', f'should be {MD5}'),
    ('absent', 'HTTP Error 404'),
  ],
)
def test_a_bad_mirror_is_told_and_leaves_nothing(server, tmp_path, manner, reason):
  with pytest.raises(download.DownloadError, match=reason) as error:
    fetch(tmp_path, f'{server.url}/{manner}')
  assert str(error.value).startswith(server.url.removeprefix('http://'))
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('manner', ['cut', 'damaged', 'absent'])
def test_the_next_mirror_is_tried(server, tmp_path, manner):
  path = fetch(tmp_path, f'{server.url}/{manner}', f'{server.url}/whole', f'{server.url}/never')
  assert path.read_bytes() == CONTENT
  assert server.requested == [f'/{manner}/file.gz', '/whole/file.gz']


def test_an_older_file_stays_when_the_new_one_fails(server, tmp_path):
  (tmp_path / 'file.gz').write_bytes(b'older')
  with pytest.raises(download.DownloadError):
    fetch(tmp_path, f'{server.url}/cut')
  assert (tmp_path / 'file.gz').read_bytes() == b'older'


def test_every_mirror_is_named_when_all_fail(server, tmp_path):
  with socket.create_server(('127.0.0.1', 0)) as listener:
    refusing = f'127.0.0.1:{listener.getsockname()[1]}'
  with pytest.raises(download.DownloadError) as error:
    fetch(tmp_path, f'http://{refusing}/', f'{server.url}/absent', 'no-address')
  reasons = str(error.value).split('; ')
  assert reasons[0] == f'{refusing}: Connection refused'
  assert '404' in reasons[1]
  assert reasons[2].startswith('no-address: unknown url type')


def test_a_server_that_says_nothing_is_given_up(tmp_path, monkeypatch):
  monkeypatch.setattr(download, 'TIMEOUT_SEC', 0.3)
  started = time.monotonic()
  with socket.create_server(('127.0.0.1', 0)) as silent:
    with pytest.raises(download.DownloadError, match=r'timed out|no connection'):
      fetch(tmp_path, f'http://127.0.0.1:{silent.getsockname()[1]}')
    assert time.monotonic() - started < 3


def test_a_name_server_that_says_nothing_is_given_up(tmp_path, monkeypatch):
  over = threading.Event()
  before = set(threading.enumerate())

  def wait(*args, **kwargs):
    over.wait(30)
    raise socket.gaierror(-2, 'Name or service not known')

  monkeypatch.setattr(download, 'TIMEOUT_SEC', 0.3)
  monkeypatch.setattr(socket, 'getaddrinfo', wait)
  started = time.monotonic()
  with pytest.raises(download.DownloadError, match='no connection within'):
    fetch(tmp_path, 'http://somewhere.invalid/')
  elapsed = time.monotonic() - started
  over.set()
  for thread in set(threading.enumerate()) - before:
    thread.join()
  assert elapsed < 3


def test_a_folder_that_is_not_there_is_no_fault_of_the_network(server, tmp_path):
  with pytest.raises(FileNotFoundError):
    fetch(tmp_path / 'absent', f'{server.url}/whole')


def read_terminal(leader):
  shown = b''
  # Linux tells with an error that nobody holds the other end any more.
  with contextlib.suppress(OSError):
    while piece := os.read(leader, 4096):
      shown += piece
  os.close(leader)
  return shown.decode()


@pytest.mark.parametrize('manner', ['whole', 'cut'])
def test_a_terminal_shows_progress(server, tmp_path, manner):
  leader, follower = pty.openpty()
  command = [sys.executable, '-c', SCRIPT, f'{server.url}/{manner}', MD5, str(tmp_path)]
  with subprocess.Popen(command, stderr=follower, stdout=subprocess.PIPE) as process:
    os.close(follower)
    shown = read_terminal(leader)
    assert process.stdout.read() == b''
  first_line = shown.split('\n')[0].strip('\r').split('\r')[-1]
  assert first_line.startswith('file.gz')
  assert 'MB/s' in first_line
  assert 'INFO' not in shown
  if manner == 'whole':
    assert '100%  0.5/0.5 MB' in first_line
    assert shown.endswith('\n')
  else:
    assert first_line.split('\x1b')[0].endswith('failed')
    assert 'Traceback' in shown.split('\n')[1]


def test_a_log_file_gets_one_line(server, tmp_path):
  command = [sys.executable, '-c', SCRIPT, f'{server.url}/whole', MD5, str(tmp_path)]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  assert done.stdout == ''
  (line,) = done.stderr.splitlines()
  assert line.startswith('INFO Downloaded file.gz: 0.5 MB in ')
