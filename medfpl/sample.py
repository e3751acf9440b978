"""Where the sample data lies, in a checkout and in an installed package."""

from pathlib import Path

from medfpl.errors import MedfplError


def sample_path() -> Path:
    """Return the folder of the sample data; raise MedfplError if it was not installed."""
    here = Path(__file__).resolve().parent
    for folder in (here / "sample_data", here.parent / "sample_data"):
        if (folder / "lesions.json").is_file():
            return folder
    hint = "make it with 'python scripts/make_sample_data.py sample_data'"
    raise MedfplError("the sample data is not installed", hint)


def real_ct_path() -> Path:
    """Return a real CT slice (128 x 128, 1997) that pydicom ships."""
    from pydicom.data import get_testdata_file

    found = get_testdata_file("CT_small.dcm", download=False)
    if found is None:
        raise MedfplError("pydicom's test files are not installed")
    return Path(str(found))
