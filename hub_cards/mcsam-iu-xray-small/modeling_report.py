"""What report generators share: films of several views to visual tokens, and glue around the stock decoder.

Shapes: B studies, V views, N visual tokens of all views, T words, D model width.
"""

import copy
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PretrainedConfig, PreTrainedModel, SiglipVisionConfig
from transformers.cache_utils import EncoderDecoderCache
from transformers.modeling_outputs import BaseModelOutput, ModelOutput
from transformers.models.siglip.modeling_siglip import SiglipEncoder

from .modeling_candidates import FixedNoise, agreement, as_labels, check_candidates, choose, mean_log_likelihood
from .modeling_decoder import StudyCache
from .modeling_observations import ObservationHints

# What encoders take: of a study, and so never repeated for the beams that write its report.
FILM_INPUTS = ("pixel_values", "view_mask", "visual_features", "visual_ids", "observations")


@dataclass
class ReportEncoderOutput(ModelOutput):
    """What the decoder reads and what is aligned with the report.

    Args:
        last_hidden_state: visual tokens as the decoder attends to them, (B, N, D).
        visual_mask: 1 where a visual token belongs to a film, (B, N).
        visual_semantics: the study's films in the space shared with reports, (B, D); None without alignment.
        observation_logits: of each observation that the configuration names, (B, L); None where it names none.
        hints: what the decoder is told of them, (B, D).
        hidden_states: on request, what goes into each layer and what leaves the last one, (B, N, D) each.
        attentions: on request, of each layer (B, heads, N, N); eager attention alone has them.
    """

    last_hidden_state: Tensor | None = None
    visual_mask: Any = None  # a Tensor; None is the form that ModelOutput asks for
    visual_semantics: Any = None
    observation_logits: Any = None
    hints: Any = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None


@dataclass
class ReportOutput(ModelOutput):
    """Logits (B, T, vocabulary) and, with labels, `loss` and the parts it is the weighted sum of.

    States (B, T, D) and attentions (B, heads, T, words before and with it), (B, heads, T, N) of the decoder's layers
    are those of words alone.
    """

    loss: Tensor | None = None
    generation_loss: Tensor | None = None
    alignment_loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Any = None
    decoder_hidden_states: tuple[Tensor, ...] | None = None
    decoder_attentions: tuple[Tensor, ...] | None = None
    cross_attentions: tuple[Tensor, ...] | None = None
    encoder_last_hidden_state: Tensor | None = None
    encoder_hidden_states: tuple[Tensor, ...] | None = None
    encoder_attentions: tuple[Tensor, ...] | None = None


