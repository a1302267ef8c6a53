"""This file puts all of it into one page that opens anywhere, without a network.

The page's policy forbids it to load anything, and to run any script but its own, told by digest.
All text that comes from logs is escaped.
"""

import base64
import hashlib
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any

from algorithmic_efficiency.errors import UsageError
from algorithmic_efficiency.records.run_folder import TrialFolder
from algorithmic_efficiency.report import (
  effects,
  hardware,
  palette,
  ran,
  results,
  scales,
  svg,
  thinning,
)
from algorithmic_efficiency.report.contents import Contents, Run
from algorithmic_efficiency.report.figure import Figure
from algorithmic_efficiency.report.markup import clean, element, write
from algorithmic_efficiency.report.recorded import Study, Trial
from algorithmic_efficiency.report.tables import Table

_MOST_EFFECT_CHARTS = 48
_MOST_EFFECT_ROWS = 80
_EFFECTS_OPEN = 9  # charts that are shown at once; more are folded away by submission
_MOST_KEYS = 60


@dataclass
class Section:
  """A part of the page."""

  id: str
  title: str
  body: list[Any]


@dataclass
class Page:
  """The page, and all that it shows as data.

  Attributes:
    html: the file.
    figures, tables: for pictures and CSV.
  """

  html: str
  figures: list[Figure] = field(default_factory=list[Figure])
  tables: list[Table] = field(default_factory=list[Table])


@dataclass(frozen=True)
class Material:
  """What a page is made of.

  Attributes:
    contents: the results.
    trials, studies: what they recorded besides.
    hardware_runs: of how many trials the hardware is drawn.
    made: when and with which version, for the foot of the page.
    tell: called with what is done now.
  """

  contents: Contents
  trials: Sequence[Trial]
  studies: Sequence[Study]
  hardware_runs: int = 4
  made: str = ''
  tell: Callable[[str], None] = lambda what: None


def build(material: Material) -> Page:
  """Makes the page. Raises UsageError for a record that cannot be read."""
  page, sections = Page(''), list[Section]()
  for make in (_leaderboard, _profiles, _times, _curves, _effects, _time_split, _hardware,
               _failures, _reproduce, _notes):  # fmt: skip
    material.tell(make.__name__.strip('_').replace('_', ' '))
    sections.append(make(material, page))
  page.html = _write(material, sections)
  return page


def _leaderboard(material: Material, page: Page) -> Section:
  table = results.leaderboard(material.contents)
  page.tables.append(table)
  body: list[Any] = [table.html()]
  if material.contents.rules:
    body.append(element('p', ' '.join(material.contents.rules), class_='quiet'))
  return Section('leaderboard', 'Leaderboard', body)


def _profiles(material: Material, page: Page) -> Section:
  figure = results.profiles(material.contents)
  if figure is None:
    text = 'There are no performance profiles: they need a target that somebody reached.'
    return Section('profiles', 'Performance profiles', [element('p', text, class_='quiet')])
  page.figures.append(figure)
  text = (
    'How many workloads a submission trained to their targets within a multiple of the fastest '
    'submission’s time. Further up and to the left is better; the score is the area below. '
  )
  if figure.bands:
    text += 'Bands: pointwise 95 % intervals'
    many = len(figure.lines) > results.MOST_BANDS
    text += f' of the first {results.MOST_BANDS} submissions.' if many else '.'
  body = [element('p', text), _wide(figure, 380, caption=False)]
  return Section('profiles', 'Performance profiles', body)


def _times(material: Material, page: Page) -> Section:
  table = results.times(material.contents)
  page.tables.append(table)
  return Section('times', 'Time to target', [table.html()])


def _curves(material: Material, page: Page) -> Section:
  figures = list(results.learning_curves(material.contents))
  page.figures += figures
  if not figures:
    text = 'No trial made an evaluation, so there are no learning curves.'
    return Section('curves', 'Learning curves', [element('p', text, class_='quiet')])
  text = (
    'The validation metric over submission time. Strong: the trial that each study counts with, '
    'a dot where it met the target, or the one that came closest. Pale: all other trials. The '
    'metric’s axis fits what came after the first tenth of the time shown; points less than '
    f'{thinning.TOLERANCE_PIXELS} pixels from the drawn line are left out.'
  )
  charts = _wide(figures[0], 420) if len(figures) == 1 else _panels(figures)
  body = [element('p', text), _keys(material, False), charts]
  return Section('curves', 'Learning curves', body)


def _wide(figure: Figure, height: int, caption: bool = True) -> ET.Element:
  """A chart as wide as the page, and another for a phone, of which one is shown."""
  needed = svg.height_for(sum(bool(line.label) for line in figure.lines))
  name = figure.name
  return element(
    'figure',
    _caption(figure) if caption else None,
    element('div', svg.draw(figure, 1120, max(height, needed), f'wide-{name}'), class_='wide'),
    element('div', svg.draw(figure, 352, max(290, needed), f'narrow-{name}'), class_='narrow'),
  )


