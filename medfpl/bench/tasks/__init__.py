"""What PSNR cannot see. Each module of this folder is one task."""

from medfpl.bench.tasks.base import Task
from medfpl.registry import Registry

__all__ = ["TASKS", "Task"]

TASKS: Registry[Task] = Registry("task", "medfpl.bench.tasks.kinds", "TASK")
