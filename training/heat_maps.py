"""Where in the films a word of a report comes from, and what else a model says of itself while it reads a report.

Two answers to "where". Heat is what counts: a window of the film is hidden, and the word becomes so much less likely
(occlusion; Zeiler & Fergus, ECCV 2014). Attention is where the decoder looks, as UAR's Fig. 7 shows it: its places
are those of the visual tokens, few and mixed with one another by the encoder before, and no measure of what counts
(Jain & Wallace, NAACL 2019). docs/explain.md has the figures of both.

Shapes: T words (the end mark included), V views, N visual tokens of all views, h x w places of a film that tokens
stand for, G x G places at which a window is hidden, M rows of the memory, L observations.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from ..modeling.modeling_losses import IGNORED
from .build import reads_tokens

GRID = 12  # places a side: a finding of a phantom is about as large as a window
WINDOW = 3  # places a side that are hidden at once, about the place
BATCH = 16  # films that are read at once: more no longer fit a core's cache


@dataclass
class Reading:
    """One study's report (T words) as a model reads it beside the V films of the study.

    Args:
        log_probability: of each word behind those before it, (T,).
        heat: how much of it is lost where a window is hidden, in nats, (T, V, G, G); below 0 where hiding helps. What
            the decoder is told of observations stays.
        attention: of each word over the places, mean over heads and layers, (T, V, h, w).
        mask: UAR's sigmoid(M) (Eq. 11), how open each place is to the word at this position, (T, V, h, w).
        similarity: cosine of films and report in the space that they share.
        memory_of_words, memory_of_films: MCSAM's retrieval weights, (T, M) and (V, h, w, M).
        observation_logits: of each observation, (L,).
        observation_heat: how much of a logit is lost where a window is hidden, (L, V, G, G).

    What a model does not have is None.
    """

    log_probability: Tensor
    heat: Tensor
    attention: Tensor
    mask: Tensor | None
    similarity: float | None
    memory_of_words: Tensor | None
    memory_of_films: Tensor | None
    observation_logits: Tensor | None
    observation_heat: Tensor | None


@torch.no_grad()
def read_report(network: Any, inputs: dict[str, Tensor], labels: Tensor) -> Reading:
    """Let a model read a report of one study: films as its processor gives them (B = 1), `labels` (1, T)."""
    labels = labels[:, labels[0] != IGNORED]
    pixels, views = inputs["pixel_values"], inputs["pixel_values"].shape[1]
    with _attention_at_hand(network), _input_of(getattr(network.encoder, "memory", None)) as heard:
        encoded = network.encoder(pixels, inputs["view_mask"])
        likely, attentions = _read_words(network, encoded, labels, output_attentions=True)
    whole, similarity = encoded.observation_logits, None
    words, logits = _hide_windows(network, pixels[0], labels, whole)  # (V * G * G, T), (V * G * G, L)
    if encoded.visual_semantics is not None:
        similarity = torch.cosine_similarity(encoded.visual_semantics, network.embed_reports(labels)).item()
    return Reading(
        log_probability=likely[0],
        heat=(likely - words).T.unflatten(1, (views, GRID, GRID)),
        attention=as_grid(torch.stack(attentions).float().mean((0, 2))[0], views),
        mask=_mask(network, labels.shape[1], views),
        similarity=similarity,
        **_memory(network, labels, heard, views),
        observation_logits=None if whole is None else whole[0],
        observation_heat=None if logits is None else (whole - logits).T.unflatten(1, (views, GRID, GRID)),
    )


def _read_words(network: Any, encoded: Any, labels: Tensor, **asked: bool) -> tuple[Tensor, Any]:
    """Log-probability of each word (B, T) for B studies with the same report (1, T); the attentions if asked for."""
    labels = labels.expand(len(encoded.last_hidden_state), -1)
    ids = network._shift_labels(labels)
    output = network(decoder_input_ids=ids, encoder_outputs=encoded, use_cache=False, **asked)
    chosen = output.logits.float().log_softmax(-1).gather(-1, labels[..., None])[..., 0]
    return chosen, output.cross_attentions


def _hide_windows(network: Any, films: Tensor, labels: Tensor, whole: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Log-probabilities (V * G * G, T), and logits of observations (V * G * G, L), with one window hidden.

    A film's other views are read once: only what the reader says of the film with the window is put in its place.
    The decoder is told the observations that the whole films show, whose logits are `whole` (1, L): a window that
    turns one of them over would change all words at once, and every sentence would have that observation's map.
    """
    name, seen = _read_films(network, films)
    told = {} if whole is None else {"observations": network.encoder.observations.named(whole)}
    words, logits = [], []
    for view, film in enumerate(films):
        for hidden in hide(film).split(BATCH):
            answers = seen.expand(len(hidden), *seen.shape).clone()  # (b, V, ...)
            answers[:, view] = _read_films(network, hidden)[1]
            each = {key: value.expand(len(hidden), -1) for key, value in told.items()}
            encoded = network.encoder(
                view_mask=answers.new_ones(answers.shape[:2], dtype=torch.long), **{name: answers}, **each
            )
            words.append(_read_words(network, encoded, labels)[0])
            logits.append(encoded.observation_logits)
    return torch.cat(words), None if logits[0] is None else torch.cat(logits)


