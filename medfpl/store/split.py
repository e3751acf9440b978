"""Splitting by patient: no patient has images in two splits, and every kind is in every split where it can be."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

from medfpl.seeds import stable_seed
from medfpl.store.store import Split


def split_patients(
    kinds_of: Mapping[str, Iterable[str]], *, val: float = 0.1, test: float = 0.15, seed: int = 0
) -> dict[str, Split]:
    """Return each patient's split, stratified by kind.

    ``kinds_of`` maps a patient to the kinds of image they have. Patients are put in an order that depends
    on ``seed`` and their name only, and within each kind (rarest first) the first ``test`` share, then the
    first ``val`` share are taken, at least one each where the kind has three patients or more. A patient
    taken for one kind is in that split for all.
    """
    members: dict[str, list[str]] = defaultdict(list)
    for patient, kinds in kinds_of.items():
        for kind in kinds:
            members[kind].append(patient)
    chosen: dict[str, Split] = {}
    for kind in sorted(members, key=lambda k: (len(members[k]), k)):
        patients = sorted(set(members[kind]), key=lambda p: stable_seed(seed, "split", p))
        enough = len(patients) >= 3
        quotas: list[tuple[Split, float]] = [("test", test), ("val", val)]
        for split, share in quotas:
            wanted = max(round(share * len(patients)), 1 if enough and share > 0 else 0)
            wanted -= sum(chosen.get(p) == split for p in patients)
            for patient in [p for p in patients if p not in chosen][: max(0, wanted)]:
                chosen[patient] = split
    return {p: chosen.get(p, "train") for p in kinds_of}
