"""The real selection processes: what keeps which of the candidates."""
