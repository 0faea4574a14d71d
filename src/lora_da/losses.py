"""Losses: what ``example_loss`` can be, each an object that returns one number an example, in nats.

A language model, a classifier or a model for question answering needs none: its own is found out. The others are what
training computes outside of the model.
"""

from lora_da.statistics.losses.classification import Classification, MultiLabel, MultipleChoice, Regression
from lora_da.statistics.losses.contrastive import Contrastive
from lora_da.statistics.losses.distillation import Distillation
from lora_da.statistics.losses.example_losses import ExampleLoss
from lora_da.statistics.losses.language_models import CausalLM, MaskedLM, SequenceToSequence, TokenClassification
from lora_da.statistics.losses.preference import DPO, RewardPairs
from lora_da.statistics.losses.question_answering import QuestionAnswering

__all__ = [
    "DPO",
    "CausalLM",
    "Classification",
    "Contrastive",
    "Distillation",
    "ExampleLoss",
    "MaskedLM",
    "MultiLabel",
    "MultipleChoice",
    "QuestionAnswering",
    "Regression",
    "RewardPairs",
    "SequenceToSequence",
    "TokenClassification",
]
