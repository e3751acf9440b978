from hypothesis import given
from hypothesis import strategies as st

from medfpl.store.split import split_patients

KINDS = st.sets(st.sampled_from(["ct", "xray", "mr"]), min_size=1)


@given(st.dictionaries(st.text(min_size=1, max_size=8), KINDS, max_size=60), st.integers(0, 5))
def test_every_patient_has_one_split_and_every_kind_of_three_patients_is_in_all(kinds_of, seed):
    splits = split_patients(kinds_of, seed=seed)
    assert set(splits) == set(kinds_of)
    # Patients with one kind alone cannot be taken by another kind first.
    for kind in ("ct", "xray", "mr"):
        members = [p for p, kinds in kinds_of.items() if kind in kinds]
        if len(members) >= 3 and all(len(kinds_of[p]) == 1 for p in members):
            assert {splits[p] for p in members} == {"train", "val", "test"}


def test_the_split_does_not_depend_on_the_order_of_patients():
    patients = {f"p{i}": ["ct"] for i in range(40)}
    backwards = dict(reversed(patients.items()))
    assert split_patients(patients) == split_patients(backwards)
    assert split_patients(patients) != split_patients(patients, seed=1)


def test_shares_are_those_asked_for():
    splits = list(split_patients({f"p{i}": ["ct"] for i in range(200)}, val=0.1, test=0.15).values())
    assert (splits.count("test"), splits.count("val"), splits.count("train")) == (30, 20, 150)
    assert "test" not in split_patients({"a": ["ct"], "b": ["ct"], "c": ["ct"]}, test=0).values()