def hide(film: Tensor) -> Tensor:
    """A film (C, H, W) with a window of it at the film's mean, for each place: (G * G, C, H, W)."""
    hidden = film.repeat(GRID * GRID, 1, 1, 1)
    for place, copy in enumerate(hidden):
        rows, columns = (
            _window(number, size) for number, size in zip(divmod(place, GRID), film.shape[1:], strict=True)
        )
        copy[:, rows, columns] = film.mean()
    return hidden


def _window(place: int, size: int) -> slice:
    """Pixels of the window about a place, along one side of `size` pixels."""
    reach = (WINDOW - 1) / 2
    return slice(max(0, round((place - reach) * size / GRID)), round((place + 1 + reach) * size / GRID))


def _read_films(network: Any, films: Tensor) -> tuple[str, Tensor]:
    """What the model's film reader says of films (n, C, H, W), and as which argument its encoder takes that."""
    each = films.new_ones(len(films), 1, dtype=torch.long)
    if reads_tokens(network):
        return "visual_ids", network.encoder.unifier.tokenize(films[:, None], each)[:, 0]
    return "visual_features", network.encoder.visual.read(films[:, None], each)


def as_grid(tokens: Tensor, views: int) -> Tensor:
    """(..., N) -> (..., V, h, w). What stands before a film's places (class token, registers) is left out."""
    films = tokens.unflatten(-1, (views, -1))
    side = isqrt(films.shape[-1])
    return films[..., films.shape[-1] - side * side :].unflatten(-1, (side, side))


def _mask(network: Any, words: int, views: int) -> Tensor | None:
    refiner = getattr(network, "refiner", None)
    if refiner is None:
        return None
    tokens = views * network.config.tokens_per_view
    return as_grid(refiner.visible(torch.arange(words, device=network.device), tokens), views)


def _memory(network: Any, labels: Tensor, heard: list[Tensor], views: int) -> dict[str, Tensor | None]:
    """Retrieval weights of MCSAM's bank, mean over its heads; `heard` are the visual tokens that went into it."""
    if not hasattr(getattr(network.encoder, "memory", None), "retrieve"):
        return {"memory_of_words": None, "memory_of_films": None}
    memory = network.encoder.memory
    words = memory.retrieve(network.get_input_embeddings()(labels))[0].mean(0)  # (T, M)
    films = memory.retrieve(heard[0])[0].mean(0)  # (N, M)
    return {"memory_of_words": words, "memory_of_films": as_grid(films.T, views).permute(1, 2, 3, 0)}


@torch.no_grad()
def topic_words(network: Any) -> Tensor:
    """How much each word of the vocabulary takes from each row of MCSAM's memory: (vocabulary, M)."""
    return network.encoder.memory.retrieve(network.get_input_embeddings().weight[None])[0].mean(0)


@contextmanager
def _attention_at_hand(network: Any) -> Iterator[None]:
    """The decoder's attention computed eagerly while this lasts: that alone hands its weights out."""
    # Not `set_attn_implementation()`: it asks the backbone too, and the way back fails at one that has no other.
    settings = network.decoder.config
    before, settings._attn_implementation = settings._attn_implementation, "eager"
    try:
        yield
    finally:
        settings._attn_implementation = before


@contextmanager
def _input_of(part: Any) -> Iterator[list[Tensor]]:
    """What a module (None for none) is called with while this lasts."""
    heard: list[Tensor] = []
    if part is None:
        yield heard
        return
    hook = part.register_forward_pre_hook(lambda module, arguments: heard.append(arguments[0]))
    try:
        yield heard
    finally:
        hook.remove()
