"""What the machine does while a network trains: one source a file, `probe()` and `read()` each."""

MODES = ('off', 'row', 'continuous')
SCHEMA = 1  # of telemetry.jsonl, whoever writes it
