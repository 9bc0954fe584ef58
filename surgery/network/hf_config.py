"""What of an uploaded Hugging Face configuration reaches transformers: known options of known types, as plain values.

The rule, name by name: options in the type's row of `hf_options` are taken if they hold plain values; what says nothing
about the network (`LEFT_OUT`), and what is switched off, is left out; everything else is refused by name. Names that
point to code, files, kernels, backbones or pretrained weights are in no row, so they are left out or refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from surgery.network.hf_options import OPTIONS
from surgery.network.plain import LARGEST, Check, RefusedError, option, plain, record, shown

# Of the file, of training, of text generation, of outputs that a classifier does not give, or for tokenizers; what
# points to code, kernels or weights elsewhere; what common files have although no code reads it. Where a type has such
# an option (GPT-2 its summary_type), its row comes first.
_LEFT_OUT = """
    architectures model_type transformers_version _name_or_path name_or_path dtype torch_dtype _commit_hash
    label2id problem_type finetuning_task task_specific_params gradient_checkpointing torchscript use_bfloat16
    tokenizer_class processor_class feature_extractor_type image_processor_type model_max_length prefix
    is_encoder_decoder use_cache return_dict output_attentions output_hidden_states output_past chunk_size_feed_forward
    bad_words_ids begin_suppress_tokens suppress_tokens diversity_penalty do_sample early_stopping
    encoder_no_repeat_ngram_size exponential_decay_length_penalty forced_bos_token_id forced_eos_token_id
    length_penalty max_length min_length no_repeat_ngram_size num_beam_groups num_beams num_return_sequences
    output_scores remove_invalid_values repetition_penalty return_dict_in_generate top_k top_p typical_p tf_legacy_loss
    directionality pooler_fc_size pooler_num_attention_heads pooler_num_fc_layers pooler_size_per_head pooler_type
    out_features out_indices stage_names _out_features _out_indices
    auto_map custom_pipelines attn_implementation _attn_implementation _attn_implementation_internal
    _attn_implementation_autoset experts_implementation _experts_implementation _experts_implementation_internal
    quantization_config use_pretrained_backbone use_kernels kernel_config
    add_bias_logits add_final_layer_norm classif_dropout down_scale_factor downsampling_rates extra_pos_embeddings
    gap_size generator_size hidden_size image_size n_ctx net_structure_type normalize_before normalize_embedding
    num_memory_blocks path_norm reshape_last_stage static_position_embeddings summary_activation
    summary_first_dropout summary_last_dropout summary_proj_to_labels summary_type summary_use_proj tie_weights_
"""
LEFT_OUT = frozenset(_LEFT_OUT.split())
# What the library writes into a type's file although it follows from other options, or no classifier reads it.
_DERIVED = {
    **dict.fromkeys(("axk1", "axk2", "deepseek_v2", "minicpm3", "mistral4"), ("qk_head_dim",)),
    "deepseek_v3": ("qk_head_dim", "num_nextn_predict_layers"),
    "donut-swin": ("num_layers",),
    "efficientnet": ("num_hidden_layers",),
    "gemma3_text": ("_sliding_window_pattern",),
    "gpt_bigcode": ("num_key_value_heads",),
    "mpt": ("init_device",),
    "pp_lcnet": ("depths",),
    "qwen3_moe": ("num_local_experts",),
    "t5gemma": ("bos_token_id",),
    "t5gemma.decoder": ("cross_attention_hidden_size",),
    "tapas": ("temperature",),
    "textnet": ("depths",),
}
# Options that older releases had, with the only value that today's networks have.
RETIRED = {"position_embedding_type": "absolute"}
# Of rotary positions, for the whole network or by kind of layer.
_ROTARY = (
    "rope_type type rope_theta factor original_max_position_embeddings attention_factor beta_fast beta_slow truncate "
    "short_factor long_factor max_position_embeddings short_mscale long_mscale low_freq_factor high_freq_factor "
    "partial_rotary_factor mscale mscale_all_dim llama_4_scaling_beta"
)
_KINDS = "full_attention sliding_attention chunked_attention"
_rotary = record(dict.fromkeys(_ROTARY.split(), plain))
_DICTS: dict[str, Check] = {
    name: record({**dict.fromkeys(_ROTARY.split(), plain), **dict.fromkeys(_KINDS.split(), _rotary)})
    for name in ("rope_parameters", "rope_scaling")
}
_NO_TYPE = "Only types that build their own network from plain numbers are supported"


def checked(config: Any, where: str) -> dict[str, Any]:
    """The options of a configuration that reach transformers, with `model_type`.

    `id2label` becomes the number of classes: the names themselves are kept with the model, not in its architecture.

    Raises:
        RefusedError: the type is not supported, an option is unknown to it, or a value is not plain.
    """
    if not isinstance(config, Mapping):
        raise RefusedError(f"{where} is {shown(config)}, not an object of names and values")
    name = config.get("model_type")
    if name is None:
        raise RefusedError(f"{where} names no model_type")
    if not isinstance(name, str) or name not in OPTIONS or "." in name:
        raise RefusedError(f"{where} is of the type {shown(name)}. {_NO_TYPE}")
    return {"model_type": name, **_options(config, where, name)}


def _options(config: Any, where: str, row: str) -> dict[str, Any]:
    """Of one object, for one row of `OPTIONS`."""
    if not isinstance(config, Mapping):
        raise RefusedError(f"{where} is {shown(config)}, not an object of names and values")
    labels = config.get("id2label")
    found = {} if labels is None else {"num_labels": _count(labels, f"{where}.id2label")}
    for name, value in config.items():
        if f"{row}.{name}" in OPTIONS:
            found |= {} if value is None else {name: _options(value, f"{where}.{name}", f"{row}.{name}")}
        elif name in OPTIONS[row]:
            found.setdefault(name, _value(name, value, f"{where}.{name}"))
        elif (
            name != "id2label" and name not in LEFT_OUT.union(_DERIVED.get(row, ())) and not _says_nothing(name, value)
        ):
            raise RefusedError(f"{where} takes no {shown(name)} for the type {row!r}")
    return found


def _value(name: str, value: Any, where: str) -> Any:
    return None if value is None else _DICTS.get(name, option)(value, where)


def _says_nothing(name: str, value: Any) -> bool:
    """Whether an option is switched off, or has the only value that today's networks have."""
    return value is None or value is False or value in ({}, []) or RETIRED.get(name, ...) == value


def _count(labels: Any, where: str) -> int:
    if not isinstance(labels, (Mapping, list)) or not 0 < len(labels) < LARGEST:
        raise RefusedError(f"{where} is {shown(labels)}, not a list of class names by number")
    return len(labels)
