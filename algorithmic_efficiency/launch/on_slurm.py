"""This file is written in a moment."""


def add_flags(group):
  pass


def run(given, plan, folder, say):
  return 1
