"""Two teams tune one small encoder of handwritten digits, each for its own question, each with its own fixed head.

python halves_task.py                       # base/, even/ and high/
python halves_task.py base merged refined   # how many answers each of these gets right
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

QUESTIONS = {"even": lambda digit: digit % 2, "high": lambda digit: (digit >= 5).long()}
WIDTH = 16


def heads():
    """Fixed before anybody trains: two classes each, (2, WIDTH). They are no part of the checkpoints."""
    draw = torch.Generator().manual_seed(3)
    return {name: torch.randn(2, WIDTH, generator=draw) for name in QUESTIONS}


class Task:
    def build_model(self):
        return nn.Sequential(
            nn.Flatten(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, 64), nn.GELU(), nn.Linear(64, WIDTH)
        )

    def probes(self):
        draw = torch.Generator().manual_seed(0)
        for _ in range(100):
            blurred = functional.avg_pool2d(torch.rand(32, 1, 12, 12, generator=draw), 3, stride=1)[:, 0, 1:9, 1:9]
            yield (4 * (blurred - 0.4)).clamp(0, 1)

    def outputs(self, model, batch):
        return model(batch)

    def head(self, contribution):
        return heads().get(contribution)


def data():
    bundled = load_digits()
    images, digits = torch.from_numpy(bundled.images).float() / 16, torch.from_numpy(bundled.target)
    order = torch.randperm(len(digits), generator=torch.Generator().manual_seed(0))
    return images[order].split([1200, 597]), digits[order].split([1200, 597])


def train(model, question, head, steps=300):
    (images, _), (digits, _) = data()
    draw = torch.Generator().manual_seed(1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    for _ in range(steps):
        chosen = torch.randint(len(images), (64,), generator=draw)
        value = functional.cross_entropy(model(images[chosen]) @ head.T, question(digits[chosen]))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()


def save(model, directory):
    directory.mkdir(parents=True, exist_ok=True)
    save_file(model.state_dict(), directory / "model.safetensors", {"format": "pt"})
    (directory / "config.json").write_text(json.dumps({"model_type": "halves"}))


def make(here):
    torch.manual_seed(0)
    model, digits = Task().build_model(), torch.randn(10, WIDTH)
    train(model, lambda digit: digit, digits)
    save(model, here / "base")
    for name, question in QUESTIONS.items():
        model.load_state_dict(load_file(here / "base" / "model.safetensors"))
        train(model, question, heads()[name])
        save(model, here / name)


def scores(directory):
    model, ((_, images), (_, digits)) = Task().build_model(), data()
    model.load_state_dict(load_file(directory / "model.safetensors"))
    with torch.no_grad():
        said = model(images)
    right = {name: (said @ head.T).argmax(1) == QUESTIONS[name](digits) for name, head in heads().items()}
    return {name: float(answers.float().mean()) for name, answers in right.items()}


if __name__ == "__main__":
    if len(sys.argv) == 1:
        make(Path(__file__).parent)
    for name in sys.argv[1:]:
        print(name, *(f"{question} {score:.3f}" for question, score in scores(Path(name)).items()))
