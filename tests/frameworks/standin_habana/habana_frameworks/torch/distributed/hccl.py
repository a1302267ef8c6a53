"""Makes PyTorch know the backend; here only that it was imported is counted."""

from habana_frameworks.torch import count

count('hccl')
