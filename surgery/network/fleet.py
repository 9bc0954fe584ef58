"""Networks that share their beginnings: one computes a representation, others go on from it.

A *host* runs as it is. A *guest* has lost everything up to a cut: it takes what the host has computed at a cut of its
own, brought into form by an adapter. An exported model or fleet carries this file as its definition.

Letters: b samples of a batch, c channels or features, C outputs of a member.
"""

from __future__ import annotations

import copy
import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Reached(Exception):
    """A pass came to where it was to end."""


class Blank(nn.Module):
    """Stands where a module was whose work is no longer needed: zeros of its shape, without memory.

    shape: of what it gave, −1 for the batch axis.
    """

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape)

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """Zeros for as many samples as came in."""
        x = next(value for value in (*inputs, *named.values()) if isinstance(value, Tensor))
        return x.new_zeros(()).expand(*(len(x) if size < 0 else size for size in self.shape))


class Given(nn.Module):
    """Stands where a module was whose result comes from elsewhere."""

    value: Tensor | None = None

    def forward(self, *inputs: Any, **named: Any) -> Tensor:
        """What was put in."""
        if self.value is None:
            raise RuntimeError("nothing was given")
        return self.value


class Front(nn.Module):
    """x: float[b, *input] -> a network's representation at the module `cut`; what would run `later` is left out."""

    def __init__(self, network: nn.Module, cut: str, later: Collection[str] = ()) -> None:
        super().__init__()
        self.network = replaced(network, {name: nn.Identity() for name in later}, [cut])
        self.tap = Tap(self.network, [cut])
        self.cut = cut

    def forward(self, x: Tensor) -> Tensor:
        """Run up to the cut."""
        return self.tap.run(self.network, x, {self.cut}, whole=False)[1][self.cut]


class Back(nn.Module):
    """The representation of a network at its module `cut`, and its input for the shape alone -> what the network says.

    blanks: modules that run before the cut -> the shapes of what they gave.
    """

    def __init__(self, network: nn.Module, cut: str, blanks: Mapping[str, Sequence[int]]) -> None:
        super().__init__()
        self.network = replaced(network, {**{name: Blank(shape) for name, shape in blanks.items()}, cut: Given()})
        self.given = [self.network.get_submodule(cut)]  # in a list: it is no module of its own

    def forward(self, found: Tensor, x: Tensor) -> Any:
        """Go on from the cut."""
        given: Any = self.given[0]
        given.value = found
        try:
            return self.network(x)
        finally:
            given.value = None


class Fit(nn.Module):
    """A representation of one network -> the form of another's: resized, then a linear map of its channels.

    dims: of a batch of them: 4 = float[b, c, h, w], else features last. size: (h, w) of the other's.
    """

    def __init__(self, inputs: int, outputs: int, dims: int, size: Sequence[int] = ()) -> None:
        super().__init__()
        self.size = tuple(size)
        self.spatial = dims == 4
        self.map = nn.Conv2d(inputs, outputs, 1) if self.spatial else nn.Linear(inputs, outputs)

    def forward(self, found: Tensor) -> Tensor:
        """Bring it into form."""
        mapped: Tensor = self.map(resized(found, self.size))
        return mapped


class Shared(nn.Module):
    """A guest as a network of its own: x: float[b, *input] -> its outputs, its beginning lent by a host.

    host, guest: {"name", "arguments"} of their architectures (in an export also "file", "table", "key"), and "mean" and
    "std" of their input. share: what `share_of` describes. networks: host and guest, if they are there already.
    """

    def __init__(
        self,
        host: Mapping[str, Any],
        guest: Mapping[str, Any],
        share: Mapping[str, Any],
        networks: Sequence[nn.Module] = (),
    ) -> None:
        super().__init__()
        first, second = networks or (_built(host), _built(guest))
        self.back = Back(second, share["at"], share["blanks"])
        self.front = Front(first, share["cut"], share["later"])
        self.adapter = _adapter(share)
        self.same = (host["mean"], host["std"]) == (guest["mean"], guest["std"])
        self.host_scale, self.guest_scale = Scale(host), Scale(guest)

    def forward(self, x: Tensor) -> Any:
        """Ask the host, then the guest."""
        seen = x if self.same else self.host_scale(self.guest_scale.undone(x))
        return self.back(self.adapter(self.front(seen)), x)


