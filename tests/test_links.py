"""Every link in the documents leads somewhere."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SKIPPED = {'.venv', '.git', 'node_modules', 'logs'}

DOCUMENTS = [path for path in ROOT.rglob('*.md') if not SKIPPED & set(path.relative_to(ROOT).parts)]


@pytest.mark.parametrize('document', DOCUMENTS, ids=lambda p: str(p.relative_to(ROOT)))
def test_links_exist(document):
  text = re.sub(r'```.*?```', '', document.read_text(encoding='utf-8'), flags=re.S)
  for target in re.findall(r'\]\(([^)\s]+)\)', text):
    if re.match(r'[a-z]+:', target) or target.startswith('#'):
      continue
    path = document.parent / target.partition('#')[0]
    assert path.exists(), f'{document.relative_to(ROOT)} links to {target}, which is not there'


def test_the_readme_is_there():
  assert ROOT / 'README.md' in DOCUMENTS


def test_the_scripts_named_in_documents_exist():
  for document in DOCUMENTS:
    for name in re.findall(r'\b(?:bash|python3?) ([\w./]+\.(?:sh|py))', document.read_text()):
      candidates = (ROOT / name, document.parent / name)
      assert any(c.exists() for c in candidates), f'{document.relative_to(ROOT)} names {name}'


@pytest.mark.parametrize('script', sorted((ROOT / 'scripts').glob('*.sh')), ids=lambda p: p.name)
def test_scripts_parse(script):
  subprocess.run(['bash', '-n', str(script)], check=True)
