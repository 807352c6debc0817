"""MCSAM: Memory-based Cross-modal Semantic Alignment (Tao et al., arXiv 2404.00588, IEEE JBHI 2024).

An implementation after the published abstract and secondary summaries: the full text is not available to us.
The parts stand in the paper's order:

- `MemoryBank`: retrieval from the clinical memory and consolidation, one bank for both modalities;
- `SemanticAlignment` (SAM): a siamese BERT, its contrastive space and the semantic visual embedding e^v;
- `MCSAMEncoder`: film -> visual tokens -> consolidation -> SAM and Transformer encoder;
- `PromptedCache` and `MCSAMForConditionalGeneration`: the decoder with learnable memory tokens as prompts.

Shapes: B studies, V views, N visual tokens of all views, T words, P prompt tokens, M bank vectors, D model width.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import BertConfig
from transformers.cache_utils import DynamicCache, EncoderDecoderCache
from transformers.models.bert.modeling_bert import BertEncoder

from ..configuration.configuration_mcsam import MCSAMConfig
from .modeling_decoder import ReportDecoder, StudyCache
from .modeling_losses import info_nce, text_fingerprints, word_cross_entropy
from .modeling_observations import ObservationHints
from .modeling_report import (
    FoldedTable,
    ReportEncoderOutput,
    ReportGenerationMixin,
    ReportPreTrainedModel,
    VisualEncoder,
    VisualTokens,
    additive_mask,
    as_places,
    check_views,
    feature_width,
)

MAX_LOGIT_SCALE = math.log(100)  # MedCLIP's clamp of the learned 1 / temperature


class MemoryBank(nn.Module):
    """Retrieval of the k most similar memory vectors and consolidation with them (mcsam.md section 2.2).

    One bank and one set of projections serve visual tokens and words (our reading, mcsam.md 8 row 9).
    Token-wise: a token's result depends on that token alone, so words can be consolidated while decoding.
    """

    def __init__(self, config: MCSAMConfig) -> None:
        super().__init__()
        D, self.heads, self.top_k = config.d_model, config.memory_heads, config.memory_top_k
        self.bank = nn.Parameter(torch.empty(config.memory_size, config.memory_dim))  # (M, D_M)
        self.query = nn.Linear(D, D)
        self.key = nn.Linear(config.memory_dim, D)
        self.value = nn.Linear(config.memory_dim, D)
        self.out = nn.Linear(D, D)
        self.norm = nn.LayerNorm(D)

    def forward(self, tokens: Tensor) -> Tensor:
        """X' = norm(X + R): (B, n, D) -> (B, n, D)."""
        weights = self.retrieve(tokens)  # (B, H, n, M)
        value = self._split(self.value(self.bank))  # (H, M, D / H): once a forward, never expanded to the batch
        retrieved = torch.matmul(weights, value).transpose(1, 2).flatten(2)  # (B, n, D)
        # Residual sum as in R2GenCMN, with a LayerNorm of ours (mcsam.md 8 row 8; XProNet concatenates instead).
        return self.norm(tokens + self.out(retrieved))

    def retrieve(self, tokens: Tensor) -> Tensor:
        """Softmax over the k best bank vectors of each head, zero elsewhere: (B, n, D) -> (B, H, n, M)."""
        query = self._split(self.query(tokens))  # (B, H, n, D / H)
        key = self._split(self.key(self.bank))  # (H, M, D / H)
        scores = torch.matmul(query, key.transpose(1, 2)) / math.sqrt(query.shape[-1])
        best = scores.topk(self.top_k, dim=-1).indices
        # Weights stay dense over the small bank: no gathered copy of the bank for each token, and a row that no
        # token retrieves has weight zero and so no gradient.
        kept = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, True)
        return scores.masked_fill(~kept, float("-inf")).softmax(dim=-1)

    def _split(self, rows: Tensor) -> Tensor:
        """(..., n, D) -> (..., H, n, D / H)."""
        return rows.unflatten(-1, (self.heads, -1)).transpose(-3, -2)


