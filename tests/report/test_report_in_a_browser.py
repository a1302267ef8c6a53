"""The page as a browser shows it: no request, nothing on the console, no text cut off."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import scripts_in_process
from browser import NAMES, Browser, executable
from report_logs import write_metadata, write_telemetry, write_trial

SCRIPT = Path(__file__).resolve().parents[2] / 'scripts' / 'report.py'
MOST_LOAD_MS = 20_000  # a hundred times what it takes: only a page that hangs takes longer

pytestmark = [
  pytest.mark.slow,
  pytest.mark.skipif(executable() is None, reason=f'no browser: none of {", ".join(NAMES)}'),
]

# Texts of one chart that lie on each other, or outside the window.
OVERLAPS = """(() => {
  const found = [];
  document.querySelectorAll('svg.chart').forEach(svg => {
    if (!svg.getClientRects().length) return;
    const boxes = [...svg.querySelectorAll('text')].map(
      text => [text.textContent, text.getBoundingClientRect()]);
    boxes.forEach(([a, p], i) => {
      if (p.left < -0.5 || p.right > innerWidth + 0.5) found.push('cut: ' + a);
      boxes.slice(i + 1).forEach(([b, q]) => {
        const across = Math.min(p.right, q.right) - Math.max(p.left, q.left);
        const down = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
        if (across > 1 && down > 4) found.push(a + ' on ' + b);
      });
    });
  });
  return [found.length, found.slice(0, 5)];
})()"""


@pytest.fixture(scope='module')
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
  opened = Browser(tmp_path_factory.mktemp('profile'))
  yield opened
  opened.close()


@pytest.fixture(scope='module')
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
  """Twenty submissions with long and hostile names."""
  root = tmp_path_factory.mktemp('many')
  for number in range(20):
    name = f'a_submission_with_a_long_name_<b>{number}</b>'.replace('/', '')
    for study in (1, 2, 3):
      folder = root / 'logs' / name / f'study_{study}' / 'digits_jax'
      for run in (1, 2, 3):
        reached = 10.0 + number + run * study if number % 7 else None
        hparams = {'learning_rate': 10.0**-run, 'an_option_with_a_long_name': f'choice {run}'}
        write_trial(folder / f'run_{run}', reached, points=40, hparams=hparams)
        write_telemetry(folder / f'run_{run}', devices=4)
      write_metadata(folder)
  output = root / 'report.html'
  result = scripts_in_process.run(SCRIPT, root / 'logs', '-o', output, '--samples=50')
  assert result.returncode == 0, result.stderr
  return output


@pytest.mark.parametrize('dark', [False, True])
@pytest.mark.parametrize('width', [1280, 390])
def test_the_page_fits_and_asks_for_nothing(browser: Browser, page: Path, width: int, dark: bool):
  browser.open(page, width, dark=dark)
  assert browser.value('document.documentElement.scrollWidth') <= width
  assert browser.told('Runtime.consoleAPICalled', 'Log.entryAdded', 'Runtime.exceptionThrown') == []
  asked = [told['request']['url'] for told in browser.told('Network.requestWillBeSent')]
  assert asked == [page.as_uri()]
  took = browser.value('performance.getEntriesByType("navigation")[0].loadEventEnd')
  print(f'loaded in {took:.0f} ms')
  assert 0 < took < MOST_LOAD_MS
  background = browser.value('getComputedStyle(document.body).backgroundColor')
  assert (background == 'rgb(255, 255, 255)') is not dark


@pytest.mark.parametrize('width', [1280, 390])
def test_no_text_of_a_chart_is_cut_or_written_over(browser: Browser, page: Path, width: int):
  browser.open(page, width)
  browser.value('document.querySelectorAll("details").forEach(one => one.open = true)')
  assert browser.value('document.querySelectorAll("svg.chart").length') > 20
  assert browser.value(OVERLAPS) == [0, []]
  assert browser.value('document.documentElement.scrollWidth') <= width


def test_the_theme_can_be_chosen(browser: Browser, page: Path):
  browser.open(page, 1280)
  script = (
    '[0, 1, 2].map(() => { document.getElementById("theme").click();'
    ' return getComputedStyle(document.body).backgroundColor; })'
  )
  light, dark, system = browser.value(script)
  assert light == system == 'rgb(255, 255, 255)'
  assert dark != light


def test_one_submission_can_be_brought_to_the_front(browser: Browser, page: Path):
  browser.open(page, 1280)
  opacity = '[0, 1].map(i => getComputedStyle(document.querySelector(".chart .s" + i)).opacity)'
  assert browser.value(opacity) == ['1', '1']
  click = 'document.querySelector("button.key[data-series=\'1\']").click()'
  browser.value(click)
  assert browser.value(opacity) == ['0.1', '1']
  browser.value(click)
  assert browser.value(opacity) == ['1', '1']


def test_marks_tell_what_they_are_when_pointed_at(browser: Browser, page: Path):
  browser.open(page, 1280)
  browser.value(
    'document.querySelector(".chart .dot").dispatchEvent('
    'new PointerEvent("pointerover", {bubbles: true, clientX: 400, clientY: 300}))'
  )
  told = browser.value('document.getElementById("tip").textContent')
  assert 'digits, study' in told
  assert browser.value('document.getElementById("tip").hidden') is False


def test_the_page_can_be_read_without_scripts(browser: Browser, page: Path):
  browser.call('Emulation.setScriptExecutionDisabled', value=True)
  try:
    browser.open(page, 390)
    buttons = ('[...document.querySelectorAll("button")].filter('
               'one => one.getClientRects().length).length')  # fmt: skip
    assert browser.value(buttons) == 0
    assert 'leads with a score' in browser.value('document.body.innerText')
  finally:
    browser.call('Emulation.setScriptExecutionDisabled', value=False)
