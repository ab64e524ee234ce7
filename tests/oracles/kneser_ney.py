"""Interpolated modified Kneser–Ney from its definition: tuples in dictionaries, one at a time.

Chen and Goodman (1999), equations (2.20)-(2.22) and §5.3, with counts of what begins with BOS as
they are.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Sequence

Document = Sequence[Hashable]
BOS = "<s>"


def counts(documents: Sequence[Document], order: int) -> list[Counter[tuple]]:
    """Of k-grams that end in a predicted token, k = 1 … order; raw, or of tokens before them."""
    raw: list[Counter[tuple]] = [Counter() for _ in range(order + 1)]
    left: dict[tuple, set] = defaultdict(set)
    for document in documents:
        tokens = (BOS, *document)
        for end in range(1, len(tokens)):
            for k in range(1, order + 1):
                if (start := end - k + 1) >= 0:
                    raw[k][tokens[start : end + 1]] += 1
                if start >= 1:
                    left[tokens[start : end + 1]].add(tokens[start - 1])
    for k in range(1, order):
        for gram in raw[k]:
            if gram[0] != BOS:
                raw[k][gram] = len(left[gram])
    return raw


def discounts(table: Counter[tuple]) -> list[float]:
    """D(0) … D(3+)."""
    n = Counter(table.values())
    if min(n[1], n[2], n[3], n[4]) == 0:
        return [0.0, 0.5, 1.0, 1.5]
    share = n[1] / (n[1] + 2 * n[2])
    found = [j - (j + 1) * share * n[j + 1] / n[j] for j in (1, 2, 3)]
    return [0.0, *found] if min(found) > 0 else [0.0, 0.5, 1.0, 1.5]


class KneserNey:
    def __init__(self, documents: Sequence[Document], outputs: Sequence, order: int) -> None:
        self.outputs, self.order = outputs, order
        self.tables = counts(documents, order)
        self.discounts = [discounts(table) for table in self.tables]

    def prob(self, token: Hashable, context: tuple) -> float:
        """p(token | context), of which the last order − 1 tokens count."""
        context = context[-(self.order - 1) :] if self.order > 1 else ()
        return self._prob(token, context)

    def _prob(self, token: Hashable, context: tuple) -> float:
        k = len(context) + 1
        lower = self._prob(token, context[1:]) if context else 1 / len(self.outputs)
        table, discount = self.tables[k], self.discounts[k]
        total = sum(table[(*context, other)] for other in self.outputs)
        if not total:
            return lower
        taken = sum(discount[min(table[(*context, other)], 3)] for other in self.outputs)
        count = table[(*context, token)]
        return (count - discount[min(count, 3)]) / total + taken / total * lower
