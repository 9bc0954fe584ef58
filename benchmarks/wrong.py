"""Is anything silently wrong? Random networks are cut at random and compared with what they should compute.

Each network is made of a few of more than 60 kinds of blocks (see `wrong_blocks`), with random weights. Wherever the
product says *full*, ten cuts are made, and three outputs must be equal in float64: of the shrunk network, of the gated
one, and of the original under forward hooks that know nothing of ids. These find by experiment which channels a module
reads from the removed neurons (all modules' outputs are held fixed, the neurons get noise, and what changes at a
module's input is theirs) and set those to zero. The full form takes new seeds on every run and prints them.
"""

from __future__ import annotations

import secrets
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.wrong_blocks import FLAT, IMAGE, READERS, TOKENS, Bare
from surgery.network.certificate import gated, relative, sample
from surgery.network.index import NeuronIndex
from surgery.network.passes import FAILURES
from surgery.network.slicing import cut
from surgery.network.trace import trace

EXACT = 1e-5
CUTS = 10
SIZE = (3, 8, 8)
KINDS = len(IMAGE) + len(TOKENS) + len(FLAT)
Deck = Callable[[str], str]  # the next kind of "image", "tokens" or "flat"


class Network(nn.Module):
    """A stem, blocks on images, tokens and flat vectors, and a head."""

    image: nn.ModuleList
    tokens: nn.ModuleList
    flat: nn.ModuleList

    def __init__(self, kinds: dict[str, list[str]]) -> None:
        super().__init__()
        width = 7
        self.stem, self.kinds = nn.Conv2d(3, width, 3, padding=1), kinds
        for world, makers, shape in (("image", IMAGE, (-1, 8, 8)), ("tokens", TOKENS, (9, -1)), ("flat", FLAT, (-1,))):
            blocks = nn.ModuleList()
            for kind in kinds[world]:
                block = makers[kind](width).eval()
                probe = torch.zeros(2, *(width if size < 0 else size for size in shape))
                width = block(probe).shape[2 if world == "tokens" else 1]
                blocks.append(block)
            setattr(self, world, blocks)
        self.head = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        """float[b, 3, 8, 8] to float[b, 5]."""
        x = torch.relu(self.stem(x))
        for block in self.image:
            x = block(x)
        x = nn.functional.adaptive_avg_pool2d(x, 3).flatten(2).transpose(1, 2) if len(self.tokens) else x.mean((2, 3))
        for block in self.tokens:
            x = block(x)
        if len(self.tokens):
            x = x.mean(1)
        for block in self.flat:
            x = block(x)
        out: Tensor = self.head(x)
        return out


def network(seed: int, deal: Deck) -> Network:
    """A random network in float32, in evaluation mode, as if trained: no bias, mean or variance is at its start."""
    torch.manual_seed(seed)
    tokens, flat = (int(torch.rand(()) < 0.4) for _ in range(2))
    counts = {"image": 2 + int(torch.rand(()) < 0.4), "tokens": tokens, "flat": flat}
    made = Network({world: [deal(world) for _ in range(count)] for world, count in counts.items()})
    with torch.no_grad():
        for name, value in [*made.named_parameters(), *made.named_buffers()]:
            if name.endswith("running_var"):
                value.uniform_(0.5, 2)
            elif name.endswith(("bias", "running_mean")):
                value.uniform_(-0.5, 0.5)
    return made.eval()


def decks(seed: int) -> Deck:
    """Every kind once, shuffled, before any comes again."""
    generator = torch.Generator().manual_seed(seed)
    left: dict[str, list[str]] = {"image": [], "tokens": [], "flat": []}

    def deal(world: str) -> str:
        if not left[world]:
            kinds = list({"image": IMAGE, "tokens": TOKENS, "flat": FLAT}[world])
            left[world] = [kinds[i] for i in torch.randperm(len(kinds), generator=generator)]
        return left[world].pop()

    return deal


@contextmanager
def hooked(net: nn.Module, before: Any, after: Any) -> Iterator[None]:
    """Inside it, each call of a reading module shows before(key, inputs) and after(key, output); both may replace.

    key: (the module's name, the number of its call).
    """
    calls: dict[str, int] = {}
    handles = []
    for name, module in net.named_modules():
        if not isinstance(module, READERS) or ".m.out_proj" in name:
            continue

        def pre(_module: nn.Module, inputs: Any, name: str = name) -> Any:
            calls[name] = calls.get(name, 0) + 1
            return before((name, calls[name]), inputs)

        def post(_module: nn.Module, _inputs: Any, out: Any, name: str = name) -> Any:
            return after((name, calls[name]), out)

        handles += [module.register_forward_pre_hook(pre), module.register_forward_hook(post)]
    try:
        with torch.no_grad():
            yield
    finally:
        for handle in handles:
            handle.remove()


