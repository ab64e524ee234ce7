"""The main job: stages, what is on disk, and running what is missing."""