class SemanticAlignment(nn.Module):
    """SAM: one BERT for both modalities, [CLS] pooled (mcsam.md section 3).

    The text branch reads the whole reference report in both directions. It feeds the contrastive loss alone and must
    never reach the decoder, which would then copy the answer.
    """

    VISUAL, TEXT = 0, 1

    def __init__(self, config: MCSAMConfig) -> None:
        super().__init__()
        D = config.d_model
        self.cls = nn.Parameter(torch.empty(1, 1, D))
        self.modality = nn.Embedding(2, D)
        self.word_position = nn.Embedding(config.decoder.max_position_embeddings, D)
        self.norm = nn.LayerNorm(D)
        # "hidden D, 3-4 layers, from scratch" (our reading, mcsam.md 8 row 12); which BERT the paper takes is unknown.
        self.bert = BertEncoder(
            BertConfig(
                hidden_size=D,
                intermediate_size=config.decoder.decoder_ffn_dim,
                num_hidden_layers=config.sam_layers,
                num_attention_heads=config.decoder.decoder_attention_heads,
                hidden_dropout_prob=config.decoder.dropout,
                attention_probs_dropout_prob=config.decoder.attention_dropout,
                attn_implementation=config._attn_implementation,
            )
        )
        self.project = nn.Linear(D, D, bias=False)  # W_p
        self.semantic = nn.Linear(D, D, bias=False) if config.semantic_embedding else None  # W_e
        self.logit_scale = nn.Parameter(torch.empty(1))  # FSDP2 takes no scalar
        self.initial_temperature = config.initial_temperature

    def encode_films(self, visual: Tensor, mask: Tensor) -> Tensor:
        """H^v_0 of consolidated visual tokens: (B, N, D), (B, N) -> (B, D)."""
        return self._encode(visual, mask, self.VISUAL)

    def encode_report(self, words: Tensor, mask: Tensor) -> Tensor:
        """H^t_0 of consolidated words: (B, T, D), (B, T) -> (B, D). While training only."""
        # Visual tokens carry their place already, words only their identity.
        return self._encode(words + self.word_position.weight[: words.shape[1]], mask, self.TEXT)

    def _encode(self, tokens: Tensor, mask: Tensor, modality: int) -> Tensor:
        tokens = torch.cat([self.cls.expand(len(tokens), -1, -1), tokens], dim=1) + self.modality.weight[modality]
        mask = F.pad(mask, (1, 0), value=1)  # the [CLS] token
        hidden = self.bert(self.norm(tokens), attention_mask=additive_mask(mask, tokens.dtype))
        return hidden.last_hidden_state[:, 0]

    def to_shared_space(self, pooled: Tensor) -> Tensor:
        """z = W_p H_0 on the unit sphere: (B, D) -> (B, D)."""
        return F.normalize(self.project(pooled).float(), dim=-1)

    def scale(self) -> Tensor:
        """1 / temperature, learned and clamped."""
        return self.logit_scale[0].float().clamp(max=MAX_LOGIT_SCALE).exp()


class MCSAMPreTrainedModel(ReportPreTrainedModel):
    """Weight initialisation and the facts that Transformers asks of a model class."""

    config_class = MCSAMConfig
    _no_split_modules = ["MarianDecoderLayer", "SiglipEncoderLayer", "BertLayer"]

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        std = self.config.initializer_range
        if isinstance(module, MemoryBank):
            # Rows of length about 1, as the topics that replace them have (modeling_topics.py).
            nn.init.normal_(module.bank, std=self.config.memory_dim**-0.5)
        elif isinstance(module, SemanticAlignment):
            nn.init.normal_(module.cls, std=std)
            nn.init.constant_(module.logit_scale, -math.log(module.initial_temperature))
        elif isinstance(module, MCSAMForConditionalGeneration) and module.prompts is not None:
            nn.init.normal_(module.prompts, std=std)


