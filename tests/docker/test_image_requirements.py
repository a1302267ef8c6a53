"""docker/requirements.py: which packages an image gets; and that every one of them has its pin."""

import configparser
import re
import shutil
from pathlib import Path

import pytest
import scripts_in_process

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / 'docker' / 'requirements.py'


def lines(*arguments):
  done = scripts_in_process.run(SCRIPT, *arguments)
  assert done.returncode == 0, done.stderr
  return done.stdout.splitlines()


def names(*arguments):
  return {re.split(r'[\[<>=!~; ]', line)[0].lower() for line in lines(*arguments)}


def test_the_core_and_the_extras_named_are_printed_without_comments():
  config = configparser.ConfigParser()
  config.read(ROOT / 'setup.cfg')
  core = config['options']['install_requires'].split()[-5:]
  assert lines() == core
  assert lines('plots') == [*core, *config['options.extras_require']['plots'].split()]
  assert not [line for line in lines('data', 'jax') if '#' in line or not line.strip()]


def test_what_two_extras_bring_is_there_once():
  both = lines('data', 'images')
  assert len([line for line in both if line.startswith('pillow')]) == 1


@pytest.mark.parametrize(
  ('image', 'frameworks', 'there', 'absent'),
  [
    ('cpu', 'jax', {'jax', 'flax', 'rich', 'matplotlib', 'pyyaml'}, {'torch', 'habana-pyhlml'}),
    ('cpu', 'pytorch', {'torch', 'nvidia-ml-py', 'schedulefree'}, {'jax', 'flax'}),
    ('cuda', 'jax,pytorch', {'torch', 'jax', 'nvidia-ml-py'}, {'habana-pyhlml', 'docker'}),
    ('habana', 'pytorch', {'habana-pyhlml', 'matplotlib'}, {'torch', 'jax', 'schedulefree'}),
  ],
)
def test_an_image_has_what_it_runs_and_no_more(image, frameworks, there, absent):
  found = names(f'--image={image}', f'--frameworks={frameworks}')
  assert there <= found
  assert not absent & found


def test_jax_for_gpus_comes_with_cuda():
  assert any(line.startswith('jax[cuda') for line in lines('--image=cuda', '--frameworks=jax'))


@pytest.mark.parametrize('image', ['cpu', 'cuda'])
def test_whatever_an_image_asks_for_has_an_exact_pin(image):
  text = (ROOT / 'docker' / f'constraints-{image}.txt').read_text()
  pins = [line for line in text.splitlines() if line and not line.startswith('#')]
  assert all(re.fullmatch(r'[\w.-]+==[\w.]+', pin) for pin in pins)
  assert names(f'--image={image}') <= {pin.partition('==')[0].lower() for pin in pins}


def test_gaudis_keep_what_is_their_vendors():
  text = (ROOT / 'docker' / 'constraints-habana.txt').read_text()
  assert not re.search(r'^(torch|numpy|habana\S*)\b', text, re.M | re.I)
  vendors = {'numpy', 'habana-pyhlml'}
  asked = names('--image=habana', '--frameworks=pytorch') - vendors
  assert asked <= {line.partition('==')[0].lower() for line in text.splitlines()}


def test_the_images_agree_on_the_versions_that_they_share():
  pins = {}
  for image in ('cpu', 'cuda', 'habana'):
    for line in (ROOT / 'docker' / f'constraints-{image}.txt').read_text().splitlines():
      if '==' in line and not line.startswith('#'):
        name, _, version = line.partition('==')
        pins.setdefault(name.lower().replace('_', '-'), set()).add(version)
  assert not {name: versions for name, versions in pins.items() if len(versions) > 1}


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['nonsense'], "setup.cfg has no extra 'nonsense'; it has jax,"),
    (['--image=tpu'], "'tpu' is no accelerator; give cpu, cuda, habana."),
    (['--image=habana', '--frameworks=jax'], 'jax does not run on habana; give pytorch.'),
    (['--image=habana'], 'jax does not run on habana; give pytorch.'),
    (['--image=cpu', '--frameworks=tensorflow'], "'tensorflow' is no framework; give jax,"),
    (['--image=cpu', '--frameworks='], "'' is no framework"),
    (['--image=cpu', '--frameworks=jax,jax'], "'jax,jax' names a framework twice"),
  ],
)
def test_a_wrong_request_is_one_line_and_exit_code_2(arguments, message):
  done = scripts_in_process.run(SCRIPT, *arguments)
  assert done.returncode == 2
  assert done.stdout == ''
  assert message in done.stderr
  assert done.stderr.count('\n') == 1


def test_without_a_setup_cfg_it_says_so(tmp_path):
  (tmp_path / 'folder').mkdir()
  script = shutil.copy(SCRIPT, tmp_path / 'folder')
  done = scripts_in_process.run(Path(script), 'jax')
  assert done.returncode == 2
  assert 'there is no setup.cfg' in done.stderr
