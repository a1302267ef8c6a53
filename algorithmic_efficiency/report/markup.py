"""This file makes elements of HTML and SVG; all text in them is escaped when they are written."""

import re
import xml.etree.ElementTree as ET
from collections.abc import Iterable
from typing import Any

Child = Any  # an element, a text, None, or several of them

# Characters that no HTML may hold, and halves of characters that no file can.
_FORBIDDEN = re.compile('[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]')


def element(name: str, /, *children: Child, **attributes: Any) -> ET.Element:
  """An element; `class_` and `data_x` mean class and data-x, and what is None is left out."""
  made = ET.Element(name)
  for key, value in attributes.items():
    if value is not None:
      made.set(key.rstrip('_').replace('_', '-'), clean(str(value)))
  append(made, children)
  return made


def append(parent: ET.Element, children: Child) -> None:
  """Adds elements and texts, in their order."""
  if children is None:
    return
  if isinstance(children, ET.Element):
    parent.append(children)
  elif isinstance(children, str):
    last = parent[-1] if len(parent) else None
    if last is None:
      parent.text = (parent.text or '') + clean(children)
    else:
      last.tail = (last.tail or '') + clean(children)
  elif isinstance(children, Iterable):
    for child in children:
      append(parent, child)
  else:
    append(parent, str(children))


def clean(text: str) -> str:
  """The text with a sign in place of what HTML cannot hold."""
  return _FORBIDDEN.sub('\ufffd', text)


def write(made: ET.Element) -> str:
  """The element as HTML."""
  return ET.tostring(made, encoding='unicode', method='html')
