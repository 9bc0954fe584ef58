"""Models that share their beginnings: what they say, what they compute, how they are stored and taken away."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from surgery.context import Context
from surgery.data.dataset import Dataset
from surgery.edit.lend import Share, fleet_of, lend, ridge
from surgery.errors import ModelFileError
from surgery.network import export, fleet_store, store
from surgery.network.cuts import cuts_of
from surgery.network.fleet import Fleet
from surgery.network.model import Model
from surgery.network.size import distinct
from tests.patience import SECONDS
from tests.patients import fleet


def members() -> dict[str, Model]:
    return dict(zip(("first", "further", "stranger"), fleet(), strict=True))


def raw(model: Model, x: torch.Tensor) -> torch.Tensor:
    """What the model sees of inputs on the 0–1 scale."""
    shape = (-1, *(1,) * (x.dim() - 2))
    return (x - torch.tensor(model.input.mean).reshape(shape)) / torch.tensor(model.input.std).reshape(shape)


@pytest.fixture
def shares(pico_many: Dataset) -> dict[str, tuple[str, Share]]:
    first, further, stranger = fleet()
    top, block, down = cuts_of(first)[-1], cuts_of(stranger)[-2], cuts_of(first)[1]
    adapter = ridge(first, stranger, down, block, pico_many, pico_many.ids("train"), Context())
    return {
        "further": ("first", Share(top, cuts_of(further)[-1], None)),
        "stranger": ("first", Share(down, block, adapter)),
    }


def test_a_fleet_says_what_its_merged_models_say(shares: dict[str, tuple[str, Share]]) -> None:
    known = members()
    together, x = fleet_of(known, shares), torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        said = together(x)
        assert torch.equal(said["first"], known["first"](raw(known["first"], x))), "a host runs as it is"
        for guest, (host, share) in shares.items():
            merged = lend(known[host], known[guest], share)
            torch.testing.assert_close(said[guest], merged(raw(known[guest], x)), rtol=0, atol=0)


def test_sharing_with_oneself_is_exact() -> None:
    model = members()["first"]
    x = torch.randn(6, 1, 8, 8)
    for cut in cuts_of(model):
        with torch.no_grad():
            assert torch.equal(lend(model, model, Share(cut, cut, None))(x), model(x))


def test_only_what_is_asked_for_is_computed(shares: dict[str, tuple[str, Share]]) -> None:
    together = fleet_of(members(), shares)
    ran: list[str] = []
    for name, part in together.named_modules():
        part.register_forward_hook(lambda _, __, ___, name=name: ran.append(name))
    with torch.no_grad():
        said = together(torch.rand(2, 1, 8, 8), {"stranger"})
    assert list(said) == ["stranger"]
    assert not any(name.startswith("members.1") for name in ran), "nobody asked the other guest"
    assert "members.0.down" not in ran or "members.0.top" not in ran, "the host ends at the cut"
    assert "members.0.stem" in ran


def test_a_guest_can_be_taken_back_bit_for_bit(shares: dict[str, tuple[str, Share]]) -> None:
    known = members()
    together, x = fleet_of(known, shares), torch.rand(6, 1, 8, 8)
    with torch.no_grad():
        before = together(x)
        together.take_back("stranger", known["stranger"].module)
        after = together(x)
        assert torch.equal(after["stranger"], known["stranger"](raw(known["stranger"], x)))
        assert torch.equal(after["further"], before["further"])


def test_it_comes_back_from_disk_with_each_tensor_once(tmp_path: Path, shares: dict[str, tuple[str, Share]]) -> None:
    known, x = members(), torch.rand(4, 1, 8, 8)
    apart, together = fleet_of(known, {}), fleet_of(known, shares)
    sizes = []
    for name, one in (("apart", apart), ("together", together)):
        digest = fleet_store.save(one, known, tmp_path / name)
        assert digest == store.digest(tmp_path / name)
        again = fleet_store.load(tmp_path / name)
        with torch.no_grad():
            for member, said in one(x).items():
                assert torch.equal(again(x)[member], said)
        sizes.append(sum(tensor.nbytes for _, tensor in distinct(again.state_dict().items())))
    assert sizes[0] - sizes[1] == sum(share.saved for _, share in shares.values()), "what the plan promised"
    described = store.inspect(tmp_path / "together")
    assert described["bytes"] == sizes[1]
    assert [list(one["classes"]) for one in described["arguments"]["members"].values()] == [
        list(model.classes) for model in known.values()
    ]


def test_a_damaged_fleet_is_refused(tmp_path: Path, shares: dict[str, tuple[str, Share]]) -> None:
    fleet_store.save(fleet_of(members(), shares), members(), tmp_path / "f")
    weights = tmp_path / "f" / store.WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelFileError, match=r"fleet in .* cannot be read"):
        fleet_store.load(tmp_path / "f")
    store.save(members()["first"], tmp_path / "model")
    with pytest.raises(ModelFileError, match="holds no fleet but sample/digits_cnn"):
        fleet_store.load(tmp_path / "model")


def test_the_bundle_loads_without_this_product(tmp_path: Path, shares: dict[str, tuple[str, Share]]) -> None:
    known, x = members(), torch.rand(4, 1, 8, 8)
    together = fleet_of(known, shares)
    fleet_store.save(together, known, tmp_path / "stored")
    export.to_folder(tmp_path / "stored", tmp_path / "bundle")
    with torch.no_grad():
        torch.save({"x": x, **together(x)}, tmp_path / "said.pt")
    code = (
        "import sys, torch\n"
        "from loader import load\n"
        "fleet = load('.')\n"
        "said = torch.load('../said.pt')\n"
        "x = said.pop('x')\n"
        "with torch.no_grad():\n"
        "    found = fleet(x)\n"
        "    one = fleet(x, {'stranger'})\n"
        "assert all(torch.equal(found[name], said[name]) for name in said)\n"
        "assert list(one) == ['stranger'] and torch.equal(one['stranger'], said['stranger'])\n"
        "assert not [name for name in sys.modules if name.split('.')[0] == 'surgery'], sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path / "bundle", timeout=SECONDS)


def test_networks_in_it_are_plain_modules(shares: dict[str, tuple[str, Share]]) -> None:
    together = fleet_of(members(), shares)
    assert isinstance(together, Fleet)
    assert not together.training