def axis_of(net: nn.Module, name: str, x: Tensor) -> int:
    """Where the channels of a module's input or output lie."""
    module = net.get_submodule(name)
    image = isinstance(module, (nn.Conv2d, nn.ConvTranspose2d)) or (isinstance(module, Bare) and module.way == "conv")
    return 1 if image else x.dim() - 1


def by_hooks(net: nn.Module, x: Tensor, gone: dict[str, Tensor]) -> Tensor:
    """The output without the rows gone: {module: bool[out]}, by forward hooks only."""
    seen: dict[Any, Any] = {}
    made: dict[Any, Any] = {}
    with hooked(
        net, lambda key, inputs: seen.update({key: _copied(inputs)}), lambda key, out: made.update({key: _copied(out)})
    ):
        net(x)
    theirs: dict[Any, list[Tensor]] = {key: [torch.zeros(0)] * len(inputs) for key, inputs in seen.items()}

    def compare(key: Any, inputs: Any) -> None:
        for place, (one, other) in enumerate(zip(inputs, seen[key], strict=True)):
            axis = axis_of(net, key[0], one)
            differs = (one != other) & ~(one.isnan() & other.isnan())
            found = differs.movedim(axis, 0).reshape(differs.shape[axis], -1).any(1)  # also of one vector
            theirs[key][place] = theirs[key][place] | found if len(theirs[key][place]) else found

    def held(key: Any, out: Any) -> Any:
        rows, out = gone.get(key[0]), _copied(made[key])  # code may write in place
        if rows is None or not isinstance(out, Tensor):
            return out
        axis = axis_of(net, key[0], out)
        laid = rows.reshape([-1 if a == axis else 1 for a in range(out.dim())])
        return torch.where(laid, out + scale * torch.randn(out.shape, dtype=out.dtype), out)

    scale = 0.3
    for _ in range(6):
        with hooked(net, compare, held):
            net(x)
        scale *= 2

    def zeroed(key: Any, inputs: Any) -> Any:
        kept = []
        for mask, value in zip(theirs[key], inputs, strict=True):
            axis = axis_of(net, key[0], value)
            kept.append(value * (~mask).to(value).reshape([-1 if a == axis else 1 for a in range(value.dim())]))
        return tuple(kept)

    with hooked(net, zeroed, lambda key, out: None):
        out: Tensor = net(x)
    return out


def _copied(value: Any) -> Any:
    """A tensor, or a tuple with some, that nothing else writes into."""
    if isinstance(value, tuple):
        return tuple(_copied(one) for one in value)
    return value.clone() if isinstance(value, Tensor) else value


@dataclass(frozen=True)
class Found:
    """What became of one network. hooked: cuts in which hooks could reach every removed neuron."""

    seed: int
    kinds: tuple[str, ...]
    level: str
    reason: str
    removable: float = 0.0
    silent: int = 0  # fixed groups without a reason
    cuts: int = 0
    hooked: int = 0
    worst: float = 0.0
    moved: float = 0.0
    wrong: str = ""


def tried(seed: int, deal: Deck, cuts: int = CUTS) -> Found:
    """Number a random network and cut it."""
    net = network(seed, deal)
    kinds = tuple(kind for own in net.kinds.values() for kind in own)
    example = torch.randn(2, *SIZE, generator=torch.Generator().manual_seed(seed))
    index, support = trace(net, example)
    if index is None or support.level != "full":
        return Found(seed, kinds, support.level, support.reason)
    hidden = ~index.logits
    silent = sum(not index.stays(int(g)) for g in index.group[index.fixed].unique())
    facts = (seed, kinds, "full", support.reason, float((~index.fixed[hidden]).float().mean()), silent)
    exact, worst, moved, hooks, count = net.double(), 0.0, 0.0, 0, 0
    for number in range(cuts):
        keep = _keep(index, seed + number)
        if bool(keep.all()):
            continue
        count += 1
        x = torch.randn(8, *SIZE, generator=torch.Generator().manual_seed(seed + number), dtype=torch.float64)
        try:
            with torch.no_grad():
                whole, masked, small = exact(x), gated(exact, x, index, keep), cut(exact, index, keep)(x)
        except FAILURES as error:  # whatever it is, the promise is broken
            return Found(*facts, count, hooks, worst, moved, f"cut {number}: {error!r}"[:200])
        off = relative(small, masked)
        moved = max(moved, relative(masked, whole))
        if (rows := _rows(exact, index, keep)) is not None:
            hooks += 1
            off = max(off, relative(by_hooks(exact, x, rows), masked))
        worst = max(worst, off)
        if not off <= EXACT:
            return Found(*facts, count, hooks, worst, moved, f"cut {number}: outputs differ by {off:.1e}")
    return Found(*facts, count, hooks, worst, moved)


