"""UAR: Unify, Align and Refine (Li et al., ICCV 2023, arXiv 2303.15932).

An implementation after the paper's main text; its appendix and code are not available to us. The parts stand in the
paper's order:

- `LatentSpaceUnifier` (LSU, section 3.2): films to discrete tokens by a frozen tokenizer, tokens to vectors;
- `Aligner` with its `DualGate` (CRA, section 3.3, Eq. 6-9): both modalities over one orthonormal basis;
- `Refiner` (TIR, section 3.4, Eq. 11-12): a learnable mask inside the text-to-image attention;
- `UAREncoder`, `UARForConditionalGeneration`: the Transformer around them, and the losses (Eq. 13).

Shapes: B studies, V views, L tokens of a film, N = V L visual tokens, T words, K basis rows, D model width.
"""

import math
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers.cache_utils import EncoderDecoderCache

from .configuration_uar import UARConfig
from .modeling_decoder import NEEDS_CACHE_POSITION, ReportDecoder
from .modeling_image_tokenizer import make_image_tokenizer
from .modeling_losses import IGNORED, report_cross_entropy, text_fingerprints, triplet_loss, word_cross_entropy
from .modeling_observations import ObservationHints
from .modeling_report import (
    FoldedTable,
    ReportEncoderOutput,
    ReportGenerationMixin,
    ReportOutput,
    ReportPreTrainedModel,
    VisualEncoder,
    VisualTokens,
    as_places,
    check_views,
    feature_width,
    grid_positions,
)


@dataclass
class UAROutput(ReportOutput):
    """As `ReportOutput`, with L_Mask of the second stage."""

    mask_loss: Tensor | None = None


class LatentSpaceUnifier(nn.Module):
    """LSU, image side: z_l = arg max of the frozen tokenizer, E^I = W_I[z] with a trainable table W_I.

    The text side E^R = W_R[r] is the decoder's own word table: W_I and W_R are separate, as in the paper.
    """

    def __init__(self, config: UARConfig) -> None:
        super().__init__()
        self.tokenizer = make_image_tokenizer(config.image_tokenizer)
        self.table = nn.Embedding(self.tokenizer.num_codes, config.d_model)  # W_I
        self.shape = (config.image_size, config.image_size)

    def tokenize(self, pixel_values: Tensor, view_mask: Tensor) -> Tensor:
        """(B, V, C, H, W) in [0, 1], (B, V) -> ids (B, V, L); 0 where there is no film."""
        if pixel_values.shape[-2:] != self.shape:
            size = "x".join(map(str, pixel_values.shape[-2:]))
            raise ValueError(f"`pixel_values` must be films of {self.shape[0]}x{self.shape[1]} pixels. Got {size}.")
        valid = view_mask.flatten().bool()
        tokens = self.tokenizer(pixel_values.flatten(0, 1)[valid])  # (films, L)
        ids = tokens.new_zeros(len(valid), tokens.shape[1])
        ids[valid] = tokens
        return ids.view(*view_mask.shape, -1)


class DualGate(nn.Module):
    """F = G_I (.) tanh(E + F~) + G_F (.) E + F~, with G(X, Y) = sigmoid(X W_1 + Y W_2) (Eq. 8-9).

    As printed: no bias, and the last F~ ungated. G_I and G_F have weights of their own (our reading 6).
    """

    def __init__(self, d_model: int) -> None:
        super().__init__()
        self.from_tokens = nn.Linear(d_model, 2 * d_model, bias=False)  # W_1 of G_I and G_F
        self.from_basis = nn.Linear(d_model, 2 * d_model, bias=False)  # W_2 of G_I and G_F

    def forward(self, tokens: Tensor, attended: Tensor) -> Tensor:
        """E and F~ (..., D) -> F (..., D)."""
        gates = torch.sigmoid(self.from_tokens(tokens) + self.from_basis(attended))
        write, keep = gates.chunk(2, dim=-1)  # G_I, G_F: (..., D)
        return write * torch.tanh(tokens + attended) + keep * tokens + attended