class Fleet(nn.Module):
    """x: float[b, *input] before normalisation -> {member: float[b, C]}, each shared beginning computed once.

    members: {"name", "arguments", "mean", "std", …} as of `Shared`, by the member's name; "output" is the path of its
    prediction where its network returns several tensors. shares: guest -> what
    `share_of` describes, and "host". Hosts are no guests. networks: those of the members, if they are there already.
    """

    def __init__(
        self,
        members: Mapping[str, Mapping[str, Any]],
        shares: Mapping[str, Mapping[str, Any]],
        networks: Mapping[str, nn.Module] | None = None,
    ) -> None:
        super().__init__()
        self.arguments = {"members": dict(members), "shares": dict(shares)}
        self.names, self.shares = list(members), dict(shares)
        self.predictions = {name: str(member.get("output", "")) for name, member in members.items()}
        self.scales = nn.ModuleList(Scale(member) for member in members.values())
        self.members, self.adapters = nn.ModuleList(), nn.ModuleDict()
        for place, (name, member) in enumerate(members.items()):
            network = networks[name] if networks else _built(member)
            lent = {share["cut"] for share in shares.values() if share["host"] == name}
            network = replaced(network, {}, lent)
            if name in shares:
                network = Back(network, shares[name]["at"], shares[name]["blanks"])
                self.adapters[str(place)] = _adapter(shares[name])
            self.members.append(network)
        self.taps = {
            name: Tap(self.members[place], [share["cut"] for share in shares.values() if share["host"] == name])
            for place, name in enumerate(self.names)
            if name not in shares
        }

    def forward(self, x: Tensor, wanted: Collection[str] | None = None) -> dict[str, Tensor]:
        """What the members `wanted` say (None: all), computing nothing that none of them needs."""
        asked = [name for name in self.names if wanted is None or name in wanted]
        found = {}
        for host, tap in self.taps.items():
            guests = [name for name in asked if name in self.shares and self.shares[name]["host"] == host]
            if not guests and host not in asked:
                continue
            place = self.names.index(host)
            seen = self.scales[place](x)
            cuts = {self.shares[name]["cut"] for name in guests}
            out, taken = tap.run(self.members[place], seen, cuts, whole=host in asked)
            if host in asked:
                found[host] = _picked(out, self.predictions[host])
            for name in guests:
                own = self.names.index(name)
                lent = self.adapters[str(own)](taken[self.shares[name]["cut"]])
                found[name] = _picked(self.members[own](lent, seen), self.predictions[name])
        return {name: found[name] for name in asked}

    def take_back(self, name: str, network: nn.Module) -> None:
        """Let a guest run as the whole network that it was."""
        place = self.names.index(name)
        del self.shares[name], self.adapters[str(place)]
        self.arguments = {**self.arguments, "shares": dict(self.shares)}
        self.members[place] = network
        self.taps[name] = Tap(network, [])


