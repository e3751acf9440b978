"""Weights as their authors publish them: the PyTorch file of DPIR's prior, read without running what it may hold."""

import io
import warnings
import zipfile
from pathlib import Path
from typing import Any

from medfpl.errors import BadInput
from medfpl.nets.weights import MAX_BYTES, read_bounded

SUFFIX = ".pth"
PUBLISHED = (64, 4)  # width and blocks of the published network


def read_drunet(path: Path) -> tuple[dict[str, Any], bytes]:
    """Return the architecture and the weights (safetensors) of a DRUNet's state dict, as in drunet_gray.pth.

    Width and number of blocks are read from the shapes. Names and shapes must be exactly those of such a network.

    Raises:
        BadInput: if the file is damaged, holds anything but weights, or the weights of another network.
    """
    import torch
    from safetensors.torch import save

    from medfpl.nets.drunet import DRUNet, DRUNetConfig

    other = BadInput("not the weights of a grey DRUNet", "of PyTorch files only that of DPIR's prior can be imported")
    state = _read_state(path)
    head = state.get("m_head.weight")
    blocks = sum(name.startswith("m_body.") and name.endswith(".res.0.weight") for name in state)
    if head is None or head.dim() != 4 or not (1 <= len(head) <= 1024 and 1 <= blocks <= 64):
        raise other
    config = DRUNetConfig(len(head), blocks)
    with torch.device("meta"):
        wanted = {name: value.shape for name, value in DRUNet(config).state_dict().items()}
    if {name: value.shape for name, value in state.items()} != wanted:
        raise other
    # A view can claim more than the file holds.
    if 4 * sum(value.numel() for value in state.values()) > MAX_BYTES:
        raise _too_large()
    data = save({name: value.float().contiguous().clone() for name, value in state.items()})
    return {"type": "drunet", **config.to_json()}, data


def _read_state(path: Path) -> dict[str, Any]:
    import torch

    content = io.BytesIO(read_bounded(path))
    damaged = BadInput("the file is damaged, or holds more than weights", "nothing in it was run")
    try:
        if _unpacked(content) > MAX_BYTES:
            raise _too_large()
        content.seek(0)
        with warnings.catch_warnings():  # torch's, on pickles that are none of its own
            warnings.simplefilter("ignore")
            state = torch.load(content, map_location="cpu", weights_only=True)
    except BadInput:
        raise
    except Exception as error:  # a damaged or hostile file raises many types
        raise damaged from error
    plain = isinstance(state, dict) and all(
        isinstance(name, str) and isinstance(value, torch.Tensor) and value.is_floating_point() and not value.is_sparse
        for name, value in state.items()
    )
    if not plain:
        raise damaged
    return dict(state)


def _unpacked(content: io.BytesIO) -> int:
    """Return how many bytes an archive holds, which may be packed; 0 for older files, that are no archives."""
    if not zipfile.is_zipfile(content):
        return 0
    with zipfile.ZipFile(content) as archive:
        return sum(entry.file_size for entry in archive.infolist())


def _too_large() -> BadInput:
    return BadInput("the weights are larger than any model of medfpl")
