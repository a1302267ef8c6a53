"""This file gives every submission a colour and a dash, the same in all charts.

Eight colours, found by a search for the largest smallest distance (OKLab) as people with normal
sight, protanopia, deuteranopia and tritanopia see them (Machado et al. 2009): at least 11 there;
their contrast to the page is at least 3:1. From the ninth submission on dashes tell them apart.
"""

LIGHT = (
  '#0346b2', '#9d3c02', '#299f8a', '#5e295b', '#b27f07', '#14779b', '#760e16', '#987df4',
)  # fmt: skip
DARK = (
  '#45aeff', '#e15a08', '#a3fdcc', '#ae649b', '#efc31d', '#7dd9fd', '#f78a95', '#826cee',
)  # fmt: skip
DASHES = ('', '6 3', '2 2.5')
ACCOUNTS = {  # what is scored in one hue, the rest as the phases or grey: (light, dark)
  'data': ('#0b3d91', '#2f62b8'),
  'step': ('#3f7fd0', '#5b9be8'),
  'prepare': ('#7fb0e8', '#9cc6f7'),
  'device': ('#b9d4f3', '#cfe3fb'),
  'setup': ('#8b95a0', '#76818c'),
  'other': ('#d5dae0', '#3a424b'),
}
PHASES = {  # behind curves, so pale: (light, dark)
  'evaluation': ('#f4c95d', '#8a6a14'),
  'recording': ('#b9c4cf', '#4c5864'),
  'checkpoint': ('#8fcfa6', '#2c6b47'),
  'profiling': ('#d9a9e0', '#6c3f75'),
}


def classes(series: int | None) -> str:
  """The classes of what belongs to a submission: its own, its colour's and its dash's."""
  if series is None:
    return 'nobody'
  dash = series // len(LIGHT) % len(DASHES)
  return f's s{series} c{series % len(LIGHT)}' + (f' d{dash}' if dash else '')


def colour(series: int | None) -> str:
  """The colour on paper."""
  return '#444444' if series is None else LIGHT[series % len(LIGHT)]


def css() -> str:
  """The rules for all of them."""
  rules = [f'.c{i}{{--c:var(--c{i})}}' for i in range(len(LIGHT))]
  rules += [f'.d{i}.line{{stroke-dasharray:{dash}}}' for i, dash in enumerate(DASHES) if dash]
  rules += [
    f'.shade.{kind},.share.{kind},.swatch.{kind}{{fill:var(--{kind});background:var(--{kind})}}'
    for kind in (*ACCOUNTS, *PHASES)
  ]
  return '\n'.join(rules)


def variables(dark: bool) -> str:
  """The values of the colours in a theme."""
  colours = {f'c{i}': value for i, value in enumerate(DARK if dark else LIGHT)}
  colours |= {kind: pair[dark] for kind, pair in (ACCOUNTS | PHASES).items()}
  return ''.join(f'--{name}:{value};' for name, value in colours.items())
