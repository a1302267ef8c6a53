"""The command, from a checkout: `python3 submission_runner.py --helpshort`."""

from algorithmic_efficiency.submission_runner import main

if __name__ == '__main__':
  main()
