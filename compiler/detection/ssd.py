"""The loss of SSD."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from compiler.detection.criterion import Criterion, Target
from compiler.detection.losses import offset_loss
from compiler.detection.matching import Truth, match_each
from compiler.detection.sampling import hardest
from netspec.detection_choices import Ssd
from netspec.network import Network


class SsdCriterion(Criterion):
    """(L_conf + α·L_loc)/N, N being the positive boxes of the batch, and 0 where there are none.

    Source: Liu et al. 2016, equations 1 to 3.
    """

    def __init__(self, network: Network, choice: Ssd) -> None:
        super().__init__(network)
        self.choice = choice

    def run(self, module: nn.Module, inputs: tuple[Tensor, ...], targets: list[Target]) -> dict[str, Tensor]:
        given, choice = self.outputs(module, inputs), self.choice
        scores, anchors = given["scores"], given["anchors"]
        matches = match_each(anchors, Truth.of(targets), choice.iou)
        wanted = (matches.labels + 1).where(matches.positive, 0)
        errors = functional.cross_entropy(scores.flatten(0, 1), wanted.flatten(), reduction="none").view_as(wanted)
        trained = matches.positive | hardest(errors.detach(), matches, choice.negatives)
        count = matches.positive.sum().clamp(min=1)
        offsets = offset_loss(given["deltas"], anchors, matches, choice.offset_weights, beta=1.0)
        return {"classes": errors[trained].sum() / count, "boxes": choice.alpha * offsets / count}
