"""A script as one would write it by hand, up to its first step on the digits, in PyTorch."""

import json
import sys
import time

import numpy as np
import torch

device = torch.device('cuda' if torch.cuda.is_available() else 'cpu')
data = np.load(sys.argv[1])
images = ((data['images'] / 16.0 - 0.305) / 0.376).astype(np.float32)
labels = data['labels'].astype(np.int64)
model = torch.nn.Sequential(
  torch.nn.Flatten(), torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10)
).to(device)
adam = torch.optim.Adam(model.parameters(), lr=1e-3)

order = np.random.default_rng(0).permutation(1197)[:64]
inputs, targets = torch.from_numpy(images[order]), torch.from_numpy(labels[order])
loss = torch.nn.functional.cross_entropy(model(inputs.to(device)), targets.to(device))
loss.backward()
adam.step()
if device.type == 'cuda':
  torch.cuda.synchronize()
print(json.dumps({'first_step_at': time.time()}))
