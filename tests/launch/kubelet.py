"""What a node of a Kubernetes cluster does with a manifest, as far as tests need it."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

INDEX = "metadata.annotations['batch.kubernetes.io/job-completion-index']"


def read(path: Path) -> list[dict[str, Any]]:
  """The objects of a file, or of all files of a folder in the order kubectl takes them."""
  files = sorted(path.glob('*.yaml')) if path.is_dir() else [path]
  return [found for file in files for found in yaml.safe_load_all(file.read_text())]


def jobs(objects: list[dict[str, Any]]) -> list[dict[str, Any]]:
  """Those that are Jobs."""
  return [found for found in objects if found['kind'] == 'Job']


def container(job: dict[str, Any]) -> dict[str, Any]:
  """The only container of a Job's pods."""
  (only,) = job['spec']['template']['spec']['containers']
  return only


def environment(job: dict[str, Any], index: int) -> dict[str, str]:
  """The variables of the pod with a completion index."""
  found = {}
  for variable in container(job)['env']:
    if 'value' in variable:
      found[variable['name']] = variable['value']
    else:
      assert variable['valueFrom'] == {'fieldRef': {'fieldPath': INDEX}}
      found[variable['name']] = str(index)
  return found


def words(job: dict[str, Any], index: int) -> list[str]:
  """The arguments of that pod: $(NAME) is replaced by the container's own variables."""
  known = environment(job, index)
  return [re.sub(r'\$\((\w+)\)', lambda m: known[m[1]], word) for word in container(job)['args']]


def start(
  objects: list[dict[str, Any]], job: dict[str, Any], index: int, root: Path, **more: str
) -> subprocess.Popen[str]:
  """Starts a pod's very command as a process; folders below `root` are its volumes."""
  spec = job['spec']['template']['spec']
  sources = {volume['name']: volume for volume in spec['volumes']}
  folders = {}
  for mount in container(job)['volumeMounts']:
    folder = root / mount['name']
    folder.mkdir(parents=True, exist_ok=True)
    folders[mount['mountPath']] = folder
    if 'configMap' in sources[mount['name']]:
      named = sources[mount['name']]['configMap']['name']
      (content,) = (o['data'] for o in objects if o['metadata']['name'] == named)
      for name, text in content.items():
        (folder / name).write_text(text)
  python, *rest = words(job, index)
  assert python == 'python3'
  for inside, outside in folders.items():
    rest = [re.sub(f'={inside}(?=/|$)', f'={outside}', word) for word in rest]
  return subprocess.Popen(
    [sys.executable, *rest], env={**os.environ, **environment(job, index), **more},
    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
  )  # fmt: skip


def end(process: subprocess.Popen[str], seconds: float = 120) -> str:
  """What it printed, once it has ended."""
  out, _ = process.communicate(timeout=seconds)
  return out