class Aligner(nn.Module):
    """CRA: attention of a token over one basis, fused with the token. One set of weights for films and reports.

    Token-wise: a token's result depends on its id alone, so words can be aligned while decoding, and a table of ids
    can be aligned once for all the tokens that share them.
    """

    basis: Tensor

    def __init__(self, config: UARConfig) -> None:
        super().__init__()
        K, D, self.heads = config.basis_size, config.d_model, config.aligner_heads
        # "A set of orthonormal basis" cannot hold for more rows than columns. Orthonormal columns, B^T B = I, is what
        # Table 3's trio orthogonal / uniform / normal suggests (our reading 3). B is fixed, its gain and bias learn.
        self.register_buffer("basis", torch.empty(K, D))  # B
        self.gain = nn.Parameter(torch.empty(K, D))  # gamma
        self.bias = nn.Parameter(torch.empty(K, D))  # beta
        self.query = nn.Linear(D, D, bias=False)
        self.key = nn.Linear(D, D, bias=False)
        self.value = nn.Linear(D, D, bias=False)
        self.out = nn.Linear(D, D, bias=False)
        self.fusion = config.fusion
        self.gate = DualGate(D) if config.fusion == "dual_gate" else None
        self.distribution = config.basis

    def adjusted_basis(self) -> Tensor:
        """B^ = gamma (.) B + beta (Eq. 6): (K, D)."""
        return self.gain * self.basis + self.bias

    def forward(self, tokens: Tensor) -> Tensor:
        """E -> F: (..., D) -> (..., D)."""
        attended = self.attend(tokens.reshape(-1, tokens.shape[-1])).view_as(tokens)  # F~
        if self.fusion == "none":
            return attended
        return tokens + attended if self.gate is None else self.gate(tokens, attended)

    def attend(self, tokens: Tensor) -> Tensor:
        """F~ = softmax(E W_Q (B^ W_K)^T / sqrt(D / heads)) B^ W_V (Eq. 7), all K rows, no top-k: (n, D) -> (n, D)."""
        basis = self.adjusted_basis()
        query, key, value = (
            self._split(project(rows))  # (1, H, n or K, D / H)
            for project, rows in ((self.query, tokens), (self.key, basis), (self.value, basis))
        )
        return self.out(F.scaled_dot_product_attention(query, key, value)[0].transpose(0, 1).flatten(1))

    def _split(self, rows: Tensor) -> Tensor:
        return rows.unflatten(-1, (self.heads, -1)).transpose(0, 1)[None]