def _keep(index: NeuronIndex, seed: int) -> Tensor:
    """A random share of every layer, or one group alone."""
    generator = torch.Generator().manual_seed(seed)
    share = float(torch.rand(1, generator=generator))
    if seed % 3:
        return sample(index, share, seed, least=1)
    free = index.group[~index.fixed].unique()
    if len(free) == 0:
        return torch.ones(index.n, dtype=torch.bool)
    gone = ~torch.isin(index.group, free[int(share * len(free))])
    whole = any(not bool(gone[layer.rows].any()) for layer in index.layers.values())
    return torch.ones_like(gone) if whole else gone


def _rows(net: nn.Module, index: NeuronIndex, keep: Tensor) -> dict[str, Tensor] | None:
    """Module -> bool[out], the removed rows; None when a layer that loses some is no module that hooks see."""
    modules, found = dict(net.named_modules()), {}
    for name, layer in index.layers.items():
        if bool(keep[layer.rows].all()):
            continue
        owner = name if name in modules else name.rpartition(".")[0].removesuffix(".parametrizations.weight")
        if not isinstance(modules.get(owner), READERS) or isinstance(modules[owner], nn.MultiheadAttention):
            return None
        own = getattr(modules[owner], "weight", None)
        for other, module in modules.items():
            if other == owner or (own is not None and getattr(module, "weight", None) is own):  # tied: the same rows
                found[other] = ~keep[layer.rows]
    return found


def measure(*, quick: bool, seed: int | None = None) -> dict[str, Any]:
    """Figures, and a table of kinds. seed: of the first network; by default fixed in the quick form and new in full."""
    first = seed if seed is not None else 0 if quick else secrets.randbelow(1 << 30)
    deal = decks(first)
    found = []
    for number in range(30 if quick else 300):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found.append(one := tried(first + 1000 * number, deal, 4 if quick else CUTS))
        if one.wrong or one.silent:
            print(f"seed {one.seed} ({', '.join(one.kinds)}): {one.wrong or 'a refusal without a reason'}", flush=True)
    full = [one for one in found if one.level == "full"]
    refused = [one for one in found if one.level != "full"]
    return {
        "wrong": sum(bool(one.wrong) for one in found),
        "largest_relative_difference": max((one.worst for one in full), default=0.0),
        "refusals_without_step": sum(not one.reason for one in refused) + sum(one.silent for one in full),
        "networks": len(found),
        "kinds": len({kind for one in found for kind in one.kinds}),
        "cuts": sum(one.cuts for one in full),
        "share_compared_with_hooks": sum(one.hooked for one in full) / max(sum(one.cuts for one in full), 1),
        "share_of_networks_full": len(full) / len(found),
        "share_of_neurons_removable": sum(one.removable for one in full) / max(len(full), 1),
        "output moved, median of networks": float(torch.tensor([one.moved for one in full]).median()),
        "first seed": first,
        "table": list(_by_kind(found)),
    }


def _by_kind(found: list[Found]) -> Iterator[dict[str, Any]]:
    """A line for each kind of block."""
    for kind in (*IMAGE, *TOKENS, *FLAT):
        own = [one for one in found if kind in one.kinds]
        if own:
            full = [one for one in own if one.level == "full"]
            yield {
                "kind": kind,
                "networks": len(own),
                "full": len(full),
                "removable": sum(one.removable for one in full) / max(len(full), 1),
                "largest difference": max((one.worst for one in full), default=None),
                "refused because": next((one.reason for one in own if one.level != "full"), ""),
            }
