"""The names a study may use, and where each lives: one line to add a drafter, a schedule, a press or a task.

Nothing here imports the classes: the workflow reads this table while it is parsed, to refuse unknown names and to
know which source file an experiment depends on.
"""

from importlib import import_module

DRAFTERS = {
    "draft_model": "specpress.drafters.draft_model:DraftModel",
    "prompt_lookup": "specpress.drafters.prompt_lookup:PromptLookup",
    "compressed_target": "specpress.drafters.compressed_target:CompressedTarget",
    "cascade": "specpress.drafters.cascade:Cascade",
    "feature_head": "specpress.drafters.feature_head:FeatureHead",
    "quantized_target": "specpress.drafters.quantized_target:QuantizedTarget",
    "token_recycling": "specpress.drafters.token_recycling:TokenRecycling",
    "suffix_lookup": "specpress.drafters.suffix_lookup:SuffixLookup",
    "mixture": "specpress.drafters.mixture:Mixture",
}

ON_CPU = ("quantized_target",)  # those whose kernels are a CPU's
SEEING_CACHE = ("compressed_target", "feature_head", "quantized_target")  # those that look at the target's cache
BRANCHING = ("mixture", "suffix_lookup", "token_recycling")  # those that propose trees, whatever their options

SCHEDULES = {
    "constant": "specpress.schedules.base:Constant",
    "aimd": "specpress.schedules.dynamic:AIMD",
    "plus_minus_one": "specpress.schedules.dynamic:PlusMinusOne",
    "heuristic": "specpress.schedules.dynamic:Heuristic",
    "confidence": "specpress.schedules.informed:Confidence",
    "optimal": "specpress.schedules.informed:Optimal",
    "optimal_tree": "specpress.schedules.tree_size:OptimalTree",
}

PRESSES = {
    "adakv": "kvpress:AdaKVPress",
    "adaptive": "specpress.presses.adaptive:AdaptivePress",
    "block": "kvpress:BlockPress",
    "cam": "kvpress:CAMPress",
    "cap": "kvpress:CapPress",
    "chunk": "kvpress:ChunkPress",
    "chunkkv": "kvpress:ChunkKVPress",
    "compactor": "kvpress:CompactorPress",
    "composed": "kvpress:ComposedPress",
    "compression_ratio_decoding": "kvpress:CompressionRatioDecodingPress",
    "critical_adakv": "kvpress:CriticalAdaKVPress",
    "criticalkv": "kvpress:CriticalKVPress",
    "cur": "kvpress:CURPress",
    "decoding": "kvpress:DecodingPress",
    "dms": "kvpress:DMSPress",
    "duo_attention": "kvpress:DuoAttentionPress",
    "entropy_gated_chunkkv": "kvpress:EntropyGatedChunkKVPress",
    "expected_attention": "kvpress:ExpectedAttentionPress",
    "expected_attention_stats": "kvpress:ExpectedAttentionStatsPress",
    "fastkvzip": "kvpress:FastKVzipPress",
    "finch": "kvpress:FinchPress",
    "hybrid": "specpress.presses.hybrid:HybridPress",
    "key_rerotation": "kvpress:KeyRerotationPress",
    "keydiff": "kvpress:KeyDiffPress",
    "knorm": "kvpress:KnormPress",
    "kvcompose": "kvpress:KVComposePress",
    "kvgrad": "kvpress:KVgradPress",
    "kvzap": "kvpress:KVzapPress",
    "kvzip": "kvpress:KVzipPress",
    "lagkv": "kvpress:LagKVPress",
    "leverage_score": "kvpress:LeverageScorePress",
    "lukv": "kvpress:LUKVPress",
    "merging": "kvpress:MergingPress",
    "non_causal_attn": "kvpress:NonCausalAttnPress",
    "observed_attention": "kvpress:ObservedAttentionPress",
    "optimized_hybrid": "specpress.presses.optimized_hybrid:OptimizedHybridPress",
    "per_layer_compression": "kvpress:PerLayerCompressionPress",
    "prefill_decoding": "kvpress:PrefillDecodingPress",
    "pyramidkv": "kvpress:PyramidKVPress",
    "qfilter": "kvpress:QFilterPress",
    "random": "kvpress:RandomPress",
    "restorekv": "kvpress:RestoreKVPress",
    "simlayerkv": "kvpress:SimLayerKVPress",
    "snapkv": "kvpress:SnapKVPress",
    "streaming_llm": "kvpress:StreamingLLMPress",
    "think": "kvpress:ThinKPress",
    "tova": "kvpress:TOVAPress",
}

TASKS = {
    "single_needle": "specpress.data.tasks.needles:SingleNeedle",
    "several_needles": "specpress.data.tasks.needles:SeveralNeedles",
    "several_values": "specpress.data.tasks.needles:SeveralValues",
    "variable_tracking": "specpress.data.tasks.tracking:VariableTracking",
    "common_words": "specpress.data.tasks.counting:CommonWords",
}

PROTOCOLS = {
    "original": "specpress.decoding.uncached:prepare_uncached",
}


def resolve(table: dict[str, str], name: str, what: str) -> type:
    """The class registered under `name` in `table`.

    Raises
    ------
    ValueError
        If the name is unknown; the message lists the known ones. `what` says what the name stands for ("press").
    """
    if name not in table:
        raise ValueError(f"unknown {what} {name!r}; known: {', '.join(sorted(table))}")
    module, attribute = table[name].split(":")
    return getattr(import_module(module), attribute)
