"""What a decoder is made of: one configuration for GPT-2, GPT-NeoX, Llama and Qwen2.

Letters: D width, H query heads, K key and value heads, C width of a head, L layers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from simulations.language_model.text.tokenizers import BYTES, Vocabulary


@dataclass(frozen=True)
class TransformerConfig:
    """Architecture; the default is a small Llama of 131,520 parameters that reads bytes.

    Attributes:
        vocabulary: what it reads and emits.
        width: D.
        num_layers: L; attention and perceptron count as one.
        num_heads: H.
        num_key_heads: K, a divisor of H; H unless given.
        head_width: C; D/H unless given.
        hidden_width: of the perceptron; 4 D unless given.
        norm: ``"rms"`` or ``"layer"``, which subtracts the mean and has a bias.
        norm_epsilon: added to the variance.
        activation: ``"silu"``, ``"gelu"`` or ``"gelu_tanh"``, its approximation by tanh.
        gated: whether the perceptron is activation(gate) · up, as in SwiGLU.
        attention_bias: whether queries, keys and values have biases.
        output_bias: whether the attention's output has a bias.
        perceptron_bias: whether the perceptron's layers have biases.
        parallel: whether attention and perceptron read the same input, as in GPT-NeoX.
        tied_head: whether logits are inner products with the embedding of the tokens.
        rotary_fraction: of each head that is rotated by its position; 0 for learned positions.
        rotary_base: of the rotation's frequencies.
        context: the longest sequence; it sizes the table of learned positions.
        dtype: ``"float32"`` or ``"bfloat16"``.
        rematerialise: whether the backward pass computes a layer's activations once more instead
            of keeping them: a seventh of the memory at a twentieth more time.

    Raises:
        ValueError: heads that cannot be shared out, or an odd number of rotated coordinates.

    Example:
        >>> TransformerConfig(width=64, num_heads=4, num_key_heads=2).head_size
        16
    """

    vocabulary: Vocabulary = BYTES
    width: int = 64
    num_layers: int = 2
    num_heads: int = 2
    num_key_heads: int | None = None
    head_width: int | None = None
    hidden_width: int | None = None
    norm: Literal["rms", "layer"] = "rms"
    norm_epsilon: float = 1e-6
    activation: Literal["silu", "gelu", "gelu_tanh"] = "gelu_tanh"
    gated: bool = False
    attention_bias: bool = False
    output_bias: bool = False
    perceptron_bias: bool = False
    parallel: bool = False
    tied_head: bool = False
    rotary_fraction: float = 1.0
    rotary_base: float = 10_000.0
    context: int = 2048
    dtype: Literal["float32", "bfloat16"] = "float32"
    rematerialise: bool = False

    def __post_init__(self) -> None:
        """Refuse heads that cannot be shared out."""
        if self.head_width is None and self.width % self.num_heads:
            raise ValueError(
                f"width is {self.width} and num_heads is {self.num_heads}: make width a multiple "
                "of num_heads, or pass head_width"
            )
        if self.num_heads % self.key_heads:
            raise ValueError(
                f"num_heads is {self.num_heads} and num_key_heads is {self.num_key_heads}: each "
                "key head serves equally many query heads, so make num_heads a multiple"
            )
        if self.rotated % 2:
            raise ValueError(
                f"width {self.width}, num_heads {self.num_heads} and rotary_fraction "
                f"{self.rotary_fraction} rotate {self.rotated} coordinates of each head: rotation "
                "turns pairs, so make that number even"
            )

    @property
    def key_heads(self) -> int:
        """K."""
        return self.num_key_heads or self.num_heads

    @property
    def head_size(self) -> int:
        """C."""
        return self.head_width or self.width // self.num_heads

    @property
    def hidden_size(self) -> int:
        """Width of the perceptron."""
        return self.hidden_width or 4 * self.width

    @property
    def rotated(self) -> int:
        """How many coordinates of each head are rotated."""
        return int(self.head_size * self.rotary_fraction)
