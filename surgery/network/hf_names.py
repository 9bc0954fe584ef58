"""The tensors of a file of `save_pretrained` under the names of the network: the library renames on saving and loading.

What is renamed, split and joined is written in transformers itself, by type; it is applied here as its
`from_pretrained` does (`core_model_loading.convert_and_load_state_dict_in_model`), to tensors that were already read.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, dot_natural_key, rename_source_key

_OLD_BUFFERS = ("rotary_emb.inv_freq", "position_ids")  # that files held and networks compute


def loaded(module: nn.Module, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors as `from_pretrained` would put them into `module`; those that it does not know keep their names.

    What the type's loading ignores (positions that old releases stored) is left out.
    """
    if not isinstance(module, PreTrainedModel):
        return dict(tensors)
    wanted = module.state_dict()
    mapping = get_model_conversion_mapping(module)
    renamings = [one for one in mapping if isinstance(one, WeightRenaming)]
    converters = [one for one in mapping if isinstance(one, WeightConverter)]
    by_pattern = {pattern: one for one in converters for pattern in one.source_patterns}
    base = module.base_model_prefix
    found: dict[str, Tensor] = {}
    converted: dict[str, tuple[Any, dict[str, Tensor]]] = {}  # first target -> what makes it, of what
    for name in sorted(tensors, key=dot_natural_key):
        new, pattern = rename_source_key(name, renamings, converters, base, wanted)
        if new not in wanted and name in wanted:
            new, pattern = rename_source_key(name, [], [], base, wanted)
        if new not in wanted:
            found |= {} if _ignored(module, new) else {name: tensors[name]}
        elif pattern is None:
            found[new] = tensors[name]
        else:
            one, parts = converted.setdefault(new, (copy.deepcopy(by_pattern[pattern]), {}))
            one.add_tensor(new, name, pattern, tensors[name])
            parts[name] = tensors[name]
    for new, (one, parts) in converted.items():
        found |= _converted(module, new, one, parts)
    return found


def _converted(module: PreTrainedModel, name: str, one: Any, parts: dict[str, Tensor]) -> dict[str, Tensor]:
    """What is made of the parts; the parts themselves where they do not have the shapes of their type."""
    try:
        made = one.convert(name, model=module, config=module.config)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError):  # of other shapes
        return parts
    return {key: value[0] if isinstance(value, list) else value for key, value in made.items()}


def _ignored(module: PreTrainedModel, name: str) -> bool:
    """Whether loading leaves out a tensor of this name without a word: by the type's list, or a buffer of old files."""
    buffers = [buffer for buffer, _ in module.named_buffers()]
    old = [one for one in _OLD_BUFFERS if any(buffer.endswith(one) for buffer in buffers)]
    patterns = [*(module._keys_to_ignore_on_load_unexpected or ()), *(rf"(^|\.){re.escape(one)}$" for one in old)]
    return any(re.search(pattern, name) for pattern in patterns)