class Refiner(nn.Module):
    """TIR: logits M of a mask over (word position, visual token), added inside the cross-attention (Eq. 11).

    One parameter for all studies, heads and layers, its row is the decoding step (our reading 13). M starts at 0, a
    constant, which the softmax ignores: the second stage begins as the function that the first one ended with.
    """

    def __init__(self, config: UARConfig) -> None:
        super().__init__()
        positions, N = config.decoder.max_position_embeddings, config.max_views * config.tokens_per_view
        self.mask_logits = nn.Parameter(torch.empty(positions, N))  # M
        self.scale = config.mask_scale / math.sqrt(config.d_model // config.num_attention_heads)

    def forward(self, position: Tensor, tokens: int) -> Tensor:
        """k sigmoid(M) / sqrt(D / heads) of these rows, less their maximum: (T,) -> (T, N) for N = `tokens`."""
        rows = self.visible(position, tokens)
        # The softmax ignores what a whole row has in common; without it half precision keeps the differences.
        return self.scale * (rows - rows.amax(dim=-1, keepdim=True))

    def visible(self, position: Tensor, tokens: int) -> Tensor:
        """sigmoid(M): (T,) -> (T, N)."""
        return self.mask_logits[position.clamp(max=len(self.mask_logits) - 1), :tokens].sigmoid()

    def loss(self, is_word: Tensor, tokens: int, reduction: str) -> Tensor:
        """L_Mask (Eq. 12) over the words of each report and all visual tokens: (B, T) of 0 and 1 -> ().

        "sum": per report as printed, mean over reports. "mean": over all cells (our reading 15).
        """
        position = torch.arange(is_word.shape[1], device=is_word.device)
        cost = 1 - self.visible(position, tokens).float()  # (T, N)
        if reduction == "sum":
            return (is_word * cost.sum(1)).sum(1).mean()
        return (is_word * cost.mean(1)).sum() / is_word.sum().clamp(min=1)


class UARPreTrainedModel(ReportPreTrainedModel):
    """Weight initialisation and the facts that Transformers asks of a model class."""

    config_class = UARConfig
    _no_split_modules = ["MarianDecoderLayer", "SiglipEncoderLayer"]
    # The tokenizer's arg max flips in half precision: its weights stay as they are.
    _keep_in_fp32_modules_strict = ["tokenizer"]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Aligner):
            # Table 3's rivals get the spread of the orthogonal basis (the paper is silent): shapes are compared.
            spread = max(module.basis.shape) ** -0.5
            if module.distribution == "orthogonal":
                nn.init.orthogonal_(module.basis)
            elif module.distribution == "uniform":
                nn.init.uniform_(module.basis, -math.sqrt(3) * spread, math.sqrt(3) * spread)
            else:
                nn.init.normal_(module.basis, std=spread)
            nn.init.ones_(module.gain)
            nn.init.zeros_(module.bias)
        elif isinstance(module, Refiner):
            nn.init.zeros_(module.mask_logits)


