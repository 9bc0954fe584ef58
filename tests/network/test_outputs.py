"""Networks that return several tensors: the prediction is named, and everything looks at that one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from surgery.edit.shrink import shrink
from surgery.errors import ModelError
from surgery.network import architectures, certificate, store
from surgery.network.architectures import Definition, build
from surgery.network.description import describe
from surgery.network.load import assemble, returned
from surgery.network.model import Architecture, InputSpec, Model, lessons
from surgery.network.outputs import alike, named, pick
from surgery.network.trace import trace

SPEC = InputSpec("table", (5,), (0.0,) * 5, (1.0,) * 5)


class Detector(nn.Module):
    """Boxes first, then scores, as many face detectors return them."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.box, self.score = nn.Linear(5, 8), nn.Linear(8, 4), nn.Linear(8, 2)

    def forward(self, x: Tensor) -> object:
        x = self.body(x).relu()
        return self.box(x), self.score(x)


class Named(Detector):
    """The same under names."""

    def forward(self, x: Tensor) -> object:
        box, score = super().forward(x)
        return {"features": box, "logits": score}


class Auxiliary(Detector):
    """A prediction beside a map, which cannot be one."""

    def forward(self, x: Tensor) -> object:
        box, score = super().forward(x)
        return {"map": box.view(-1, 2, 2), "classes": {"all": score}}


NETWORKS = {"detector": Detector, "named": Named, "auxiliary": Auxiliary}


@pytest.fixture(autouse=True)
def own_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    file = Path(__file__)
    found = {f"custom/{key}": Definition(file, "NETWORKS", key, make) for key, make in NETWORKS.items()}
    monkeypatch.setattr(architectures, "_custom", found)


def made(name: str, classes: str, output: str = "") -> Model:
    torch.manual_seed(0)
    architecture = Architecture(f"custom/{name}")
    return assemble(build(architecture).state_dict(), architecture, input=SPEC, classes=classes, output=output)


def test_a_box_is_not_taken_for_classes() -> None:
    said = r"returns several outputs that can be its prediction: 0 \[4\], 1 \[2\]"
    for classes in ("abcd", "ab"):
        with pytest.raises(ModelError, match=said) as error:
            made("detector", classes)
    assert error.value.fix == "Say which one it is: --output 0 on the command line, or choose it on the page."


def test_the_prediction_that_is_named_is_the_one_that_counts(tmp_path: Path) -> None:
    model = made("detector", "ab", output="1")
    x = torch.randn(3, 5)
    out = model.module(x)
    assert torch.equal(model(x), out[1])
    assert model.lessons(x, torch.tensor([0, 1, 1]), out)[0] is out[1]
    store.save(model, tmp_path)
    again = store.load(tmp_path)
    assert again.output == "1"
    assert torch.equal(again(x), out[1])
    with pytest.raises(ModelError, match=r"returns no output '2'; it returns 0 \[4\], 1 \[2\]"):
        made("detector", "ab", output="2")


@pytest.mark.parametrize(("name", "path"), [("named", "logits"), ("auxiliary", "classes.all")])
def test_what_leaves_no_choice_is_not_asked(name: str, path: str) -> None:
    model = made(name, "ab")
    assert model.output == path
    assert model(torch.randn(3, 5)).shape == (3, 2)


def test_all_outputs_are_listed_with_their_shapes() -> None:
    assert returned(Architecture("custom/detector"), SPEC) == ({"0": [4], "1": [2]}, ["0", "1"])
    assert returned(Architecture("custom/auxiliary"), SPEC) == ({"map": [2, 2], "classes.all": [2]}, ["classes.all"])


def test_a_description_from_before_there_was_a_choice_takes_the_first() -> None:
    about = json.loads(describe(made("detector", "ab", output="1")).model_dump_json())
    del about["output"]
    from surgery.network.description import checked

    assert checked(about).output == ""
    out = (torch.zeros(2, 4), torch.ones(2, 2))
    assert pick(out, "") is out[0]


def test_gated_and_cut_networks_are_compared_on_every_output() -> None:
    class Second(Detector):
        """The second output depends on how many neurons there are."""

        def forward(self, x: Tensor) -> object:
            x = self.body(x).relu()
            return self.box(x), self.score(x) / x.shape[1]

    other, _ = trace(Second().eval(), torch.randn(2, 5))
    assert other is not None
    assert other.fixed.all(), "what only the second output shows is found"
    index, _ = trace(Detector().eval(), torch.randn(2, 5))
    assert index is not None
    assert index.logits.sum() == 6, "no output may lose a neuron"
    keep = certificate.sample(index, 0.3)
    small = shrink(made("detector", "ab", output="1"), keep)[0]
    x = torch.randn(3, 5)
    whole = made("detector", "ab", output="1").module
    with certificate.gate(whole, index, keep):
        masked = whole(x)
    assert alike(small.module(x), masked) < 1e-5


def test_a_difference_in_any_output_counts() -> None:
    one, other = torch.ones(2, 3), torch.zeros(2, 1)
    assert alike((one, other), (one, other)) == 0
    assert alike((one, other + 1), (one, other)) > 1
    assert alike((one,), (one, other)) == float("inf")
    assert alike({"a b.c": one}, {"a b.c": one * 1.5}) == pytest.approx(1 / 3)
    assert alike(one * float("nan"), one) == float("inf")
    assert list(named({"a": one, "b": (one, other)})) == ["a", "b.0", "b.1"]
    assert lessons(one, torch.zeros(2), one)[0] is one


def test_an_onnx_file_has_the_prediction_first(tmp_path: Path) -> None:
    model = made("detector", "ab", output="1")
    store.save(model, tmp_path / "stored")
    store.export(tmp_path / "stored", tmp_path / "model.onnx", "onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx", providers=["CPUExecutionProvider"])
    assert [one.name for one in session.get_outputs()] == ["logits", "0"]
    x = torch.randn(3, 5)
    logits, box = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(logits, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(box, model.module(x)[0].detach().numpy(), rtol=1e-4, atol=1e-5)
