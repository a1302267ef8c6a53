"""Finding and checking a training algorithm ("submission")."""
