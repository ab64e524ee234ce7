"""Settings that a stranger wrote: each is checked as it is read, and refused by its name."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from simulations.language_model.text.tokenizers import Vocabulary

LARGEST = 2**31 - 1  # of any whole number here: token ids and sizes are 32-bit integers
_LONGEST_JSON = 64 * 2**20  # bytes of a config.json or an index: real ones have a few kilobytes


@dataclass(frozen=True)
class Fields:
    """The settings of a checkpoint by name; null counts as not given.

    Attributes:
        source: the file they are from, for messages.
        values: as they were read.
        prefix: what every name begins with in the file.

    Example:
        >>> fields = Fields("config.json", {"n_embd": 12, "n_inner": None})
        >>> fields.integer("n_embd"), fields.integer("n_inner", default=48)
        (12, 48)
        >>> fields.integer("n_layer")
        Traceback (most recent call last):
        ...
        ValueError: config.json has no n_layer: it must be a whole number
    """

    source: str
    values: Mapping[str, Any]
    prefix: str = ""

    def get(self, name: str) -> Any:
        """What is written there, or None."""
        return self.values.get(self.prefix + name)

    def integer(self, name: str, default: int | None = None, *, at_least: int = 1) -> int:
        """A whole number from ``at_least`` to 2³¹ − 1."""
        value = self._given(name, default, "a whole number")
        if not isinstance(value, int) or isinstance(value, bool):
            raise self.wrong(name, "a whole number")
        if not at_least <= value <= LARGEST:
            raise self.wrong(name, f"a whole number from {at_least} to {LARGEST}")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """A positive, finite number."""
        value = self._given(name, default, "a positive number")
        # Not above the largest float32 either, in which it will be used.
        if not isinstance(value, int | float) or value is True or not 0 < value < 3e38:
            raise self.wrong(name, "a positive number")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._given(name, default, "true or false")
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false")
        return value

    def choice(self, name: str, options: Mapping[str, Any], default: str) -> Any:
        """What ``options`` has for the text that is written there."""
        value = self._given(name, default, "a text")
        if not isinstance(value, str) or value not in options:
            raise self.wrong(name, f"one of {', '.join(options)}")
        return options[value]

    def texts(self, name: str) -> list[str]:
        """A list of texts."""
        value = self._given(name, None, "a list of texts")
        if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
            raise self.wrong(name, "a list of texts")
        return value

    def require(self, **expected: Any) -> None:
        """Refuse every setting that is given and is not the one value that is implemented."""
        for name, value in expected.items():
            if self.get(name) not in (None, value):
                raise self.wrong(name, f"{value!r}, which is all that is implemented")

    def inner(self, name: str) -> Fields:
        """The settings below ``name``, none if it is not given."""
        value = self.get(name)
        if not isinstance(value, dict | None):
            raise self.wrong(name, "settings by name")
        return Fields(f"{self.source}, {self.prefix}{name}", value or {})

    def vocabulary(self, num_tokens: int, eos_id: Any, bos_id: Any) -> Vocabulary:
        """The vocabulary whose ends are as given: BOS is EOS where there is no BOS.

        Args:
            num_tokens: V.
            eos_id: an id, several of which the first counts, or None.
            bos_id: likewise.
        """
        ends = [ids[0] if isinstance(ids, list) and ids else ids for ids in (eos_id, bos_id)]
        eos_id, bos_id = ends[0], ends[0] if ends[1] is None else ends[1]
        for name, value in (("eos_token_id", eos_id), ("bos_token_id", bos_id)):
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < num_tokens:
                raise ValueError(
                    f"{self.source}: {name} must be an id below the vocabulary's {num_tokens}, "
                    f"got {value!r:.80}: name the token that ends a sequence"
                )
        return Vocabulary(num_tokens, eos_id, bos_id)

    def wrong(self, name: str, expected: str) -> ValueError:
        """The error that says what is written under ``name`` and what must be."""
        return ValueError(
            f"{self.source}: {self.prefix}{name} must be {expected}, got {self.get(name)!r:.80}"
        )

    def _given(self, name: str, default: Any, expected: str) -> Any:
        value = self.get(name)
        if value is None and default is None:
            raise ValueError(f"{self.source} has no {self.prefix}{name}: it must be {expected}")
        return default if value is None else value


def read_json(path: Path) -> Fields:
    """The settings in a JSON file.

    Raises:
        ValueError: it is missing, too long to be one, or not JSON.
    """
    if not path.is_file():
        raise ValueError(f"{path.parent} has no {path.name}: pass the directory of a checkpoint")
    if path.stat().st_size > _LONGEST_JSON:
        raise ValueError(f"{path} has {path.stat().st_size} bytes: settings have a few thousand")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON ({error!s:.80}): get the file again") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path} must hold settings by name, got a {type(values).__name__}")
    return Fields(str(path), values)
