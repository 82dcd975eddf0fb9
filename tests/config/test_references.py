"""References to environment variables, and which variables a config uses."""

from __future__ import annotations

from konstruct_mcp.config.findings import Findings
from konstruct_mcp.config.references import UNSET, References, ignore


def test_references_are_resolved_at_any_depth_and_what_is_not_set_is_left_out() -> None:
    references, missing = References({"A": "one", "EMPTY": " "}), []
    value = {
        "a": ["os.environ/A", "os.environ/B"],
        "b": {"c": "os.environ/EMPTY"},
        "d": 3,
        "e": "os.environ/not-a-name",
    }

    resolved = references.resolve(value, "here", lambda place, name: missing.append((place, name)))

    assert resolved == {"a": ["one"], "b": {}, "d": 3}
    assert missing == [("here.a[1]", "B"), ("here.b.c", "EMPTY"), ("here.e", None)]
    assert references.resolve("os.environ/B", "here", ignore) is UNSET


def test_the_texts_that_came_from_the_environment_are_known() -> None:
    references = References({"A": "one", "B": "two"})
    assert list(references.texts_of({"x": "os.environ/A", "y": ["os.environ/B", "three"]})) == ["one", "two"]


def test_variables_of_the_file_are_for_the_process_unless_only_the_config_uses_them() -> None:
    references, findings = References({"HOME": "/home/me"}), Findings()
    references.read_variables({"KEY": "k", "REGION": "eu", "HOME": "/other", "KONSTRUCT_TENANT_ID": "t"}, findings)

    assert references.value("KEY") == "k"
    assert references.for_process() == {"REGION": "eu", "HOME": "/other"}
    references.needed.add("KEY")  # a cloud's client looks it up too
    assert references.for_process() == {"KEY": "k", "REGION": "eu", "HOME": "/other"}

    assert references.process == {"HOME": "/home/me"}
    assert findings.lost == [
        "environment_variables.KONSTRUCT_TENANT_ID: cannot be set here; set it where the server starts"
    ]


def test_variables_that_are_no_object_are_a_fault() -> None:
    findings = Findings()
    References({}).read_variables(["A=1"], findings)
    assert findings.faults == ["environment_variables: should be an object"]
