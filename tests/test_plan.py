import pytest

from surgery.errors import PlanError
from surgery.plan import Plan

GOOD = '{"operation": "prune", "parameters": {"remove": [1]}, "inputs": ["v"], "dataset": "d"}'


def test_a_plan_embeds_ids_and_digest() -> None:
    plan = Plan.parse(GOOD)
    assert plan.build().model_dump()["remove"]["ids"] == (1,)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "This is not a plan: the file: it is no JSON"),
        (GOOD.replace('"dataset": "d"', '"data": "d"'), "dataset: it is missing"),
        (
            GOOD.replace("prune", "prone"),
            "There is no operation 'prone'; installed are compose, compress, damage, extend, forget, patch",
        ),
        (GOOD.replace('"remove": [1]', '"remove": [-1]'), "remove.ids.0: -1 is too small; the least is 0"),
        (GOOD.replace('"remove": [1]', '"remove": [1], "epochs": 1000'), "epochs: 1000 is too large; the most is 100"),
        (GOOD.replace('"remove": [1]', '"remove": [1], "speed": 1'), "speed: there is no such field"),
        (
            GOOD.replace("[1]", '{"ids": [1, 2], "digest": "sha256:0000000000000000"}'),
            "the plan was changed by hand",
        ),
    ],
)
def test_a_bad_plan_names_the_field(text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        Plan.parse(text)
