"""Losses: pure functions of tensors. None knows a module, a trainer, a path or a process group."""
