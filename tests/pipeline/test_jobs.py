import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from medfpl.errors import UsageError
from medfpl.pipeline.jobs import Job, Plan, Shard, output_name, plan

PNG = b"\x89PNG\r\n\x1a\n"


def nothing(target: Path) -> list[Path]:
    return []


def touch(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PNG)


def targets(work: Plan) -> list[str]:
    return [str(j.target) for j in work.jobs]


@pytest.mark.parametrize(
    ("name", "result"),
    [
        ("a.dcm", "a.dcm"),
        ("A.DCM", "A.DCM"),
        ("a.b.nii.gz", "a.b.nii.gz"),
        ("a.jpg", "a.png"),
        ("A.JPEG", "A.png"),
        ("IM0001", "IM0001"),
        ("1.2.840", "1.2.840"),
    ],
)
def test_output_name(name: str, result: str) -> None:
    assert output_name(Path("x") / name) == result


def test_folder_keeps_its_tree_and_skips_what_is_no_image(tmp_path: Path) -> None:
    source = tmp_path / "in"
    touch(source, "b.png", "a.png", "deep/er/c.png", "IM0001", ".hidden.png", ".git/x.png", "DICOMDIR")
    (source / "notes.csv").write_text("a,b\n")
    (source / "README").write_text("read me\n")
    work = plan([source], tmp_path / "out", "denoised", nothing)
    assert [str(j.relative) for j in work.jobs] == ["IM0001", "a.png", "b.png", "deep/er/c.png"]
    assert targets(work) == [str(tmp_path / "out" / j.relative) for j in work.jobs]
    assert sorted(p.name for p in work.skipped) == [".hidden.png", "DICOMDIR", "README", "notes.csv"]
    assert work.folder == tmp_path / "out"


def test_several_folders_keep_their_names(tmp_path: Path) -> None:
    touch(tmp_path, "p1/scan.png", "p2/scan.png")
    work = plan([tmp_path / "p1", tmp_path / "p2"], tmp_path / "out", "denoised", nothing)
    assert targets(work) == [str(tmp_path / "out" / p / "scan.png") for p in ("p1", "p2")]


def test_one_file_to_one_file_or_into_a_folder(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    (tmp_path / "folder.png").mkdir()
    one = plan([tmp_path / "a.png"], tmp_path / "new.png", "denoised", nothing)
    assert (targets(one), one.folder) == ([str(tmp_path / "new.png")], None)
    into = plan([tmp_path / "a.png"], tmp_path / "folder.png", "denoised", nothing)
    assert targets(into) == [str(tmp_path / "folder.png" / "a.png")]
    fresh = plan([tmp_path / "a.png"], tmp_path / "fresh", "denoised", nothing)
    assert targets(fresh) == [str(tmp_path / "fresh" / "a.png")]


def test_without_output_beside_the_source_and_never_twice(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a_denoised.png", "a_denoised_extra.png", "b_denoised.png")

    def extra(target: Path) -> list[Path]:
        return [target.with_name(target.stem + "_extra.png")]

    work = plan([tmp_path], None, "denoised", extra)
    # b_denoised.png is nobody's result here, so it is an image like any other.
    assert [j.path.name for j in work.jobs] == ["a.png", "b_denoised.png"]
    assert [j.target.name for j in work.jobs] == ["a_denoised.png", "b_denoised_denoised.png"]
    assert [p.name for p in work.skipped] == ["a_denoised.png", "a_denoised_extra.png"]
    named = plan([tmp_path / "a_denoised.png"], None, "denoised", extra)
    assert [j.target.name for j in named.jobs] == ["a_denoised_denoised.png"]


def test_refuses_what_cannot_be_meant(tmp_path: Path) -> None:
    touch(tmp_path, "in/a.png", "in/b.png", "other/a.png")
    a, b = tmp_path / "in/a.png", tmp_path / "in/b.png"
    for inputs, output in [
        ([a, b], tmp_path / "one.png"),  # several files, one name
        ([tmp_path / "in"], tmp_path / "one.png"),
        ([a, b], a),  # the output is a file
        ([tmp_path / "in"], tmp_path / "in"),  # in place
        ([tmp_path / "in"], tmp_path / "other" / ".." / "in"),
        ([a], a),
        ([a, tmp_path / "other/a.png"], tmp_path / "out"),  # one target for two
    ]:
        with pytest.raises(UsageError):
            plan(inputs, output, "denoised", nothing)


def test_output_replacing_another_input_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.png", "y/b.png")
    os.link(tmp_path / "x/a.png", tmp_path / "linked.png")
    with pytest.raises(UsageError, match="replace an input"):
        plan([tmp_path / "x/a.png"], tmp_path / "linked.png", "denoised", nothing)
    with pytest.raises(UsageError, match="replace an input"):
        plan([tmp_path / "x", tmp_path / "y/b.png"], tmp_path / "y", "denoised", nothing)


def test_missing_inputs_are_left_to_the_reader_and_repeated_ones_dropped(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    work = plan([tmp_path / "no.png", tmp_path / "a.png", tmp_path / "a.png"], tmp_path / "out", "denoised", nothing)
    assert [j.path.name for j in work.jobs] == ["no.png", "a.png"]


def test_output_inside_the_input_is_not_read(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "out/a.png", "link/b.png")
    (tmp_path / "loop").symlink_to(tmp_path, target_is_directory=True)
    work = plan([tmp_path], tmp_path / "out", "denoised", nothing)
    assert [str(j.relative) for j in work.jobs] == ["a.png", "link/b.png"]


def test_pipes_and_broken_links_do_not_hang(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    touch(tmp_path, "a.png")
    work = plan([tmp_path], tmp_path / "out", "denoised", nothing)
    assert [j.path.name for j in work.jobs] == ["a.png"]
    assert sorted(p.name for p in work.skipped) == ["fifo", "gone"]


names = st.text(st.characters(codec="utf-8", exclude_characters="/\0"), min_size=1, max_size=20)


@given(st.lists(names, unique=True, max_size=30), st.integers(1, 7))
def test_shards_are_a_partition(names: list[str], count: int) -> None:
    paths = [Path("folder") / name for name in names]
    held = [[p for p in paths if Shard(i, count).holds(p)] for i in range(1, count + 1)]
    assert sorted(p for part in held for p in part) == sorted(paths)


def test_shard_is_stable_and_even() -> None:
    paths = [Path(f"p{i}/IM{i:04}.dcm") for i in range(4000)]
    sizes = [sum(Shard(i, 4).holds(p) for p in paths) for i in range(1, 5)]
    assert sum(sizes) == 4000
    assert min(sizes) > 850
    # A value written down once: shards of machines with other versions must agree.
    assert [i for i in range(1, 5) if Shard(i, 4).holds(Path("a/b.dcm"))] == [1]
    assert Shard(1, 1).holds(Path(os.fsdecode(b"\xff\xfe.dcm")))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "1/2/3", "-1/2", "1/0", " 1/2", "²/3"])
def test_bad_shards(text: str) -> None:
    with pytest.raises(UsageError):
        Shard.parse(text)


def test_shard_of_a_plan_keeps_the_siblings() -> None:
    jobs = tuple(Job(Path(f"{i}.png"), Path(f"{i}.png"), Path("o") / f"{i}.png") for i in range(20))
    work = Plan(jobs, tuple(j.path for j in jobs), (), (), None)
    parts = [work.shard(Shard(i, 3)) for i in (1, 2, 3)]
    assert sum(len(p.jobs) for p in parts) == 20
    assert all(p.siblings == work.siblings for p in parts)
