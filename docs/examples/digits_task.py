"""Reads handwritten digits, dark on white and white on dark. Run as a program, it makes the models that it is about.

python digits_task.py                       # base/ and inbox/negative/, trained for a few seconds
mergenode task check -c digits-node.yaml
"""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

KINDS = {"plain": lambda images: images, "negative": lambda images: 1 - images}


class Task:
    """The data are made once, in ``__init__``; every method sees the same ones."""

    def __init__(self):
        bundled = load_digits()  # 1,797 images of 8x8 pixels, nothing is downloaded
        images = torch.from_numpy(bundled.images).float() / 16
        labels = torch.from_numpy(bundled.target)
        order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
        self.train_images, self.test_images = images[order].split([1200, 597])
        self.train_labels, self.test_labels = labels[order].split([1200, 597])

    def build_model(self):
        return nn.Sequential(nn.Flatten(), nn.Linear(64, 48), nn.GELU(), nn.LayerNorm(48), nn.Linear(48, 10))

    def calibration_batches(self):
        for change in KINDS.values():
            yield change(self.train_images[:64]), self.train_labels[:64]

    def loss(self, model, batch):
        images, labels = batch
        return functional.cross_entropy(model(images), labels)

    def evaluate(self, model):
        return {
            name: (model(change(self.test_images)).argmax(dim=1) == self.test_labels).float().mean()
            for name, change in KINDS.items()
        }

    def train(self, model, round, kinds=tuple(KINDS), steps=100):
        generator = torch.Generator().manual_seed(round)  # another draw in every round, the same one when repeated
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for step in range(steps):
            chosen = torch.randint(len(self.train_labels), (128,), generator=generator)
            images = KINDS[kinds[step % len(kinds)]](self.train_images[chosen])
            loss = self.loss(model, (images, self.train_labels[chosen]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return {"loss": loss.detach()}


def save(model, directory):
    directory.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({"model_type": "digits"}))


if __name__ == "__main__":
    torch.manual_seed(0)
    task, here = Task(), Path(__file__).parent
    model = task.build_model()
    task.train(model, round=0, kinds=["plain"])
    save(model, here / "base")
    task.train(model, round=1, kinds=["negative"])
    save(model, here / "inbox" / "negative")
