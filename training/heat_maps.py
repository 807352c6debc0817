"""Where in the films a word of a report comes from, and what else a model says of itself while it reads a report.

Shapes: T words (the end mark included), V views, N visual tokens of all views, h x w places of a film, M rows of the
memory, L observations, C numbers the film reader says of a place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor, nn

from ..modeling.modeling_losses import IGNORED


@dataclass
class Reading:
    """One study's report (T words) as a model reads it beside the V films of the study.

    Args:
        log_probability: of each word behind those before it, (T,).
        heat: share of each word that comes from each place, (T, V, h, w); sums to 1 over all places of all views.
        mask: UAR's sigmoid(M) (Eq. 11), how open each place is to the word at this position, (T, V, h, w).
        similarity: cosine of films and report in the space that they share.
        memory_of_words, memory_of_films: MCSAM's retrieval weights, (T, M) and (V, h, w, M).
        observations: what each place adds to the logit of each observation, (L, V, h, w).
        observation_logits: the logits themselves, (L,).

    What a model does not have is None.
    """

    log_probability: Tensor
    heat: Tensor
    mask: Tensor | None
    similarity: float | None
    memory_of_words: Tensor | None
    memory_of_films: Tensor | None
    observations: Tensor | None
    observation_logits: Tensor | None


def read_report(network: Any, inputs: dict[str, Tensor], labels: Tensor) -> Reading:
    """Let a model read a report of one study: films as its processor gives them (B = 1), `labels` (1, T)."""
    labels = labels[:, labels[0] != IGNORED]
    views = inputs["view_mask"].shape[1]
    encoder = network.encoder
    parts = [encoder.encoder, getattr(encoder, "memory", None), encoder.observations]
    with torch.enable_grad(), _inputs_of(parts) as heard, _attention_of(network) as weights:
        encoded = encoder(**inputs)
        ids = network._shift_labels(labels)
        output = network(decoder_input_ids=ids, encoder_outputs=encoded, use_cache=False)
        chosen = output.logits.float().log_softmax(-1).gather(-1, labels[..., None])[0, :, 0]  # (T,)
        heat = _word_heat(chosen, weights)
    with torch.no_grad():
        films, report = encoded.visual_semantics, None
        if films is not None:
            report = torch.cosine_similarity(films, network.embed_reports(labels)).item()
        return Reading(
            log_probability=chosen.detach(),
            heat=_normalise(as_grid(heat, views)),
            mask=_mask(network, labels.shape[1], views),
            similarity=report,
            **_memory(network, labels, heard[1], views),
            **_observations(encoder, heard[2], views),
        )


def _word_heat(chosen: Tensor, weights: list[Tensor]) -> Tensor:
    """Log-probabilities (T,) and each layer's cross-attention (1, H, prompts + T, N) -> (T, N), nothing below 0.

    Attention says where a word looks, its gradient which of that made the word likelier: their product, what is
    positive of it, mean over heads, sum over layers (Chefer et al., ICCV 2021, Eq. 5).
    """
    words, rows = len(chosen), []
    for word, value in enumerate(chosen):
        slopes = torch.autograd.grad(value, weights, retain_graph=True)
        layers = [(slope * weight)[0, :, word - words] for slope, weight in zip(slopes, weights, strict=True)]
        rows.append(torch.stack(layers).clamp(min=0).mean(1).sum(0))
    return torch.stack(rows).detach()


def as_grid(tokens: Tensor, views: int) -> Tensor:
    """(..., N) -> (..., V, h, w). What stands before a film's places (class token, registers) is left out."""
    films = tokens.unflatten(-1, (views, -1))
    side = isqrt(films.shape[-1])
    return films[..., films.shape[-1] - side * side :].unflatten(-1, (side, side))


def _normalise(heat: Tensor) -> Tensor:
    """(T, V, h, w) -> the same with sum 1 for each word; a word without any heat has it everywhere alike."""
    total = heat.sum((1, 2, 3), keepdim=True)
    return torch.where(total > 0, heat / total.clamp(min=1e-30), torch.full_like(heat, 1 / heat[0].numel()))


def _mask(network: Any, words: int, views: int) -> Tensor | None:
    refiner = getattr(network, "refiner", None)
    if refiner is None:
        return None
    tokens = views * network.config.tokens_per_view
    return as_grid(refiner.visible(torch.arange(words, device=network.device), tokens), views)


def _memory(network: Any, labels: Tensor, heard: Any, views: int) -> dict[str, Tensor | None]:
    """Retrieval weights of MCSAM's bank, mean over its heads."""
    if heard is None or not hasattr(network.encoder.memory, "retrieve"):
        return {"memory_of_words": None, "memory_of_films": None}
    memory = network.encoder.memory
    words = memory.retrieve(network.get_input_embeddings()(labels))[0].mean(0)  # (T, M)
    films = memory.retrieve(heard[0])[0].mean(0)  # (N, M)
    return {"memory_of_words": words, "memory_of_films": as_grid(films.T, views).permute(1, 2, 3, 0)}


def topic_words(network: Any) -> Tensor:
    """How much each word of the vocabulary takes from each row of MCSAM's memory: (vocabulary, M)."""
    with torch.no_grad():
        return network.encoder.memory.retrieve(network.get_input_embeddings().weight[None])[0].mean(0)


def _observations(encoder: Any, heard: Any, views: int) -> dict[str, Tensor | None]:
    """The observations' linear layer reads the mean over places, so each place's share of a logit is exact."""
    if heard is None:
        return {"observations": None, "observation_logits": None}
    places = heard[0]  # (V, N, C)
    weight = encoder.observations.classify.weight.unflatten(1, (-1, places.shape[-1]))[:, :views]  # (L, V, C)
    shares = torch.einsum("vnc,lvc->lvn", places, weight) / places.shape[1]
    logits = encoder.observations(*heard)["observation_logits"][0]
    return {"observations": as_grid(shares.flatten(1), views), "observation_logits": logits}


@contextmanager
def _attention_of(network: Any) -> Iterator[list[Tensor]]:
    """Each decoder layer's cross-attention (B, H, T, N) while this lasts; eager attention alone hands it out."""
    before, weights = network.config._attn_implementation, []
    network.set_attn_implementation("eager")
    # The model's own `cross_attentions` are cut to the words, and what is cut out has no part in the words' gradient.
    hooks = [
        layer.encoder_attn.register_forward_hook(lambda module, arguments, output: weights.append(output[1]))
        for layer in network.decoder.layers
    ]
    try:
        yield weights
    finally:
        network.set_attn_implementation(before)
        for hook in hooks:
            hook.remove()


@contextmanager
def _inputs_of(parts: list[nn.Module | None]) -> Iterator[list[Any]]:
    """What each module is first called with; None where it is None or not called."""
    heard: list[Any] = [None] * len(parts)

    def listen(number: int) -> Any:
        def keep(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            if heard[number] is None:
                heard[number] = arguments

        return keep

    hooks = [part.register_forward_pre_hook(listen(n)) for n, part in enumerate(parts) if part is not None]
    try:
        yield heard
    finally:
        for hook in hooks:
            hook.remove()
