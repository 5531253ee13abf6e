"""An explanation in sentences: for the command line, and for the picture."""

from __future__ import annotations

from blemish.explanation.explanation import (
    ChannelContribution,
    Explanation,
    LayerContribution,
    Peak,
    SimilarPatch,
)
from blemish.explanation.tail_probability import SMALLEST, TailProbability

_NEVER_SEEN = 1e-5  # share of pixels below which only "at most" is known


def odds(probability: float) -> str:
    """Probability as odds, in two digits.

    Examples
    --------
    >>> odds(0.25), odds(0.0031), odds(7e-8), odds(1e-12)
    ('1 in 4', '1 in 320', '1 in 14 million', 'less than 1 in 1000 billion')
    """
    if probability <= SMALLEST:
        return f"less than {odds(1.0000001 * SMALLEST)}"
    count = 1 / probability
    for unit, name in ((1e9, " billion"), (1e6, " million"), (1, "")):
        if count >= unit:
            rounded = float(f"{count / unit:.2g}")
            return f"1 in {rounded:.10g}{name}"
    return "1 in 1"


def verdict(explanation: Explanation) -> str:
    """Score, threshold and what good images have."""
    relation = "reaches" if explanation.is_anomalous else "is below"
    return (
        f"Score {explanation.image_score:.4g} {relation} the threshold "
        f"{explanation.threshold:.4g}: {decision(explanation)}. Good images score "
        f"{explanation.median_score:.4g} in the middle, "
        f"{float(explanation.good_scores.max()):.4g} at most."
    )


def decision(explanation: Explanation) -> str:
    """Return the word for the decision."""
    return "anomalous" if explanation.is_anomalous else "normal"


def rarity(tail: TailProbability, *, approximate: bool = False) -> list[str]:
    """How rare the score is among good images."""
    roughly = ", whose scores are approximate," if approximate else ""
    seen = f"{tail.higher} of {tail.images} good images{roughly}"
    chance = f"{100 * tail.p_value:.2g} %"
    lines = [f"{seen} score as high: a good part does with a chance of about {chance} at most."]
    if tail.extrapolated is not None and tail.interval is not None:
        low, high = tail.interval
        lines.append(
            f"Extrapolated beyond what was seen: {odds(tail.extrapolated)} "
            f"({odds(high)} to {odds(low)}), if the tail goes on as it begins."
        )
    return lines


def place(peak: Peak) -> str:
    """Where a peak is, and how rare its map value is."""
    x, y, wide, high = peak.box
    share = f"{peak.share:.0%} of the score" if peak.share else "not in the score"
    if peak.good_share == 0.0:
        rare = "above every pixel of the good images"
    elif peak.good_share <= _NEVER_SEEN * 1.001:
        rare = "reached by at most 0.001% of the pixels of good images"
    else:
        rare = f"reached by {peak.good_share:.2g} of the pixels of good images"
    return (
        f"x {peak.x:.0f}, y {peak.y:.0f} (box x {x:.0f}, y {y:.0f}, {wide:.0f}x{high:.0f}): "
        f"{share}; map {peak.map_value:.4g}, {rare}"
    )


def layer_name(layer: LayerContribution) -> str:
    """Layer and how coarse it looks.

    Cells need not be square; the height stands for both.
    """
    return f"{layer.layer} ({layer.cell[0]:.3g} px cells)"


def layer_text(layer: LayerContribution) -> str:
    """Contribution of a layer, and how far it stands out from the rest of the image."""
    text = f"{layer.image:.4g} ({layer.share:.0%})"
    if layer.median > 0:
        text += f", {layer.at_peak / layer.median:.1f} times the image's median at the peak"
    return text


def channel_name(channel: ChannelContribution) -> str:
    """Layer and channel; a channel that answers for the Chebyshev bound is marked."""
    bound = " [largest deviation]" if channel.kind == "deviation" else ""
    return f"{channel.dimension.layer} {channel.dimension.name}{bound}"


def channel_text(channel: ChannelContribution) -> str:
    """Value of a channel beside that of good images."""
    return (
        f"{channel.share:.0%}; {channel.value:.3g} where good images have {channel.mean:.3g} "
        f"\N{PLUS-MINUS SIGN} {channel.spread:.2g} ({channel.deviations:+.1f} sd)"
    )


def others(explanation: Explanation, contribution: float) -> str:
    """What the channels that are not shown contribute together."""
    share = contribution / explanation.image_score if explanation.image_score else 0.0
    return f"all other channels together: {contribution:.4g} ({share:.0%})"


def boxes(explanation: Explanation) -> str:
    """What the numbered boxes are."""
    driving = sum(peak.share > 0 for peak in explanation.peaks)
    last = len(explanation.peaks)
    first = "Box 1" if driving == 1 else f"Boxes 1 to {driving}"
    text = f"{first} drove the score"
    if driving == last:
        return f"{text}."
    rest = f"box {last}" if driving + 1 == last else f"boxes {driving + 1} to {last}"
    return f"{text}; {rest} stand{'s' if driving + 1 == last else ''} out, but had no say in it."


def likeness(patch: SimilarPatch, *, anywhere: bool = False) -> str:
    """How far the most similar good image is."""
    at = "at any place" if anywhere else "at this place"
    return (
        f"{patch.image} {at}, {patch.distance:.4g} away; good images are usually "
        f"{patch.usual:.4g} from their most similar one"
    )


def why(explanation: Explanation) -> str:
    """One sentence on where the score comes from."""
    peak = explanation.peaks[0]
    layer = max(explanation.layers, key=lambda each: each.image)
    coarse, fine = explanation.layers[0], explanation.layers[-1]
    kind = ""
    if len(explanation.layers) > 1 and layer is coarse:
        kind = ", the coarsest: shape and arrangement"
    elif len(explanation.layers) > 1 and layer is fine:
        kind = ", the finest: texture and edges"
    where = " of the photo as it came" if explanation.is_aligned else ""
    return (
        f"Most unusual at x {peak.x:.0f}, y {peak.y:.0f}{where}, by {layer_name(layer)}{kind} "
        f"({layer.share:.0%} of the score)."
    )


def lines(explanation: Explanation) -> list[str]:
    """All of it, for people, in lines of text.

    Returns
    -------
    list of str
        The first word of a paragraph says what it is about.
    """
    found = explanation
    text = [f"{decision(found):<10} {verdict(found)}"]
    if found.is_training_image:
        text.append(_line("", "The model has learned from this very image: its score is too low."))
    text += _paragraph("rarity", rarity(found.tail, approximate=found.is_approximate))
    text += [
        _line("", f"At this place ({name}): p = {value:.2g} among the good images.")
        for name, value in found.position_p_values.items()
    ]
    text += _paragraph("where", [place(peak) for peak in found.peaks])
    layers = [f"{layer_name(each)}: {layer_text(each)}" for each in found.layers]
    if found.constant:
        layers.append(f"standardisation: {found.constant:.4g}")
    text += _paragraph("layers", layers)
    channels = [f"{channel_name(each)}: {channel_text(each)}" for each in found.channels]
    text += _paragraph("channels", [*channels, others(found, found.other_channels)])
    similar = [
        likeness(patch, anywhere=everywhere)
        for patch, everywhere in ((found.similar, False), (found.similar_anywhere, True))
        if patch is not None
    ]
    return text + _paragraph("similar", similar)


def _paragraph(name: str, text: list[str]) -> list[str]:
    return [_line("" if number else name, line) for number, line in enumerate(text)]


def _line(name: str, text: str) -> str:
    return f"{name:<10} {text}"
