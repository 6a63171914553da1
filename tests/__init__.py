import importlib.metadata

_OLD_XLA = tuple(map(int, importlib.metadata.version("jaxlib").split(".")[:2])) < (0, 12)
QUICK_XLA = "--xla_cpu_use_fusion_emitters=false" if _OLD_XLA else ""
"""Fusion emitters make code slowly, to be run often. Newer XLAs abort at this flag."""
