"""A stand-in for the package that brings an HPU to PyTorch; see torch/__init__.py."""