class UAREncoder(UARPreTrainedModel):
    """Film side of UAR: E^I = LSU(I), F^I = CRA(E^I), Transformer encoder. It runs once a study."""

    def __init__(self, config: UARConfig) -> None:
        super().__init__(config)
        D = config.d_model
        if config.encoder is None:
            self.unifier = LatentSpaceUnifier(config)
            self.view_embedding = nn.Embedding(config.max_views, D)
        else:  # Table 2's rows without LSU: the grid of a visual backbone in place of E^I
            self.visual = VisualTokens(config.encoder, D, config.max_views, config.decoder.dropout)
        self.aligner = Aligner(config) if config.basis_size else None
        self.codes = FoldedTable()
        self.norm = nn.LayerNorm(D)
        self.encoder = VisualEncoder(config.decoder, config.encoder_layers)
        self.observations = ObservationHints(config, self._place_width()) if config.observations else None
        self.post_init()

    def forward(
        self,
        pixel_values: Any = None,  # Tensor | None: None where ids stand for the films
        view_mask: Any = None,  # Tensor | None: None where no view is missing
        visual_ids: Tensor | None = None,
        visual_features: Tensor | None = None,
        observations: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,
    ) -> ReportEncoderOutput:
        """Films (B, V, C, H, W), or their token ids (B, V, L), and (B, V) -> encoded tokens and the pooled F^I.

        `visual_features` are what a frozen backbone says of the films, where there is one in place of LSU;
        `observations` (B, L) of 0 and 1 what the decoder is told, in place of what the films show.

        Raises:
            ValueError: `pixel_values` of another shape, more views than `max_views`, a study without a film.
        """
        self._check_read(visual_ids, visual_features)
        read = visual_features if visual_ids is None else visual_ids
        view_mask = check_views(pixel_values, view_mask, self.config.max_views, read)
        if self.config.encoder is not None:
            features = self.visual.read(pixel_values, view_mask, visual_features)
            tokens, mask = self.visual.embed(features, view_mask)
            places = as_places(features)
            aligned = tokens if self.aligner is None else self.aligner(tokens)
            hidden = self.norm(aligned)  # positions are in these tokens already, as in R2GenCMN
        else:
            ids = self.unifier.tokenize(pixel_values, view_mask) if visual_ids is None else visual_ids  # (B, V, L)
            mask = view_mask[..., None].expand_as(ids).flatten(1)  # (B, N)
            aligned = self.align(self.unifier.table, ids, self.codes)  # F^I: (B, V, L, D)
            hidden = self._place(self.norm(aligned)).flatten(1, 2)
            aligned = aligned.flatten(1, 2)
        encoded = self.encoder(hidden, mask, output_attentions, output_hidden_states)
        hidden = encoded.last_hidden_state
        seen: dict[str, Tensor] = {}
        if self.observations is None and observations is not None:
            raise ValueError("`observations` cannot be told to this model: its configuration names none.")
        if self.observations is not None:
            if self.config.encoder is None:  # the codes' own vectors: of W_I, which learns, nothing could be fitted
                places = F.embedding(ids[view_mask.bool()], self.unifier.tokenizer.codebook())
            hidden = self.observations.hide(hidden)
            seen = self.observations(places.to(hidden.dtype), view_mask, observations)
        return ReportEncoderOutput(
            **seen,
            last_hidden_state=hidden,
            visual_mask=mask,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
            # L_Global needs one vector a study: the mean over its tokens (our reading 8).
            visual_semantics=mean_of(aligned, mask),
        )

    def _place_width(self) -> int:
        """Numbers that the frozen film reader says of a place."""
        if self.config.encoder is not None:
            return feature_width(self.visual.backbone)
        codes = self.unifier.tokenizer.codebook()
        if codes is None:
            raise ValueError("`observations` need a tokenizer whose codes are vectors; the dVAE's are not. Drop them.")
        return codes.shape[1]

    def _check_read(self, ids: Tensor | None, features: Tensor | None) -> None:
        """Raise for what another film reader than this model's would say."""
        if features is not None and self.config.encoder is None:
            raise ValueError("`visual_features` are a visual backbone's. This model reads tokens: give `visual_ids`.")
        if ids is None:
            return
        if self.config.encoder is not None:
            raise ValueError("`visual_ids` are an image tokenizer's. This model has a backbone: give `pixel_values`.")
        if ids.dim() != 3 or ids.shape[-1] != self.config.tokens_per_view:
            raise ValueError(
                f"`visual_ids` must be (B, views, {self.config.tokens_per_view}). Got shape {tuple(ids.shape)}."
            )

    def align(self, table: nn.Embedding, ids: Tensor, folded: FoldedTable) -> Tensor:
        """CRA(table[ids]), or table[ids] where there is no CRA: (...) -> (..., D). `folded` is the table's own."""
        if self.aligner is None:
            return table(ids)
        return folded.look_up(ids, table, self.aligner)

    def _place(self, tokens: Tensor) -> Tensor:
        """Add the place in the film and the view: (B, V, L, D). Behind the CRA (our reading 11); sines over 2-D."""
        V, L, D = tokens.shape[1:]
        side = math.isqrt(L)
        return tokens + grid_positions(side, side, D, tokens) + self.view_embedding.weight[:V, None].to(tokens.dtype)


def mean_of(tokens: Tensor, mask: Tensor) -> Tensor:
    """Mean over the tokens that `mask` marks, 0 without any: (B, n, D), (B, n) -> (B, D)."""
    weights = mask[..., None].to(tokens.dtype)
    return (tokens * weights).sum(1) / weights.sum(1).clamp(min=1)


