"""Quality: the perplexity of text that follows a compressed context."""

from tqdm import tqdm

from specpress.experiments.assets import Assets, as_batch
from specpress.presses import Compression, get_press
from specpress.quality import perplexities


def measure(spec: dict, assets: Assets) -> dict:
    """Summed negative log-likelihoods a passage, for every ratio of the press; one prefill serves all ratios."""
    settings = [Compression(get_press(compression_ratio=ratio, **spec["press"])) for ratio in spec["ratios"]]
    model, tokenizer = assets.model(spec["model"]), assets.tokenizer(spec["model"])
    passages = assets.passages(
        spec, count=spec["passages"], length=spec["context"] + spec["score"], tokenizer=tokenizer
    )
    curve = [{"ratio": ratio, "kv_bytes": None, "nll": [], "n_tokens": []} for ratio in spec["ratios"]]
    for passage in tqdm(passages, desc=spec["id"], unit="passage", mininterval=5):
        results = perplexities(model, as_batch([passage], model), context=spec["context"], settings=settings)
        for point, result in zip(curve, results, strict=True):
            point["kv_bytes"] = result.kv_bytes
            point["nll"].append(result.nll)
            point["n_tokens"].append(result.n_tokens)
    where = [{"document": passage.document, "offset": passage.offset} for passage in passages]
    return {"passages": where, "curve": curve}
