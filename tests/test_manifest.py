import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from medfpl.errors import TargetExists
from medfpl.manifest import FORMAT, describe_run, finish_run, load_runs, manifest_bytes, run_name, time_to_state

WHEN = datetime(2024, 5, 6, 7, 8, 9, tzinfo=UTC)


def test_names() -> None:
    assert run_name(1, 1) == "run.json"
    assert run_name(2, 4) == "run-2-of-4.json"


def test_runs_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    assert load_runs(path) == []
    begun = describe_run("denoise", {"method": "mean"}, seed=5, started=WHEN, stated=WHEN)
    assert (begun["finished"], begun["seed"], begun["stated"]) == (False, 5, "2024-05-06T07:08:09+00:00")
    ended = finish_run(begun, seconds=1.23456, files=[{"input": "a"}])
    path.write_bytes(manifest_bytes([begun, ended]))
    assert load_runs(path) == [begun, ended]
    assert ended["finished"]
    assert ended["seconds"] == 1.235


@pytest.mark.parametrize(
    "text", ["", "text", "[]", "{}", '{"format": "other", "runs": []}', json.dumps({"format": FORMAT, "runs": 3})]
)
def test_what_others_wrote_is_not_touched(tmp_path: Path, text: str) -> None:
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(TargetExists):
        load_runs(tmp_path / "run.json")


def test_the_time_to_state(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    earlier = [describe_run("denoise", {}, seed=0, started=WHEN, stated=WHEN)]
    assert time_to_state(earlier, resume=True) == WHEN
    assert time_to_state(earlier, resume=False) > WHEN
    assert time_to_state([], resume=True) > WHEN
    assert time_to_state([{"stated": "nonsense"}], resume=True) > WHEN
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    assert time_to_state(earlier, resume=True) == datetime.fromtimestamp(1_700_000_000, UTC)
