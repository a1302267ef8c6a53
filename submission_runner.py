"""The command, from a checkout: `python3 submission_runner.py --helpshort`."""

if __name__ == '__main__':
  import signal

  signal.signal(signal.SIGINT, signal.SIG_DFL)  # no traceback while the imports below run
  from algorithmic_efficiency.submission_runner import main

  main()
