"""Reading and writing scans: ``read(path) -> Scan`` and ``write(scan, target, derivation)``."""
