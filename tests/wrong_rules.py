"""What is left of a law after a refusal, done wrong in the ways that others have: negative controls of verification."""

import numpy as np

from specpress.laws.law import Law
from specpress.speculation.verification import Rest


class Biased(Rest):
    """The target's own law after a refusal, as TriForce's middle model samples."""

    def refuse(self, draft):
        self.weight = self._scale = 1


class PublicVariant(Rest):
    """a = S / (1 - Q(x)) after the refusal of a token x, as public code has it."""

    def ratio(self, draft, token):
        self._token = token
        return super().ratio(draft, token)

    def refuse(self, draft):
        excess = np.maximum(self._scale * self.law.mass - draft.at(self.law.tokens), 0)
        left, others = excess.sum(), 1 - draft.probability(self._token)
        if left and others:
            self.weight = min(1, left / others)
            self._law, self._scale = Law(self.law.tokens, excess), self.weight / left