class Scale(nn.Module):
    """Normalisation: (x − mean) / std, per channel or feature, as {"mean", "std"} say."""

    mean: Tensor
    std: Tensor

    def __init__(self, input: Mapping[str, Any]) -> None:
        super().__init__()
        for what in ("mean", "std"):
            self.register_buffer(what, torch.tensor(input[what], dtype=torch.float32), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """From the 0–1 scale to what the network was trained on."""
        return x.sub(self._along(x, self.mean)).div_(self._along(x, self.std))

    def undone(self, x: Tensor) -> Tensor:
        """The way back."""
        return x.mul(self._along(x, self.std)).add_(self._along(x, self.mean))

    @staticmethod
    def _along(x: Tensor, values: Tensor) -> Tensor:
        return values.reshape(-1, *(1,) * (x.dim() - 2))


class Tap:
    """Takes representations out of a running network at some of its modules, and ends the run when it has enough."""

    def __init__(self, network: nn.Module, cuts: Collection[str]) -> None:
        self.wanted: set[str] = set()
        self.whole = True
        self.taken: dict[str, Tensor] = {}
        for cut in sorted(set(cuts)):
            network.get_submodule(cut).register_forward_hook(partial(self._take, cut))

    def run(
        self, network: nn.Module, x: Tensor, wanted: Collection[str], *, whole: bool
    ) -> tuple[Any, dict[str, Tensor]]:
        """What the network says (None unless `whole`), and its representations at the cuts `wanted`."""
        self.wanted, self.whole, self.taken = set(wanted), whole, {}
        out = None
        try:
            out = network(x)
        except Reached:
            pass
        finally:
            taken, self.taken = self.taken, {}
        return out, taken

    def _take(self, cut: str, module: nn.Module, inputs: Any, out: Tensor) -> None:
        if cut in self.wanted:
            self.taken[cut] = out
            if not self.whole and len(self.taken) == len(self.wanted):
                raise Reached


def share_of(
    cut: str, later: Collection[str], at: str, blanks: Mapping[str, Sequence[int]], adapter: Mapping[str, Any] | None
) -> dict[str, Any]:
    """A share as JSON: the host's module that lends and the modules after it, the guest's module that is replaced and
    what ran before it, and the arguments of `Fit`; without them the representation is taken as it is.
    """
    return {
        "cut": cut,
        "later": sorted(later),
        "at": at,
        "blanks": {name: list(shape) for name, shape in sorted(blanks.items())},
        "adapter": dict(adapter) if adapter else None,
    }


def resized(found: Tensor, size: Sequence[int]) -> Tensor:
    """Maps float[b, c, h, w] in another size: averaged where it is smaller, interpolated where it is not."""
    if not size or found.shape[2:] == tuple(size):
        return found
    if size[0] <= found.shape[2] and size[1] <= found.shape[3]:
        return F.adaptive_avg_pool2d(found, (size[0], size[1]))
    return F.interpolate(found, list(size), mode="bilinear", align_corners=False)


def replaced(network: nn.Module, others: Mapping[str, nn.Module], own: Collection[str] = ()) -> nn.Module:
    """The network with other modules at some places; the given one stays as it is.

    Only modules above those places, and those at the places `own`, are copies; all tensors are the same.
    """
    made = _copied(network)
    copies = {"": made}
    for name in sorted({*others, *own}):
        above = ""
        for step in name.split(".")[:-1]:
            path = f"{above}.{step}".lstrip(".")
            if path not in copies:
                copies[path] = _copied(copies[above].get_submodule(step))
                setattr(copies[above], step, copies[path])
            above = path
        leaf = name.rpartition(".")[2]
        setattr(copies[above], leaf, others[name] if name in others else _copied(copies[above].get_submodule(leaf)))
    return made


def _copied(module: nn.Module) -> nn.Module:
    """A module of the same parts, in which others can be put, and hooks."""
    made = copy.copy(module)
    for name in ("_modules", "_forward_hooks", "_forward_pre_hooks"):
        made.__dict__[name] = copy.copy(vars(module)[name])
    return made


def _adapter(share: Mapping[str, Any]) -> nn.Module:
    return Fit(**share["adapter"]) if share["adapter"] else nn.Identity()


def _picked(out: Any, path: str) -> Tensor:
    """The prediction in what a member returned, see `surgery.network.outputs`; without a path the first output."""
    for key in path.split(".") if path and not isinstance(out, Tensor) else ():
        named = isinstance(out, Mapping)
        out = out[key] if named else getattr(out, key) if hasattr(out, "_fields") else out[int(key)]
    while not isinstance(out, Tensor):
        out = next(iter(out.values())) if isinstance(out, Mapping) else out[0]
    return out


def _built(member: Mapping[str, Any]) -> nn.Module:
    """A member's network with random weights. Inside the product it is built by name; only an exported copy of this
    file, which stands beside the definitions, reads these: a description that was uploaded must name no code.
    """
    if __name__.startswith("surgery."):
        from surgery.network.architectures import build
        from surgery.network.model import Architecture

        return build(Architecture(member["name"], member["arguments"], member.get("source", "")))
    file = Path(__file__).resolve().parent / Path(member["file"]).name
    spec = importlib.util.spec_from_file_location(str(file), file)
    if spec is None or spec.loader is None:
        raise ValueError(f"there is no {file}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for the module that they stand in
    spec.loader.exec_module(module)
    made: nn.Module = vars(module)[member["table"]][member["key"]](**member["arguments"])
    return made


ARCHITECTURES: dict[str, Callable[..., nn.Module]] = {"guest": Shared, "members": Fleet}
