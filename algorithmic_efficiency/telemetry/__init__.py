"""What the machine does while a network trains: one source a file, `probe()` and `read()` each."""

MODES = ('off', 'row', 'continuous')