def _caption(figure: Figure) -> ET.Element:
  note = element('span', f' {figure.note}', class_='quiet') if figure.note else None
  return element('figcaption', figure.title, note)


def _panels(figures: Sequence[Figure]) -> ET.Element:
  return element('div', [_panel(figure) for figure in figures], class_='panels')


def _panel(figure: Figure) -> ET.Element:
  return element('figure', _caption(figure), svg.draw(figure))


def _effects(material: Material, page: Page) -> Section:
  found = effects.effects(material.contents)
  title = 'Hyperparameters'
  if not found:
    text = 'No hyperparameter was varied over the trials, or the logs do not tell them.'
    return Section('effects', title, [element('p', text, class_='quiet')])
  material.tell(f'hyperparameters: {len(found)} charts')
  drawn = list(effects.figures(found[:_MOST_EFFECT_CHARTS], material.contents))
  table = effects.table(found)
  page.tables.append(table)
  page.figures += [figure for _, figure in drawn]
  text = (
    'Every dot is a trial. Where at least two trials of a submission met the target, the outcome '
    'is the time to it, with open dots in the strip above for trials that never did; else it is '
    'the best value of the metric.'
  )
  body: list[Any] = [element('p', text), *_effect_panels(drawn)]
  if len(found) > len(drawn):
    left = scales.count(len(found) - len(drawn), 'chart')
    body.append(element('p', f'{left} more left out; the table has them.', class_='quiet'))
  body.append(_folded(table, _MOST_EFFECT_ROWS, f'Rank correlations ({len(found):,})'))
  return Section('effects', title, body)


def _effect_panels(drawn: Sequence[tuple[effects.Effect, Figure]]) -> Iterator[ET.Element]:
  groups: dict[str, list[Figure]] = {}
  for effect, figure in drawn:
    groups.setdefault(f'{effect.submission} on {effect.workload}', []).append(figure)
  shown = 0
  for name, figures in groups.items():
    opened = '' if shown < _EFFECTS_OPEN else None
    shown += len(figures)
    yield element('details', element('summary', name), _panels(figures), open=opened)


def _folded(table: Table, most: int, summary: str) -> ET.Element:
  rest = len(table.rows) - most
  more = None
  if rest > 0:
    text = f'{scales.count(rest, "row")} more: all are in the CSV that --tables writes.'
    more = element('p', text, class_='quiet')
  return element('details', element('summary', summary), table.html(most), more)


def _time_split(material: Material, page: Page) -> Section:
  body, tables = ran.time_section(material.trials)
  page.tables += tables
  return Section('split', 'Where the time went', body)


def _hardware(material: Material, page: Page) -> Section:
  title, contents = 'Hardware', material.contents
  having = [r for r in contents.runs if r.folder and TrialFolder(r.folder).telemetry.exists()]
  chosen, left_out = hardware.choose(having, material.hardware_runs)
  if not having:
    text = 'No trial here has a telemetry.jsonl, so what the hardware did is not known.'
    return Section('hardware', title, [element('p', text, class_='quiet')])
  body, phases, absent = list[Any](), dict[str, None](), dict[str, None]()
  opened = False
  for run in chosen:
    shown, problem = _hardware_of(run)
    if shown is None:
      body.append(element('p', f'{run.name}: {problem}', class_='quiet'))
      continue
    page.figures += shown.figures
    phases |= dict.fromkeys(shown.phases)
    absent |= dict.fromkeys([shown.absent] if shown.absent else [])
    charts = element('details', element('summary', run.name), _panels(shown.figures),
                     open=None if opened else '')  # fmt: skip
    opened = True
    body.append(charts)
  keys = [element('li', element('span', class_=f'swatch {kind}'), kind, class_='key')
          for kind in phases]  # fmt: skip
  legend = element('ul', keys, class_='keys') if keys else None
  text = (
    f'{scales.count(len(chosen), "trial")}, the longest of each submission and workload first. '
    ' Unshaded: training; the darker a shade, the more of that moment.'
  )
  if left_out:
    text += f' Left out: {scales.count(left_out, "trial")}; --hardware_runs shows more.'
  notes = [element('p', reason, class_='quiet') for reason in absent]
  return Section('hardware', title, [element('p', text), legend, *body, *notes])


def _hardware_of(run: Run) -> tuple[hardware.Hardware | None, str]:
  assert run.folder is not None
  try:
    shown = hardware.of_trial(TrialFolder(run.folder), run.name)
  except UsageError as error:
    return None, str(error)
  if shown is None or not shown.figures:
    return None, 'it was too short for two samples.'
  return shown, ''


