"""Names of real models, and whether each tensor is a linear map."""

from __future__ import annotations

import pytest

from mergenode.methods.linear_maps import DEFAULT_EXCLUDE, is_linear_map
from mergenode.types import DType, TensorSpec

PROJECTED = [
    "model.layers.0.self_attn.q_proj.weight",
    "model.layers.31.mlp.down_proj.weight",
    "lm_head.weight",
    "vision_model.encoder.layers.3.mlp.fc1.weight",
    "visual_projection.weight",
    "transformer.h.0.attn.c_attn.weight",
    "encoder.block.0.layer.0.SelfAttention.q.weight",
    "bert.encoder.layer.0.attention.self.query.weight",
    "visual.transformer.resblocks.0.attn.in_proj_weight",
    "blocks.0.attn.qkv.weight",
    "classifier.weight",
    "weight",
]
SUMMED = [
    "model.embed_tokens.weight",
    "bert.embeddings.word_embeddings.weight",
    "bert.embeddings.position_embeddings.weight",
    "bert.embeddings.token_type_embeddings.weight",
    "transformer.wte.weight",
    "transformer.wpe.weight",
    "shared.weight",
    "model.shared.weight",
    "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
    "text_model.embeddings.position_embedding.weight",
    "pos_embed",
    "visual.positional_embedding",
    "model.decoder.embed_positions.weight",
    "layers.0.attn.relative_position_bias_table",
    "router.expert_bias",
    "class_embedding",
]


@pytest.mark.parametrize("name", PROJECTED)
def test_linear_maps(name: str) -> None:
    assert is_linear_map(TensorSpec(name, DType.BF16, (64, 32)), (), DEFAULT_EXCLUDE)


@pytest.mark.parametrize("name", SUMMED)
def test_tables_and_bare_parameters(name: str) -> None:
    assert not is_linear_map(TensorSpec(name, DType.BF16, (64, 32)), (), DEFAULT_EXCLUDE)


@pytest.mark.parametrize("shape", [(), (8,), (1, 8), (8, 1), (0, 8), (4, 4, 4), (8, 3, 3, 3)])
def test_only_real_matrices(shape: tuple[int, ...]) -> None:
    assert not is_linear_map(TensorSpec("layer.weight", DType.F32, shape), ("*",), ())


def test_integers_are_never_projected() -> None:
    assert not is_linear_map(TensorSpec("layer.weight", DType.I64, (8, 8)), ("*",), ())


def test_include_overrules_exclude_and_the_suffix() -> None:
    table = TensorSpec("time_embedding.linear_1.weight", DType.F32, (8, 8))
    assert not is_linear_map(table, (), DEFAULT_EXCLUDE)
    assert is_linear_map(table, ("time_embedding.*",), DEFAULT_EXCLUDE)
    assert is_linear_map(TensorSpec("block.kernel", DType.F32, (8, 8)), ("*.kernel",), ())


def test_patterns_are_case_sensitive() -> None:
    spec = TensorSpec("Router.weight", DType.F32, (8, 8))
    assert is_linear_map(spec, (), ("router*",))
    assert not is_linear_map(spec, (), ("Router*",))
