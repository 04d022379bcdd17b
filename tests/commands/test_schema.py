from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from proxy.commands import group

EXAMPLE = Path(__file__).parents[2] / "config.example.yaml"


def test_what_is_printed_validates_the_example(capsys: pytest.CaptureFixture[str]) -> None:
    assert group.main(["schema"]) == 0
    schema = json.loads(capsys.readouterr().out)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(yaml.safe_load(EXAMPLE.read_text()))
