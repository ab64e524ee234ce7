"""What every part uses: checked arguments, pytrees, progress, files."""
