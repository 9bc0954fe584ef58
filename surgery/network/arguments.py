"""With which arguments an architecture may be built: known names, plain values, nothing that points anywhere.

The one check between a name with arguments, wherever they come from, and a constructor. Libraries take many more
arguments than are listed here: paths of checkpoints, names of classes, whole configurations. Those are refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from surgery.network import hf_config
from surgery.network.plain import (
    Check,
    RefusedError,
    label,
    listed,
    mapping,
    module_path,
    nothing_or,
    option,
    plain,
    record,
    shown,
    within,
)

# What an argument of the operator's own constructors may not be called: it would point to a file, an address or code.
FORBIDDEN = (
    *("path", "file", "dir", "url", "hub", "repo", "cache", "checkpoint", "pretrained", "weights", "backbone"),
    *("auto_map", "trust", "code", "module", "import", "kernel_config", "quantization", "attn_implementation"),
)
_TORCHVISION = (
    "num_classes in_channels aux_logits init_weights transform_input dropout dropout_aux attention_dropout "
    "stochastic_depth_prob layer_scale growth_rate block_config num_init_features bn_size drop_rate memory_efficient "
    "last_channel input_size stem_channels partition_size block_channels block_layers head_dim squeeze_ratio "
    "expansion_ratio mlp_ratio mlp_dropout alpha width_mult round_nearest stem_width zero_init_residual groups "
    "width_per_group replace_stride_with_dilation patch_size embed_dim depths num_heads window_size image_size "
    "num_layers hidden_dim mlp_dim representation_size"
)
_TIMM = (
    "num_classes in_chans img_size patch_size embed_dim embed_dims depth depths num_heads mlp_ratio mlp_ratios widths "
    "width width_mult depth_mult dims hidden_size hidden_sizes layers channels cardinality base_width base_dim "
    "block_reduce_first bottle_ratio stem_width stem_size stem_chs stem_hidden_dim first_stride output_stride "
    "avg_down down_kernel_size down_stride down_patch_size downsamples kernel_size kernel_sizes patch_sizes strides "
    "window_size window_sizes window_ratio sr_ratios head_dim num_features head_hidden_size head_init_scale "
    "head_norm_first head_bias num_kv_heads qkv_bias qk_norm proj_bias mlp_bias conv_bias conv_mlp bias init_values "
    "ls_init_value layer_scale_init_value layer_scale_init_values use_layer_scale norm_eps pre_norm final_norm "
    "fc_norm use_fc_norm class_token no_embed_class reg_tokens num_reg_tokens distilled use_abs_pos use_abs_pos_emb "
    "use_rel_pos_bias use_shared_rel_pos_bias use_rot_pos_emb use_pos_embed dynamic_img_size dynamic_img_pad "
    "strict_img_size swiglu_mlp scale_mlp expand_ratio expansion_ratio mlp_block_ratio growth_rate num_init_features "
    "bn_size block_config memory_efficient aux_logits zero_init_last drop_rate drop_path_rate attn_drop_rate "
    "proj_drop_rate pos_drop_rate patch_drop_rate drop_block_rate dropout global_pool pool_size act_layer norm_layer "
    "stem_type pos_embed rope_temperature se_ratio heads key_dim attn_ratio conv_ratio group_size groups"
)


def checked(name: str, arguments: Any, constructor: Callable[..., Any] | None = None) -> dict[str, Any]:
    """The arguments with which the architecture `name` may be built: plain values under names that it knows.

    What has no effect on a network (class names in a configuration, the files of an export) is left out.
    constructor: of a custom architecture, which names its own arguments.

    Raises:
        RefusedError: an argument is unknown or not plain; the text names it.
    """
    family = name.partition("/")[0]
    check = _FAMILIES.get(name) or _FAMILIES.get(family)
    if check is None:
        check = _signature(constructor) if constructor is not None else record({})
    found: dict[str, Any] = check(arguments, "it")
    return found


def _named(words: str) -> dict[str, Check]:
    return dict.fromkeys(words.split(), option)


def _signature(constructor: Callable[..., Any]) -> Check:
    """Plain values, or objects of them, under the parameters of the operator's own constructor."""
    parameters = inspect.signature(constructor).parameters.values()
    own = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    anything = any(one.kind is one.VAR_KEYWORD for one in parameters)

    def check(value: Any, where: str) -> dict[str, Any]:
        given = value if isinstance(value, Mapping) else {}
        known = {_harmless(name, where): _tree for name in given if anything or name in own}
        found: dict[str, Any] = record(known)(value, where)
        return found

    return check


def _tree(value: Any, where: str) -> Any:
    """A plain value, or an object of harmless names and such."""
    if not isinstance(value, Mapping):
        return listed(_tree)(value, where) if isinstance(value, (list, tuple)) else plain(value, where)
    return {_harmless(name, where): _tree(one, within(where, name)) for name, one in value.items()}


def _harmless(name: Any, where: str) -> str:
    if not isinstance(name, str) or name.startswith("_") or any(word in name.lower() for word in FORBIDDEN):
        raise RefusedError(f"{where} takes no {shown(name)}")
    return name


def _network(more: Mapping[str, Check]) -> Check:
    """A network within another one: its name, its own arguments, checked as such, and `more` about it.

    An export adds which files define it; they are not read here, and left out.
    """
    known = {"name": label, "arguments": lambda value, _: value, "source": label, **more}
    fields = record(known, frozenset({"file", "table", "key"}))

    def check(value: Any, where: str) -> dict[str, Any]:
        found: dict[str, Any] = fields(value, where)
        if not isinstance(name := found.get("name"), str) or name.startswith("fleet/members"):
            raise RefusedError(f"{within(where, 'name')} is {shown(name)}, not the name of an architecture")
        if not name.startswith("custom/"):  # those are checked when they are built, against their constructor
            found["arguments"] = checked(name, found.get("arguments", {}))
        return found

    return check


_seen = record({"shape": plain, "mean": plain, "std": plain})
_member = _network(
    {"input": _seen, "outputs": option, "hidden": option, "squash": plain, "form": plain, "output": label}
)
_side = _network({"mean": plain, "std": plain, "classes": listed(label), "output": label})
_share = record(
    {
        "cut": module_path,
        "later": listed(module_path),
        "at": module_path,
        "blanks": mapping(plain, module_path),
        "adapter": nothing_or(record(_named("inputs outputs dims size"))),
        "host": label,
    }
)
_FAMILIES: dict[str, Check] = {
    "mlp": record({**_named("sizes activation bias"), "names": nothing_or(listed(module_path))}),
    "text": record(_named("alphabet context width depth heads hidden")),
    "sample": record(_named("widths classes")),
    "torchvision": record(_named(_TORCHVISION)),
    "timm": record(_named(_TIMM)),
    "hf": record({"config": hf_config.checked}),
    "composed": record({"input": _seen, "members": listed(_member), "outputs": option}),
    "fleet/guest": record({"host": _side, "guest": _side, "share": _share}),
    "fleet/members": record({"members": mapping(_side), "shares": mapping(_share)}),
}