class UARForConditionalGeneration(ReportGenerationMixin, UARPreTrainedModel):
    """UAR with its language head; `generate()` writes the report (beam, greedy, sampling)."""

    _tied_weights_keys = {"lm_head.weight": "decoder.embed_tokens.weight"}
    # L_Global is a mean over the batch: Trainer must not rescale the loss by its count of words.
    accepts_loss_kwargs = False
    output_class = UAROutput

    def __init__(self, config: UARConfig) -> None:
        super().__init__(config)
        config.decoder.vocab_size = config.decoder.decoder_vocab_size = config.vocab_size
        self.encoder = UAREncoder(config)
        self.norm = nn.LayerNorm(config.d_model)
        self.decoder = ReportDecoder(config.decoder)
        self.words = FoldedTable()
        self.refiner = Refiner(config) if config.refine else None
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def embed_words(self, ids: Tensor) -> Tensor:
        """F^R = CRA(W_R[r]): (B, T) -> (B, T, D). One pass serves decoder and L_Global (our reading 27)."""
        return self.encoder.align(self.decoder.embed_tokens, ids, self.words)

    def _decode(
        self,
        words: Tensor,
        encoder_outputs: ReportEncoderOutput,
        word_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
        use_cache: bool,
        **outputs: Any,
    ) -> Any:
        """Run the stock decoder with the refiner's bias on its cross-attention."""
        T = words.shape[1]
        past = 0 if cache is None else cache.get_seq_length()
        self._check_length(past, T)
        position = torch.arange(T, device=words.device) + past  # before the decoder runs: `past` may be a live tensor
        extra = {"cache_position": position} if NEEDS_CACHE_POSITION else {}
        return self.decoder(
            # Aligned words grow while they learn; "standard Transformer" scales by sqrt(D), we normalise.
            inputs_embeds=self.norm(words),
            attention_mask=word_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=self._cross_mask(encoder_outputs.visual_mask, position, words.dtype),
            hints=encoder_outputs.hints,
            past_key_values=cache,
            use_cache=use_cache,
            **outputs,
            **extra,
        )

    def _cross_mask(self, visual_mask: Tensor, position: Tensor, dtype: torch.dtype) -> Tensor:
        """Padding mask (B, N) of 0 and 1; with the refiner what is added to the scores, (B, 1, T, N)."""
        if self.refiner is None:
            return visual_mask
        bias = self.refiner(position, visual_mask.shape[1]).to(dtype)  # (T, N)
        return bias.masked_fill(~visual_mask[:, None, None].bool(), torch.finfo(dtype).min)

    def _report_semantics(self, words: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        """Mean over a report's words. The decoder reads [start, r_1 .. r_{T-1}]: start and end mark do not count."""
        return mean_of(words, F.pad(labels[:, 1:] != IGNORED, (1, 0)))

    def _losses(
        self, logits: Tensor, labels: Tensor, ids: Tensor, words: Tensor, encoder_outputs: ReportEncoderOutput
    ) -> dict[str, Tensor]:
        """L = L_CE + lambda_2 L_Global + lambda_3 L_Mask, lambda_1 = 1 (Eq. 13)."""
        config = self.config
        # Eq. 5 sums over a report's words; the default is their mean, as L_Mask's (our reading 16).
        cross_entropy = word_cross_entropy if config.loss_reduction == "mean" else report_cross_entropy
        losses = {"generation_loss": cross_entropy(logits, labels)}
        loss = losses["generation_loss"]
        if config.alignment_weight:
            losses["alignment_loss"] = triplet_loss(
                encoder_outputs.visual_semantics,
                self._report_semantics(words, ids, labels),
                config.margin,
                text_fingerprints(labels),
                config.negatives,
                config.global_negatives,
            )
            loss = loss + config.alignment_weight * losses["alignment_loss"]
        if self.refiner is not None:
            tokens = encoder_outputs.visual_mask.shape[1]
            losses["mask_loss"] = self.refiner.loss(labels != IGNORED, tokens, config.loss_reduction)
            loss = loss + config.mask_weight * losses["mask_loss"]
        return {"loss": loss} | losses
from .configuration_report import __doc__ as _  # noqa
from .modeling_candidates import __doc__ as _  # noqa
from .configuration_image_tokenizer import __doc__ as _  # noqa
