"""Many trials of a process: in constant memory, on any mesh, resumable."""
