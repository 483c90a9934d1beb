"""Tells good reviews from bad ones with a Hugging Face sequence classifier, head and all.

python text_task.py                         # base/: tiny, of random weights; put your own model there
mergenode task check -c text-node.yaml
"""

from pathlib import Path

import torch
from transformers import AutoConfig, AutoModelForSequenceClassification, BertConfig

BASE = Path(__file__).parent / "base"  # or the name of a model that is on this machine already
REVIEWS = [("a fine film", 1), ("a dull film", 0), ("fine and short", 1), ("long and dull", 0)]
WORDS = sorted({word for text, _ in REVIEWS for word in text.split()})


def batch_of(reviews):
    """Here a word is a token; AutoTokenizer.from_pretrained(BASE) does it with ``return_tensors="pt"``."""
    tokens = torch.tensor([[WORDS.index(word) + 1 for word in text.split()] for text, _ in reviews])
    labels = torch.tensor([label for _, label in reviews])
    return {"input_ids": tokens, "attention_mask": torch.ones_like(tokens), "labels": labels}


class Task:
    def build_model(self):
        return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(BASE))

    def calibration_batches(self):
        yield batch_of(REVIEWS[:2])
        yield batch_of(REVIEWS[2:])

    def loss(self, model, batch):
        return model(**batch).loss

    def evaluate(self, model):
        batch = batch_of(REVIEWS)
        labels = batch.pop("labels")
        return {"accuracy": (model(**batch).logits.argmax(dim=1) == labels).float().mean()}


if __name__ == "__main__":
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = BertConfig(vocab_size=len(WORDS) + 1, max_position_embeddings=16, num_labels=2, **sizes)
    AutoModelForSequenceClassification.from_config(config).save_pretrained(BASE)
