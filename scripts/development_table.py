"""Write the table that `medfpl prepare --table` needs for the development images, with the split that never changes.

    python scripts/development_table.py DATA table.csv
    medfpl prepare DATA -o store --size 0 --table table.csv

DATA holds ``manifest.csv`` with the columns path, kind and patient_or_source_id. The split of every patient, as salted
hashes, stands in ``development_split.csv`` beside this script: models were trained, tuned and tested by it. Regions of
the body are groups, of which the benchmark has tables of their own.
"""

import csv
import sys
from pathlib import Path

from medfpl.store.find import patient_hash

KINDS = {"chest_ct": "ct", "abdomen_ct": "ct", "chest_xray": "xray", "brain_mr": "mr"}
SPLIT = Path(__file__).with_name("development_split.csv")


def main(data: Path, target: Path) -> None:
    """Write one row a file of the manifest; raise KeyError for a patient whom the split does not know."""
    with SPLIT.open(newline="", encoding="utf-8") as file:
        splits = {row["patient"]: row["split"] for row in csv.DictReader(file)}
    with (data / "manifest.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["path", "patient", "kind", "split", "group"])
        for row in rows:
            patient = row["patient_or_source_id"]
            region = row["kind"].partition("_")[0]
            writer.writerow([row["path"], patient, KINDS[row["kind"]], splits[patient_hash(patient)], region])


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
