import json
from typing import Any

import pytest
from suite import DATA

from vmstate import InvalidTransitionError, RunState
from vmstate.run_state import check_transition

TABLE: dict[str, Any] = json.loads((DATA / "runstate.json").read_text(encoding="utf-8"))


def test_states_have_the_names_the_order_and_the_numbers_of_qapi() -> None:
    assert [str(state) for state in RunState] == TABLE["states"]
    assert [state.number for state in RunState] == list(range(len(TABLE["states"])))


def test_a_state_is_its_name() -> None:
    name: str = RunState.FINISH_MIGRATE
    assert name == "finish-migrate"
    assert RunState("finish-migrate") is RunState.FINISH_MIGRATE


def test_only_running_and_suspended_are_live() -> None:
    assert {state for state in RunState if state.live} == {RunState.RUNNING, RunState.SUSPENDED}


@pytest.mark.parametrize("current", RunState)
def test_m1_exactly_the_transitions_of_the_table_and_the_one_to_itself_are_allowed(current: RunState) -> None:
    allowed = {*TABLE["transitions"][current], current}
    assert {new for new in RunState if current.may_become(new)} == allowed
    for new in RunState:
        if new in allowed:
            check_transition(current, new, "vm")
        else:
            with pytest.raises(InvalidTransitionError, match=f"'vm'.*'{current}' to '{new}'"):
                check_transition(current, new, "vm")