def _failures(material: Material, page: Page) -> Section:
  body, table = ran.failures(material.trials)
  page.tables += [table] if table else []
  return Section('failures', 'Failures', body)


def _reproduce(material: Material, page: Page) -> Section:
  body, table = ran.reproduce(material.studies)
  page.tables += [table] if table else []
  if table is not None:
    text = 'The command of each study as it was given, and what it ran on.'
    body = [element('p', text), *body]
  return Section('reproduce', 'Reproduce', body)


def _notes(material: Material, page: Page) -> Section:
  warnings = material.contents.warnings
  if not warnings:
    return Section('notes', 'Notes', [element('p', 'Scoring had nothing to object.')])
  shown = [element('li', warning) for warning in warnings[:200]]
  return Section('notes', 'Notes', [element('ul', shown)])


def _keys(material: Material, buttons: bool) -> ET.Element:
  """The submissions with their lines; as buttons they bring one to the front."""
  parts = list[ET.Element]()
  for series, name in enumerate(material.contents.submissions[:_MOST_KEYS]):
    line = element('path', d='M1 5h20', class_=f'line {palette.classes(series)}')
    sign = element('svg', line, viewBox='0 0 22 10', aria_hidden='true')
    if buttons:
      parts.append(element('button', sign, name, type='button', class_='key', data_series=series,
                           aria_pressed='false'))  # fmt: skip
    else:
      parts.append(element('li', sign, name, class_='key'))
  if buttons:
    return element('div', parts, class_='keys needs-script')
  return element('ul', parts, class_='keys')


def _write(material: Material, sections: Sequence[Section]) -> str:
  contents = material.contents
  trials = scales.count(len(contents.runs), 'trial')
  facts = (
    f'{scales.count(len(contents.submissions), "submission")}, '
    f'{scales.count(len(contents.goals), "workload")}, {trials}.'
  )
  header = element(
    'header',
    element(
      'div',
      element('div', element('h1', contents.title),
              element('button', 'Theme', type='button', id='theme', class_='needs-script'),
              class_='bar'),
      element('p', results.verdict(contents), class_='verdict'),
      element('p', facts, class_='facts'),
      class_='inner',
    ),
  )  # fmt: skip
  links = [element('a', section.title, href=f'#{section.id}') for section in sections]
  nav = element('nav', element('div', links, class_='inner'), aria_label='Sections')
  main = element('main')
  for section in sections:
    main.append(element('section', element('h2', section.title), *section.body, id=section.id))
    if section.id == 'leaderboard' and len(contents.submissions) > 1:
      section_of = main[-1]
      section_of.append(element('p', 'Bring to the front, in all charts:',
                                class_='quiet needs-script'))  # fmt: skip
      section_of.append(_keys(material, buttons=True))
  footer = element('footer', material.made)
  tip = element('div', id='tip', class_='tip', hidden='', role='status')
  return _document(contents.title, [header, nav, main, footer, tip])


def _document(title: str, parts: Sequence[ET.Element]) -> str:
  style, script = _style(), _resource('page.js')
  policy = (
    f"default-src 'none'; style-src '{_digest(style)}'; script-src '{_digest(script)}'; "
    "base-uri 'none'; form-action 'none'"
  )
  head = element(
    'head',
    element('meta', charset='utf-8'),
    element('meta', http_equiv='Content-Security-Policy', content=policy),
    element('meta', name='viewport', content='width=device-width, initial-scale=1'),
    element('meta', name='color-scheme', content='light dark'),
    element('meta', name='referrer', content='no-referrer'),
    element('title', title),
  )
  body = element('body', *parts)
  # ElementTree writes no raw text: the page's own style and script are put in as they are.
  top = write(head).replace('</head>', f'<style>{style}</style></head>')
  bottom = write(body).removesuffix('</body>')
  return (
    f'<!DOCTYPE html>\n<html lang="en">\n{top}\n{bottom}<script>{script}</script></body>\n</html>\n'
  )


def _digest(text: str) -> str:
  return 'sha256-' + base64.b64encode(hashlib.sha256(clean(text).encode()).digest()).decode()


def _resource(name: str) -> str:
  return resources.files('algorithmic_efficiency.report').joinpath(name).read_text(encoding='utf-8')


_DARK = (
  'color-scheme: dark; --bg: #14171b; --ink: #e8eaed; --muted: #9aa4ae; --line: #2b3138; '
  '--soft: #1c2026; --accent: #45aeff; --bad: #ff8f84;'
)


def _style() -> str:
  style = _resource('page.css')
  style = style.replace('LIGHT_COLOURS', palette.variables(dark=False))
  style = style.replace('DARK_THEME', _DARK + palette.variables(dark=True))
  return f'{style}{palette.css()}\n'
