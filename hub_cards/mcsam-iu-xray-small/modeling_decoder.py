"""The stock decoder, and the short way through its layers by which a report is written.

All beams of a study attend to the same films. `generate()` of Transformers copies a study's films, and the keys and
values that each layer makes of them, once for every beam; here they stand once, and the beams' words are the rows of
one product. The layers, their weights and their sums are those of the stock decoder.

Shapes: S studies, R rows of words (beams of all studies, those of a study side by side; R = S without beams), T new
words of each, N visual tokens of a study, D model width, H heads.
"""

from inspect import signature
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutputWithPastAndCrossAttentions
from transformers.models.marian.modeling_marian import MarianDecoder

# Transformers 4.57 numbers words by this argument; 5.x counts them itself and knows it no longer.
NEEDS_CACHE_POSITION = "cache_position" in signature(MarianDecoder.forward).parameters


class StudyCache(EncoderDecoderCache):
    """Keys and values of words and films. All beams of a study attend to the same films: only words are reordered."""

    def reorder_cache(self, beam_idx: Tensor) -> None:
        self.self_attention_cache.reorder_cache(beam_idx)


class ReportDecoder(MarianDecoder):
    """Marian's decoder for words (R, T, D) over films (S, N, D), whose rows are not repeated for beams.

    `encoder_attention_mask` is (S, N) of 0 and 1, or (1 or S, 1, T, N) that is added to the scores as it is.
    """

    def forward(
        self,
        inputs_embeds: Tensor,
        encoder_hidden_states: Tensor,
        encoder_attention_mask: Tensor,
        past_key_values: EncoderDecoderCache | None = None,
        hints: Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPastAndCrossAttentions:
        """States (R, T, D) of these words, to each of which its study's `hints` (S, D) are added; `kwargs` are the
        stock decoder's."""
        films, mask = encoder_hidden_states, encoder_attention_mask
        beams = len(inputs_embeds) // len(films)
        if hints is not None:
            inputs_embeds = inputs_embeds + _repeat(hints[:, None].to(inputs_embeds.dtype), beams)
        if past_key_values is not None and self._takes_short_way(inputs_embeds, past_key_values, kwargs):
            states = self._write(inputs_embeds, films, mask, past_key_values)
            return BaseModelOutputWithPastAndCrossAttentions(last_hidden_state=states, past_key_values=past_key_values)
        return super().forward(
            inputs_embeds=inputs_embeds,
            encoder_hidden_states=_repeat(films, beams),
            encoder_attention_mask=_repeat(mask, beams),
            past_key_values=past_key_values,
            **kwargs,
        )

    def _takes_short_way(self, words: Tensor, cache: EncoderDecoderCache, asked: dict[str, Any]) -> bool:
        """Whether nothing is asked for that the stock layers alone do: learning, attentions, padding, compiling."""
        if self.training or torch.is_grad_enabled() or torch.compiler.is_compiling():
            return False
        if any(asked.get(name) is not None for name in ("attention_mask", "input_ids")):
            return False
        if asked.get("output_attentions") or asked.get("output_hidden_states"):
            return False
        if {type(cache.self_attention_cache), type(cache.cross_attention_cache)} != {DynamicCache}:
            return False
        if words.shape[1] > 1 and cache.get_seq_length():
            return False
        # Who hooks a whole layer (offloading, sharding) expects that it is called.
        return self.config._attn_implementation == "sdpa" and not any(map(_is_hooked, self.layers))

    def _write(self, words: Tensor, films: Tensor, mask: Tensor, cache: EncoderDecoderCache) -> Tensor:
        """All layers over the new words: (R, T, D), (S, N, D) -> (R, T, D). Post-norm, as Vaswani et al."""
        past, T = cache.get_seq_length(), words.shape[1]
        hidden = words + self.embed_positions.weight[past : past + T]
        seen = mask[:, None, None].bool() if mask.dim() == 2 else mask.repeat(1, 1, len(words) // len(films), 1)
        for index, layer in enumerate(self.layers):
            heard = _attend_to_words(layer.self_attn, hidden, cache.self_attention_cache, index)
            hidden = layer.self_attn_layer_norm(hidden + heard)
            heard = _attend_to_films(layer.encoder_attn, hidden, films, seen, cache, index)
            hidden = layer.encoder_attn_layer_norm(hidden + heard)
            hidden = layer.final_layer_norm(hidden + layer.fc2(layer.activation_fn(layer.fc1(hidden))))
        return hidden

    def _update_cross_attn_mask(self, states: Any, mask: Any, *args: Any, **kwargs: Any) -> Any:
        """4.57 asks this method and would refuse a mask of four axes; 5.x adds it as it is."""
        if mask is not None and mask.dim() == 4:
            return mask
        return super()._update_cross_attn_mask(states, mask, *args, **kwargs)


def _attend_to_words(layer: Any, hidden: Tensor, cache: DynamicCache, index: int) -> Tensor:
    """Self-attention of new words over all words so far: (R, T, D) -> (R, T, D)."""
    query, key, value = (_split(project(hidden), layer) for project in (layer.q_proj, layer.k_proj, layer.v_proj))
    key, value = cache.update(key, value, index)
    return layer.out_proj(_join(F.scaled_dot_product_attention(query, key, value, is_causal=query.shape[2] > 1)))


def _attend_to_films(
    layer: Any, hidden: Tensor, films: Tensor, seen: Tensor, cache: EncoderDecoderCache, index: int
) -> Tensor:
    """Cross-attention: words of all beams of a study are rows of one query, (S, H, R / S * T, D / H)."""
    if not cache.is_updated.get(index):
        key, value = (_split(project(films), layer).contiguous() for project in (layer.k_proj, layer.v_proj))
        cache.cross_attention_cache.update(key, value, index)
        cache.is_updated[index] = True
    kept = cache.cross_attention_cache.layers[index]
    query = layer.q_proj(hidden).view(len(kept.keys), -1, hidden.shape[-1])
    heard = F.scaled_dot_product_attention(_split(query, layer), kept.keys, kept.values, attn_mask=seen)
    return layer.out_proj(_join(heard).view_as(hidden))


def _split(rows: Tensor, layer: Any) -> Tensor:
    """(B, n, D) -> (B, H, n, D / H)."""
    return rows.unflatten(-1, (layer.num_heads, -1)).transpose(1, 2)


def _join(heads: Tensor) -> Tensor:
    """(B, H, n, D / H) -> (B, n, D)."""
    return heads.transpose(1, 2).flatten(2)


def _repeat(rows: Tensor, times: int) -> Tensor:
    """Each row of (S, ...) this often: (S * times, ...)."""
    return rows if times == 1 else rows.repeat_interleave(times, dim=0)


def _is_hooked(layer: Any) -> bool:
    return bool(layer._forward_pre_hooks or layer._forward_hooks or hasattr(layer, "_hf_hook"))