class MCSAMEncoder(MCSAMPreTrainedModel):
    """Film side of MCSAM: all of it runs once a study, before the first word."""

    def __init__(self, config: MCSAMConfig) -> None:
        super().__init__(config)
        self.visual = VisualTokens(config.encoder, config.d_model, config.max_views, config.visual_dropout)
        self.memory = MemoryBank(config) if config.memory_size else nn.Identity()
        self.alignment = SemanticAlignment(config) if config.sam_layers else None
        self.encoder = VisualEncoder(config.decoder, config.encoder_layers)
        width = feature_width(self.visual.backbone)
        self.observations = ObservationHints(config, width) if config.observations else None
        self.post_init()

    def forward(
        self,
        pixel_values: Any = None,  # Tensor | None: None where features stand for the films
        view_mask: Tensor | None = None,
        visual_features: Tensor | None = None,
        observations: Tensor | None = None,
        output_attentions: bool | None = None,
        output_hidden_states: bool | None = None,
        return_dict: bool = True,
    ) -> ReportEncoderOutput:
        """(B, V, C, H, W) and (B, V) -> F, z^v. Every view counts where `view_mask` is missing.

        `visual_features` (B, V, ...) are what a frozen backbone says of the films, in their place; `observations`
        (B, L) of 0 and 1 what the decoder is told, in place of what the films show (modeling_observations.py).

        Raises:
            ValueError: `pixel_values` of another rank, more views than `max_views`, a study without a film.
        """
        view_mask = check_views(pixel_values, view_mask, self.config.max_views, visual_features)
        features = self.visual.read(pixel_values, view_mask, visual_features)
        visual, mask = self.visual.embed(features, view_mask)  # V: (B, N, D), (B, N)
        visual = self.memory(visual)  # V'
        encoded = self.encoder(visual, mask, output_attentions, output_hidden_states)
        hidden = encoded.last_hidden_state
        semantics = None
        if self.alignment is not None:
            pooled = self.alignment.encode_films(visual, mask)  # H^v_0
            semantics = self.alignment.to_shared_space(pooled)  # z^v
            if self.alignment.semantic is not None:
                # e^v is added to all that the decoder attends to: the one place that fits both "to the decoder"
                # (abstract) and "to the visual encoder" (a secondary source); mcsam.md 8 row 16.
                hidden = hidden + self.alignment.semantic(pooled)[:, None]
        seen: dict[str, Tensor] = {}
        if self.observations is None and observations is not None:
            raise ValueError("`observations` cannot be told to this model: its configuration names none.")
        if self.observations is not None:
            hidden = self.observations.hide(hidden)
            seen = self.observations(as_places(features), view_mask, observations)
        return ReportEncoderOutput(
            **seen,
            last_hidden_state=hidden,
            visual_mask=mask,
            visual_semantics=semantics,
            hidden_states=encoded.hidden_states,
            attentions=encoded.attentions,
        )


class PromptedCache(StudyCache):
    """Cache whose length counts words: `generate()` compares it with words, and the prompts are not among them."""

    def __init__(self, *caches: Any, num_prompts: int = 0) -> None:
        super().__init__(*caches)
        self.num_prompts = num_prompts
        # The same storage as the stock decoder must see it: prompts counted.
        self.for_decoder = StudyCache(self.self_attention_cache, self.cross_attention_cache)
        self.for_decoder.is_updated = self.is_updated

    def get_seq_length(self, layer_idx: int = 0) -> int:
        length = super().get_seq_length(layer_idx)
        return length - self.num_prompts if self.holds_prompts() else length

    def holds_prompts(self) -> bool:
        """True once the decoder has run, so that the prompts' keys and values lie in the cache."""
        return self.is_updated.get(0, False)