def shift_right(labels: Tensor, start_token_id: int, pad_token_id: int) -> Tensor:
    """Decoder input for teacher forcing, `[start, r_1 .. r_{T-1}]`: (B, T) -> (B, T)."""
    start = labels.new_full((len(labels), 1), start_token_id)
    shifted = torch.cat([start, labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == -100, pad_token_id)


def additive_mask(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """Padding mask as the stock encoders add it to their scores: (B, N) of 0/1 -> (B, 1, N, N) of 0/-large."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    bias = bias.masked_fill(~mask.bool(), torch.finfo(dtype).min)  # (B, N)
    return bias[:, None, None, :].expand(-1, 1, mask.shape[1], -1)


def grid_positions(height: int, width: int, dim: int, like: Tensor) -> Tensor:
    """2-D sine positions, half of the width for rows and half for columns: -> (height * width, dim).

    A place is a share of the film's side, so one place has one code at any film size. Waves run from half a turn to
    eight over the film: the usual rates, made for sentences of thousands of words, hardly tell the left of a 4 x 4
    grid from its right, and the model then mistakes the side of what it sees.
    """
    rates = torch.pi * 2 ** torch.linspace(0, 4, dim // 4, device=like.device)  # (dim / 4,)

    def encode(length: int) -> Tensor:
        place = (torch.arange(length, device=like.device) + 0.5) / length
        angles = place[:, None] * rates
        return torch.cat([angles.sin(), angles.cos()], dim=1)  # (length, dim / 2)

    rows = encode(height)[:, None].expand(-1, width, -1)
    columns = encode(width)[None].expand(height, -1, -1)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(like.dtype)


def feature_width(backbone: PreTrainedModel) -> int:
    """Channels of the backbone's last feature map."""
    config = backbone.config
    if config.model_type == "timm_wrapper":
        return backbone.timm_model.num_features
    width = getattr(config, "hidden_size", None) or getattr(config, "hidden_sizes", [None])[-1]
    if width is None:
        raise ValueError(f"`encoder` must state `hidden_size` or `hidden_sizes`. Got a {config.model_type} without.")
    return width


def check_views(
    pixel_values: Tensor | None, view_mask: Tensor | None, max_views: int, read: Tensor | None = None
) -> Tensor:
    """The view mask (B, V) of films (B, V, C, H, W), or of `read` (B, V, ...) in their place; ones where it is None.

    Raises ValueError for another rank, more than `max_views` views, or a study without a film.
    """
    films: Any = pixel_values if read is None else read
    if read is None and films.dim() != 5:
        raise ValueError(f"`pixel_values` must be (B, views, C, H, W). Got shape {tuple(films.shape)}.")
    if films.shape[1] > max_views:
        raise ValueError(f"`pixel_values` has {films.shape[1]} views; this model takes at most {max_views}.")
    if view_mask is None:
        return torch.ones(films.shape[:2], dtype=torch.long, device=films.device)
    if view_mask.shape != films.shape[:2]:
        raise ValueError(
            f"`view_mask` must be {tuple(films.shape[:2])}, one mark a film. Got shape {tuple(view_mask.shape)}."
        )
    if not view_mask.any(dim=1).all():
        raise ValueError("`view_mask` must mark at least one film of every study. Got a study without any.")
    return view_mask.long()


def as_places(features: Tensor) -> Tensor:
    """A grid (films, channels, h, w) as tokens (films, N_view, channels), which stay as they are."""
    return features.flatten(2).transpose(1, 2) if features.dim() == 4 else features


class VisualTokens(nn.Module):
    """Films of a study to one sequence of visual tokens, the views one behind the other (mcsam.md section 1).

    A convolutional grid gets 2-D sine positions; a Vision Transformer's tokens carry their own. Each view adds a
    learned vector, so that the decoder can tell the films apart. Neither is said in the paper.
    """

    def __init__(self, encoder: PretrainedConfig, d_model: int, max_views: int, dropout: float) -> None:
        super().__init__()
        self.backbone = AutoModel.from_config(encoder)
        self.project = nn.Linear(feature_width(self.backbone), d_model)
        self.norm = nn.LayerNorm(d_model)
        self.dropout = nn.Dropout(dropout)
        self.view_embedding = nn.Embedding(max_views, d_model)

    def train(self, mode: bool = True) -> "VisualTokens":
        """A frozen backbone keeps its batch statistics too."""
        super().train(mode)
        if not any(parameter.requires_grad for parameter in self.backbone.parameters()):
            self.backbone.eval()
        return self

    def forward(self, pixel_values: Any, view_mask: Tensor, features: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """(B, V, C, H, W), (B, V) -> tokens (B, V * N_view, D) and their mask (B, V * N_view) of 0/1.

        `features` (B, V, ...) stand for the films where a frozen backbone has read them before.
        """
        return self.embed(self.read(pixel_values, view_mask, features), view_mask)

    def read(self, pixel_values: Any, view_mask: Tensor, features: Tensor | None = None) -> Tensor:
        """What the backbone says of the films that `view_mask` marks, a grid (films, channels, h, w) or tokens
        (films, N_view, channels)."""
        valid = view_mask.flatten().bool()
        # Empty views are left out, not computed and masked: blank films would enter the batch statistics.
        if features is None:
            films = pixel_values.flatten(0, 1)[valid].contiguous(memory_format=torch.channels_last)  # convolves faster
            return self.backbone(pixel_values=films).last_hidden_state
        return features.flatten(0, 1)[valid].to(self.project.weight.dtype)

    def embed(self, features: Tensor, view_mask: Tensor) -> tuple[Tensor, Tensor]:
        """Features of the marked films -> tokens (B, V * N_view, D) and their mask (B, V * N_view) of 0/1."""
        B, V = view_mask.shape
        tokens = self._project_films(features)  # (films, N_view, D)
        padded = tokens.new_zeros(B * V, *tokens.shape[1:])
        padded[view_mask.flatten().bool()] = tokens
        padded = padded.view(B, V, *tokens.shape[1:]) + self.view_embedding.weight[:V, None].to(tokens.dtype)
        mask = view_mask[..., None].expand(-1, -1, tokens.shape[1])
        return padded.flatten(1, 2), mask.flatten(1, 2)

    def _project_films(self, features: Tensor) -> Tensor:
        """A grid (films, channels, h, w) or tokens (films, N_view, channels) -> (films, N_view, D)."""
        is_grid = features.dim() == 4
        height, width = features.shape[-2:]
        # R2GenCMN takes ReLU here. We normalise: small fresh features would drown in the positions added to them.
        tokens = self.dropout(self.norm(self.project(as_places(features))))
        return tokens + grid_positions(height, width, tokens.shape[-1], tokens) if is_grid else tokens


class VisualEncoder(nn.Module):
    """Pre-norm Transformer encoder over visual tokens that are embedded already: (B, N, D) -> (B, N, D).

    Both papers say no more than "Transformer encoder". The stock layers that take a mask and every attention
    implementation are SigLIP's: pre-norm, tanh-GELU, without dropout, where Vaswani et al. have post-norm, ReLU and
    dropout (the decoder has them).
    """

    def __init__(self, decoder: PretrainedConfig, layers: int) -> None:
        super().__init__()
        self.decoder = decoder
        config = SiglipVisionConfig(
            hidden_size=decoder.d_model,
            intermediate_size=decoder.decoder_ffn_dim,
            num_attention_heads=decoder.decoder_attention_heads,
            num_hidden_layers=layers,
            attention_dropout=decoder.attention_dropout,
            attn_implementation=decoder._attn_implementation,
        )
        self.encoder = SiglipEncoder(config)
        self.norm = nn.LayerNorm(decoder.d_model)

    def forward(
        self,
        tokens: Tensor,
        mask: Tensor,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
    ) -> BaseModelOutput:
        """(B, N, D), (B, N) of 0/1 -> states (B, N, D), and on request those of each layer and its attention."""
        # `set_attn_implementation()` reaches the configurations of models alone; these layers have one of their own.
        self.encoder.config._attn_implementation = self.decoder._attn_implementation
        bias = additive_mask(mask, tokens.dtype)
        states: list[Tensor] = [tokens]
        weights: list[Tensor | None] = []
        with ExitStack() as hooks:  # the stock layers keep their weights to themselves
            for layer in self.encoder.layers if output_attentions else ():
                keep = layer.self_attn.register_forward_hook(lambda *call: weights.append(call[-1][1]))
                hooks.enter_context(keep)
            for layer in self.encoder.layers:
                states.append(layer(states[-1], bias))
        states[-1] = self.norm(states[-1])
        return BaseModelOutput(
            last_hidden_state=states[-1],
            hidden_states=tuple(states) if output_hidden_states else None,
            attentions=tuple(w for w in weights if w is not None) if output_attentions else None,
        )


class FoldedTable:
    """A token-wise function of a table's rows, computed once for all rows and looked up from then on.

    What both papers do to a word (retrieve from the memory, align over the basis) depends on the word alone. While
    nothing is learnt, its result is a table (K, D) as well: a step of the decoder then costs one look-up, however
    large the bank or the basis. It is computed anew when a weight changes or learns, and never saved.
    """

    CHUNK = 512  # rows at once: the scores over a large bank would not fit for all

    def __init__(self) -> None:
        self.key: Any = None
        self.rows: Any = None  # Tensor (K, D)

    def __getstate__(self) -> dict[str, None]:
        """A copy of the model computes its own."""
        return {"key": None, "rows": None}

    def look_up(self, ids: Tensor, table: nn.Embedding, function: nn.Module) -> Tensor:
        """function(table[ids]): (...) -> (..., D)."""
        weights = [table.weight, *function.parameters(), *function.buffers()]
        if torch.compiler.is_compiling() or _out_of_reach(weights):
            return function(table(ids))
        if function.training or torch.is_grad_enabled():
            self.key = None  # a step of learning follows, and a fused optimiser counts up no tensor's version
            return _compute_each_once(ids, table, function)
        key: list[Any] = [(weight.data_ptr(), weight._version, weight.dtype) for weight in weights]
        key.append(torch.is_autocast_enabled(ids.device.type))
        if key != self.key:
            self.rows = torch.cat([function(rows[None])[0] for rows in table.weight.split(self.CHUNK)])
            self.key = key
        return F.embedding(ids, self.rows)


def _compute_each_once(ids: Tensor, table: nn.Embedding, function: nn.Module) -> Tensor:
    """function(table[ids]), each id computed once however often it stands there: (...) -> (..., D)."""
    if ids.device.type == "cpu":
        rows, ids = ids.unique(return_inverse=True)
    elif ids.numel() >= table.num_embeddings:  # a card would have to wait for the ids that occur
        rows = torch.arange(table.num_embeddings, device=ids.device)
    else:
        return function(table(ids))
    return F.embedding(ids, function(table(rows)[None])[0])


def _out_of_reach(weights: list[Tensor]) -> bool:
    """Whether some weights are placed elsewhere until their module runs, or do not tell when they change."""
    return any(weight.is_meta or weight.is_inference() for weight in weights)


class ReportPreTrainedModel(PreTrainedModel):
    """What Transformers asks of the model classes of both papers."""

    base_model_prefix = "model"
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, ObservationHints):
            nn.init.normal_(module.table)  # as large as a word behind its LayerNorm

    @classmethod
    def from_pretrained(cls, *args: Any, use_safetensors: bool = True, **kwargs: Any) -> Any:
        """As everywhere in Transformers, but a pickle, which can run code, is read only by `use_safetensors=False`."""
        return super().from_pretrained(*args, use_safetensors=use_safetensors, **kwargs)


class ReportGenerationMixin(GenerationMixin):
    """The outer part of a report generator: encoder once a study, words, stock decoder, head, losses; `generate()`.

    A model has `encoder`, `decoder`, `lm_head` and says how it embeds words (`embed_words`), how its decoder attends
    (`_decode`), what a report is in the space it shares with films (`_report_semantics`) and what it learns from
    (`_losses`).
    """

    output_class = ReportOutput

    def get_encoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        return self.encoder

    def get_decoder(self, *args: Any, **kwargs: Any) -> nn.Module:
        return self.decoder

    def get_input_embeddings(self) -> nn.Module:
        return self.decoder.embed_tokens

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.decoder.embed_tokens = value

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    def set_output_embeddings(self, value: nn.Linear) -> None:
        self.lm_head = value

    def resize_token_embeddings(self, *args: Any, **kwargs: Any) -> nn.Module:
        """As everywhere in Transformers, which tells the decoder's configuration alone of the new size."""
        table = super().resize_token_embeddings(*args, **kwargs)
        config = self.config
        config.vocab_size = config.decoder.vocab_size = config.decoder.decoder_vocab_size = table.num_embeddings
        return table

    def forward(
        self,
        pixel_values: Tensor | None = None,
        view_mask: Tensor | None = None,
        labels: Tensor | None = None,
        decoder_input_ids: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        encoder_outputs: ReportEncoderOutput | None = None,
        past_key_values: EncoderDecoderCache | None = None,
        use_cache: bool | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,
        **encoder_inputs: Any,
    ) -> ReportOutput:
        """Films and words to logits; with `labels` (B, T, padded with -100) to the losses as well.

        Args:
            pixel_values: (B, V, C, H, W); not needed where `encoder_outputs` are given.
            view_mask: (B, V), 1 where a film stands.
            labels: (B, T) words of the report and the end mark.
            decoder_input_ids: (B, T); made from `labels` where missing.
            encoder_inputs: what else the model's encoder takes.

        Raises:
            ValueError: neither films nor encoder outputs, neither labels nor decoder input, too many words.
        """
        asked = self._asked(output_attentions=output_attentions, output_hidden_states=output_hidden_states)
        if encoder_outputs is None:
            if pixel_values is None and not encoder_inputs:
                raise ValueError("Either `pixel_values` or `encoder_outputs` is needed. Got neither.")
            encoder_outputs = self.encoder(pixel_values, view_mask, **asked, **encoder_inputs)
        if decoder_input_ids is None:
            decoder_input_ids = self._shift_labels(labels)
        words = self.embed_words(decoder_input_ids)  # (B, T, D)
        decoded = self._decode(
            words,
            encoder_outputs,
            decoder_attention_mask,
            past_key_values,
            use_cache=labels is None if use_cache is None else use_cache,
            **asked,
        )
        logits = self.lm_head(decoded.last_hidden_state)
        losses: dict[str, Any] = {}
        if labels is not None:
            losses = self._losses(logits, labels, decoder_input_ids, words, encoder_outputs)
        output = self.output_class(
            **losses,
            logits=logits,
            past_key_values=decoded.past_key_values,
            decoder_hidden_states=decoded.hidden_states,
            decoder_attentions=decoded.attentions,
            cross_attentions=decoded.cross_attentions,
            encoder_last_hidden_state=encoder_outputs.last_hidden_state,
            encoder_hidden_states=encoder_outputs.hidden_states,
            encoder_attentions=encoder_outputs.attentions,
        )
        return output if return_dict else output.to_tuple()

    def generate(
        self,
        *inputs: Any,
        num_candidates: int | None = None,
        candidate_temperature: float | None = None,
        **kwargs: Any,
    ) -> Any:
        """As stock; with `num_candidates` C, here or in the generation configuration, the best of C reports a study.

        The candidates are drawn at `candidate_temperature` (1 where nobody says), alike for a study in any batch; the
        one that is likely, near the films in the shared space and most like the others is returned, (B, T). Beams,
        which the configuration may ask for, are for C = 1. See modeling_candidates.py.

        Raises:
            ValueError: C below 1, an option that asks for more than the report, a model without a shared space.
        """
        settings = kwargs.get("generation_config") or self.generation_config
        number = getattr(settings, "num_candidates", None) if num_candidates is None else num_candidates
        if number is None or number == 1:
            return super().generate(*inputs, **kwargs)
        temperature: Any = candidate_temperature or getattr(settings, "candidate_temperature", 1.0)
        return self._write_and_choose(number, temperature, *inputs, **kwargs)

    @torch.no_grad()
    def _write_and_choose(
        self, number: int, temperature: float, inputs: Tensor | None = None, **kwargs: Any
    ) -> Tensor:
        """The best of `number` candidates of each study, (B, T)."""
        check_candidates(number, temperature, kwargs)
        films = {name: kwargs.pop(name) for name in FILM_INPUTS if name in kwargs}
        encoded = kwargs.pop("encoder_outputs", None)
        if encoded is None:
            encoded = self.encoder(**films if inputs is None else films | {"pixel_values": inputs})
        kwargs |= {"do_sample": True, "num_beams": 1, "num_return_sequences": number}
        noise = FixedNoise(number, temperature)
        ids = super().generate(encoder_outputs=copy.copy(encoded), logits_processor=[noise], **kwargs)  # (B * C, T)
        labels = as_labels(ids, self.config.eos_token_id)
        logits = self(decoder_input_ids=ids[:, :-1], encoder_outputs=encoded, use_cache=False).logits
        likelihood = mean_log_likelihood(logits, labels).view(-1, number)
        reports = self.embed_reports(labels)  # (B * C, D)
        similarity = F.cosine_similarity(encoded.visual_semantics[:, None], reports.unflatten(0, (-1, number)), dim=-1)
        best = choose(likelihood, similarity, agreement(labels.unflatten(0, (-1, number))))
        return ids.unflatten(0, (-1, number))[torch.arange(len(best), device=ids.device), best]

    def embed_reports(self, labels: Tensor) -> Tensor:
        """Whole reports in the space that they share with `visual_semantics`: (B, T) padded with -100 -> (B, D).

        Raises:
            ValueError: the model has no such space.
        """
        ids = self._shift_labels(labels)
        return self._report_semantics(self.embed_words(ids), ids, labels)

    def _expand_inputs_for_generation(self, expand_size: int = 1, *args: Any, **kwargs: Any) -> Any:
        """As stock, of words alone: all beams and samples of a study read the one copy of its films."""
        films = {name: kwargs.pop(name) for name in ("encoder_outputs", *FILM_INPUTS) if name in kwargs}
        ids, kwargs = super()._expand_inputs_for_generation(expand_size, **kwargs | {"is_encoder_decoder": False})
        return ids, kwargs | films

    def _prepare_cache_for_generation(self, generation_config: Any, model_kwargs: dict, *more: Any) -> Any:
        """As stock, with a cache that leaves the films' keys and values where they are."""
        answer = super()._prepare_cache_for_generation(generation_config, model_kwargs, *more)
        cache = model_kwargs.get("past_key_values")
        if cache is not None and type(cache) is EncoderDecoderCache:
            model_kwargs["past_key_values"] = StudyCache(cache.self_attention_cache, cache.cross_attention_cache)
        return answer

    def _asked(self, **outputs: bool | None) -> dict[str, bool]:
        """What a call asks for beside the logits; where it does not say, what the configuration does."""
        return {name: getattr(self.config, name) if asked is None else asked for name, asked in outputs.items()}

    def _shift_labels(self, labels: Tensor | None) -> Tensor:
        """What the decoder reads while it learns these labels, (B, T) -> (B, T)."""
        if labels is None:
            raise ValueError("Either `labels` or `decoder_input_ids` is needed. Got neither; to write: generate().")
        return shift_right(labels, self.config.decoder_start_token_id, self.config.pad_token_id)

    def _check_length(self, past: Any, new: int) -> None:
        """Raise for too many words; a static cache, whose `past` is a live tensor, was made to length."""
        if isinstance(past, int) and past + new > self.config.max_words:
            raise ValueError(
                f"This model holds at most {self.config.max_words} words. Got {past + new}; lower `max_length`."
            )
