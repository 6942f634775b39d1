"""Configuration of the compact encoder, as model files and Hugging Face directories spell it."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

FULL, LOCAL = "full_attention", "sliding_attention"
MAX_LAYERS = 256
COMPACT_SIZE = (128, 4)  # units of a hidden state, layers
HEAD_SIZE = 32  # units of an attention head of a new encoder
SIZES = (
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "local_attention",
)
# parts that our encoder lacks, and the values at which a ModernBERT does without them
ABSENT = {
    "hidden_activation": "gelu",
    "attention_dropout": 0,
    "embedding_dropout": 0,
    "mlp_dropout": 0,
    "is_causal": False,
    "is_decoder": False,
    "rope_scaling": None,
}
# fields of `transformers.ModernBertConfig` that model files keep; many have no effect on the encoder
KNOWN_FIELDS = frozenset(
    """attention_bias attention_dropout bos_token_id classifier_activation classifier_bias
    classifier_dropout classifier_pooling cls_token_id decoder_bias deterministic_flash_attn
    embedding_dropout eos_token_id hidden_activation hidden_size initializer_cutoff_factor
    initializer_range intermediate_size layer_types local_attention max_position_embeddings mlp_bias
    mlp_dropout model_type norm_bias norm_eps num_attention_heads num_hidden_layers pad_token_id
    rope_parameters sep_token_id sparse_pred_ignore_index sparse_prediction tie_word_embeddings
    vocab_size""".split()
)
# earlier spellings, and what replaced them
EARLIER_FIELDS = {
    "global_attn_every_n_layers": "layer_types",
    "global_rope_theta": "rope_parameters",
    "local_rope_theta": "rope_parameters",
    "rope_scaling": "rope_parameters",
}


@dataclass(frozen=True)
class EncoderConfig:
    """Sizes and options of an encoder, with the names and defaults of `transformers.ModernBertConfig`.

    Attributes
    ----------
    rope_theta : base of the rotary frequencies, by layer type
    layer_types : of each layer, "full_attention" or "sliding_attention"
    local_attention : tokens in the sliding window of a local layer, on both sides together
    """

    vocab_size: int
    rope_theta: dict[str, float]
    layer_types: tuple[str, ...]
    hidden_size: int = 768
    intermediate_size: int = 1152
    num_hidden_layers: int = 22
    num_attention_heads: int = 12
    local_attention: int = 128
    norm_eps: float = 1e-5
    norm_bias: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    pad_token_id: int | None = 50283
    initializer_range: float = 0.02
    initializer_cutoff_factor: float = 2.0
    model_type: str = "modernbert"
    hidden_activation: str = "gelu"

    @property
    def head_size(self) -> int:
        """Units of an attention head."""
        return self.hidden_size // self.num_attention_heads

    @property
    def sliding_window(self) -> int:
        """Tokens on either side that a token of a local layer attends to."""
        return self.local_attention // 2

    @classmethod
    def from_dict(cls, config: dict[str, Any]) -> EncoderConfig:
        """Read the fields that matter.

        Raises
        ------
        ValueError : a value cannot be used.
        """
        values = {field.name: config[field.name] for field in fields(cls) if field.name in config}
        sizes: dict[str, Any] = {name: values.get(name, getattr(cls, name, None)) for name in SIZES}
        every = config.get("global_attn_every_n_layers", 3)
        for name, value in (sizes | {"global_attn_every_n_layers": every}).items():
            if type(value) is not int or value < 1:
                raise ValueError(f"{name} is {value!r}, expected a positive integer")
        layers, heads = sizes["num_hidden_layers"], sizes["num_attention_heads"]
        if layers > MAX_LAYERS:
            raise ValueError(f"encoder has {layers} layers, expected at most {MAX_LAYERS}")
        if sizes["hidden_size"] % (2 * heads):
            raise ValueError(f"hidden_size is {sizes['hidden_size']}, expected a multiple of twice the {heads} heads")
        kinds = values.get("layer_types") or [LOCAL if number % every else FULL for number in range(layers)]
        if len(kinds) != layers or not {FULL, LOCAL}.issuperset(kinds):
            raise ValueError(f"layer_types is {kinds!r}, expected {layers} of {FULL!r} and {LOCAL!r}")
        rope = config.get("rope_parameters") or {}
        theta = {
            FULL: (rope.get(FULL) or {}).get("rope_theta", config.get("global_rope_theta", 160_000.0)),
            LOCAL: (rope.get(LOCAL) or {}).get("rope_theta", config.get("local_rope_theta", 10_000.0)),
        }
        return cls(**values | {"layer_types": tuple(kinds), "rope_theta": theta})


def encoder_fields(config: dict[str, Any]) -> dict[str, Any]:
    """The fields of a ModernBERT's `config.json` that a model file keeps."""
    earlier = {name for name, later in EARLIER_FIELDS.items() if config.get(later) is None}
    return {name: value for name, value in config.items() if name in KNOWN_FIELDS | earlier}


def covers(config: dict[str, Any]) -> bool:
    """Whether our encoder computes what `transformers` computes for this configuration."""
    rope = config.get("rope_parameters") or {}
    return (
        config.get("model_type") == "modernbert"
        and all(config.get(name, value) == value for name, value in ABSENT.items())
        and all((part or {}).get("rope_type", "default") == "default" for part in rope.values())
    )
