from orchestration.environment import set_source_root
from pipelines.names import PERSONALIZE, SHARDED, STEPS


def test_the_names_are_those_of_the_pipelines() -> None:
    set_source_root()
    from zenml.steps import BaseStep

    from pipelines import compare, personalize, promote, wiring

    assert tuple(step.name for step in personalize.ALL_STEPS) == PERSONALIZE
    assert {step.name for step in wiring.SHARDED_STEPS} - {step.name for step in wiring.STEPS} == set(SHARDED)
    modules = (personalize, compare, promote, wiring)
    assert {item.name for module in modules for item in vars(module).values() if isinstance(item, BaseStep)} == set(STEPS)
