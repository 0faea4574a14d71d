"""All families, by kind."""

from __future__ import annotations

from families.catalogue import causal, encoders, multimodal, seq2seq, speech, vision, wrappers
from families.family import Family

FAMILIES: tuple[Family, ...] = (
    *causal.FAMILIES,
    *encoders.FAMILIES,
    *seq2seq.FAMILIES,
    *vision.FAMILIES,
    *multimodal.FAMILIES,
    *speech.FAMILIES,
    *wrappers.FAMILIES,
)