class MCSAMForConditionalGeneration(ReportGenerationMixin, MCSAMPreTrainedModel):
    """MCSAM with its language head; `generate()` writes the report (beam, greedy, sampling)."""

    _tied_weights_keys = {"lm_head.weight": "decoder.embed_tokens.weight"}
    # Studies may have a batch-mean contrastive loss in them: Trainer must not rescale it by its count of words.
    accepts_loss_kwargs = False

    def __init__(self, config: MCSAMConfig) -> None:
        super().__init__(config)
        config.decoder.vocab_size = config.decoder.decoder_vocab_size = config.vocab_size
        self.encoder = MCSAMEncoder(config)
        P = config.num_prompts
        self.prompts = nn.Parameter(torch.empty(P, config.d_model)) if P else None
        self.decoder = ReportDecoder(config.decoder)
        self.words = FoldedTable()
        self.lm_head = nn.Linear(config.d_model, config.vocab_size, bias=False)
        self.post_init()

    def embed_words(self, ids: Tensor) -> Tensor:
        """Words, consolidated with the memory they retrieve: (B, T) -> (B, T, D). Token-wise, hence causal."""
        return self.words.look_up(ids, self.decoder.embed_tokens, self.encoder.memory)

    def _decode(
        self,
        words: Tensor,
        encoder_outputs: ReportEncoderOutput,
        word_mask: Tensor | None,
        cache: EncoderDecoderCache | None,
        use_cache: bool,
        **outputs: Any,
    ) -> Any:
        """Run the stock decoder over [prompts; words] and hand back the words' states (B, T, D)."""
        P, T = self.config.num_prompts, words.shape[1]
        if use_cache and not isinstance(cache, PromptedCache):
            cache = self._prompted(cache)
        first = cache is None or not cache.holds_prompts()
        past = 0 if cache is None else cache.get_seq_length()
        self._check_length(past, T)
        if first and self.prompts is not None:
            # Our reading (mcsam.md section 4) gives P no position. The stock decoder numbers all that it is handed:
            # prompts 0..P-1, words from P on. The prompts learn their constant offset away; sine positions of words
            # keep their distances. The causal mask lets a prompt see earlier prompts only, where ours lets it see all.
            prompts = self.prompts.expand(len(words), -1, -1).to(words.dtype)
            words = torch.cat([prompts, words], dim=1)  # (B, P + T, D)
        if word_mask is not None:
            word_mask = F.pad(word_mask, (P, 0), value=1)
        decoded = self.decoder(
            inputs_embeds=words,
            attention_mask=word_mask,
            encoder_hidden_states=encoder_outputs.last_hidden_state,
            encoder_attention_mask=encoder_outputs.visual_mask,
            hints=encoder_outputs.hints,
            past_key_values=None if cache is None else cache.for_decoder,
            use_cache=use_cache,
            **outputs,
        )
        decoded.last_hidden_state = decoded.last_hidden_state[:, -T:]
        decoded.past_key_values = cache
        # Of words alone, as of any decoder. What a row of self-attention lacks to one went to the prompts.
        for name, columns in (("hidden_states", 0), ("attentions", P), ("cross_attentions", 0)):
            layers = getattr(decoded, name)
            setattr(decoded, name, layers and tuple(layer[..., -T:, columns:] for layer in layers))
        return decoded

    def _report_semantics(self, words: Tensor, ids: Tensor, labels: Tensor) -> Tensor:
        """z^t of reports, whose z^v is `visual_semantics`: (B, T, D), (B, T), (B, T) -> (B, D)."""
        alignment = self.encoder.alignment
        if alignment is None:
            raise ValueError("This model has no space that films and reports share: it was made with `sam_layers` 0.")
        pooled = alignment.encode_report(words, (ids != self.config.pad_token_id).long())  # H^t_0
        return alignment.to_shared_space(pooled)

    def _losses(
        self, logits: Tensor, labels: Tensor, ids: Tensor, words: Tensor, encoder_outputs: ReportEncoderOutput
    ) -> dict[str, Tensor]:
        """L = L_gen + weight * L_align (mcsam.md section 5)."""
        generation = word_cross_entropy(logits, labels)
        alignment = self.encoder.alignment
        if alignment is None or encoder_outputs.visual_semantics is None:
            return {"loss": generation, "generation_loss": generation}
        # The decoder's input [start, r_1 .. r_{T-1}] is the report but for its end mark: no second look-up.
        text = self._report_semantics(words, ids, labels)  # z^t
        visual = encoder_outputs.visual_semantics
        fingerprints = text_fingerprints(labels)
        align = info_nce(visual, text, alignment.scale(), fingerprints, self.config.global_negatives)
        loss = generation + self.config.alignment_weight * align
        return {"loss": loss, "generation_loss": generation, "alignment_loss": align}

    def _prompted(self, cache: EncoderDecoderCache | None) -> PromptedCache:
        """A cache that counts words, around the storage of `cache`."""
        if cache is None:
            storage = (DynamicCache(config=self.config.decoder), DynamicCache(config=self.config.decoder))
        else:
            storage = (cache.self_attention_cache, cache.cross_attention_cache)
        return PromptedCache(*storage, num_prompts=self.config.num_prompts)

    # Hooks of generate() that must know of the prompts (decoder.md, way A).
    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict, mode: Any, batch_size: int, max_cache_length: int, *more: Any
    ) -> None:
        """Room for the prompts, and a cache that counts words."""
        length = max_cache_length + self.config.num_prompts
        super()._prepare_cache_for_generation(generation_config, model_kwargs, mode, batch_size, length, *more)
        cache = model_kwargs.get("past_key_values")
        if isinstance(cache, EncoderDecoderCache) and not isinstance(cache, PromptedCache):
            model_kwargs["past_key_values"] = self._prompted(cache)

    @staticmethod
    def create_masks_for_generate(attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        """The 2-D mask as it is: only the decoder knows how many prompts stand before the words."""
        return attention_mask
