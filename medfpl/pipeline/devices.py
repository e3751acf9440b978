"""Where to compute: 'auto' chooses and says so; a device that was asked for must be there."""

from medfpl.errors import MedfplError, UsageError


def choose_device(asked: str = "auto") -> str:
    """Return the torch device for ``asked``: "cpu", "cuda:0", "mps", ...; "auto" takes the GPU if there is one.

    Raises:
        UsageError: if ``asked`` is no device name of torch.
        MedfplError: if that device is not on this machine.
    """
    import torch

    if asked == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(asked)
    except RuntimeError:
        raise UsageError(f"--device {asked} is no device", "auto, cpu, cuda, cuda:1, mps, xpu") from None
    if device.type == "cpu":
        return "cpu"
    try:
        torch.empty(1, device=device).cpu()
    except Exception as error:  # each backend has its own: RuntimeError, AssertionError, AcceleratorError
        raise MedfplError(
            f"the device {asked} is not available", "see 'medfpl info --devices'; --device auto"
        ) from error
    return str(device)


def describe_device(device: str) -> str:
    """Return a short text for people: the device and, for a GPU, its name."""
    import torch

    kind = torch.device(device).type
    if kind == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({torch.get_num_threads()} threads)" if kind == "cpu" else device


def list_devices() -> list[str]:
    """Return the devices of this machine, each as ``describe_device`` tells it; imports torch."""
    import torch

    found = ["cpu", *(f"cuda:{i}" for i in range(torch.cuda.device_count()))]
    if torch.backends.mps.is_available():
        found.append("mps")
    if torch.xpu.is_available():
        found.append("xpu")
    return [describe_device(d) for d in found]
