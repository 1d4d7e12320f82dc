"""Results of the benchmark as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from zgs_ros.bench.advising import Advice, Choice, Trial
from zgs_ros.bench.agreement import Agreement
from zgs_ros.bench.comparison import Comparison
from zgs_ros.bench.curves import Curve
from zgs_ros.bench.measuring import WHOLE
from zgs_ros.bench.probes import NOT_COUNTED
from zgs_ros.evaluation.tables import Table


def run_line(run: Mapping[str, Any]) -> str:
    """One line: what was measured, where and when."""
    machine = run["machine"]
    where = machine["gpu"] or f"{machine['processor']}, {machine['cores']} cores"
    given = run["given_segments"]
    backend = run.get("backend", "torch")
    by = "" if backend == "torch" else f" by {', '.join(dict.fromkeys(backend.values()))}"
    return (
        f"profile {run['profile']} ({', '.join(run['models'])}), {run['size']}, "
        f"{f'{given} given segments' if given else 'segments as found'}, {run['precision']} on "
        f"{run['device']}{by}: {where}, {machine['threads']} threads, load {machine['load']:.1f}, "
        f"torch {machine['torch']}; {run['clock']} time; {run['date']}"
    )


def stages_table(results: Mapping[str, Any]) -> Table:
    """Time, operations and distance to the limit of every stage, see `Measurement.to_dict`."""
    rates = "; ".join(
        f"{library} {', '.join(f'{size}: {_giga(rate)}' for size, rate in by_size.items())}"
        for library, by_size in results["rates_flops"].items()
    )
    peak = results["processor_peak_flops"]
    of_peak = f" The processor's vector units can do {_giga(peak)} at most." if peak else ""
    memory = ", ".join(f"{name} {_mebi(size)}" for name, size in results["memory_bytes"].items())
    limit = _giga(results["rate_flops"])
    rows = [
        (
            name,
            _milli(stage["p50_s"]),
            _spread(stage),
            _giga(stage["flops"]),
            _giga(stage["flops"] / stage["p50_s"]),
            _milli(stage["limit_s"]),
            _percent(stage["share_of_limit"]),
        )
        for name, stage in results["stages"].items()
    ]
    images = results["images"]
    return Table(
        f"Time per {'image' if images == 1 else f'batch of {images} images'}, "
        f"median of {results['repeats']}: {_milli(results['stages'][WHOLE]['p50_s'])} ms",
        ("stage", "ms", "p10 .. p90", "GFLOP", "GFLOP/s", "limit ms", "limit %"),
        tuple(rows),
        f"Limit: matrix products at {limit} GFLOP/s, the best of {rates} GFLOP/s (rows x inner x "
        f"columns), measured in turn with the images.{of_peak} {NOT_COUNTED} Peak memory [MiB]: {memory}. "
        f"Segments after merging: {results['segments']:g}.",
    )


def comparison_table(comparison: Comparison) -> Table:
    """The package against the published steps."""
    return Table(
        "Against the published steps, taken literally",
        ("step", "literal ms", "own ms", "ratio"),
        tuple(
            (r.step, _milli(r.literal), _milli(r.own), f"{r.ratio:.1f}") for r in comparison.ratios
        ),
        f"{comparison.segments} segments, one by one through all blocks with explicit attention; "
        f"Ward of all {comparison.positions} positions (SciPy); dense CRF (this package's). Same "
        "weights, device and precision. Largest relative difference of an embedding: "
        f"{comparison.difference:.1e}.",
    )


def agreement_table(agreement: Agreement) -> Table:
    """A faster way to compute against float32."""
    shares = {
        "segments (adjusted Rand index)": agreement.partition,
        "pixels with the same label": agreement.pixels,
        "same masks with the same label": agreement.labels,
        "cosine of their embeddings, mean": agreement.cosine,
        "cosine of their embeddings, 5th percentile": agreement.low_cosine,
    }
    return Table(
        "Against PyTorch in float32",
        ("agreement", ""),
        tuple((name, f"{share:.4f}") for name, share in shares.items()),
        f"{agreement.scenes} held-out scenes, {agreement.segments} masks; same weights.",
    )


def curve_table(curve: Curve) -> Table:
    """One row per size."""
    offset, slope = curve.line
    return Table(
        f"{curve.stage} against {curve.over}: time ~ {curve.over}^{curve.exponent:.2f}",
        (curve.over, "ms", f"us per {curve.over[:-1]}", "straight line"),
        tuple(
            (str(n), _milli(s), f"{1e6 * s / n:.0f}", _milli(offset + slope * n))
            for n, s in zip(curve.sizes, curve.seconds, strict=True)
        ),
        f"Best straight line: {_milli(offset)} ms and {1e6 * slope:.0f} us per {curve.over[:-1]}.",
    )


def profiles_table(
    results: Mapping[str, Mapping[str, Any]], quality: Mapping[str, float], scenes: int
) -> Table:
    """One row per profile."""
    return Table(
        "Profiles",
        (
            "profile",
            "models",
            "segments",
            "ms",
            "p10 .. p90",
            "GFLOP",
            "limit %",
            "memory MiB",
            "synthetic mIoU %",
        ),
        tuple(
            (
                profile,
                ", ".join(found["run"]["models"]),
                str(found["run"]["given_segments"] or "found"),
                _milli(found["measurement"]["stages"][WHOLE]["p50_s"]),
                _spread(found["measurement"]["stages"][WHOLE]),
                _giga(found["measurement"]["stages"][WHOLE]["flops"]),
                _percent(found["measurement"]["stages"][WHOLE]["share_of_limit"]),
                _mebi(_memory(found["measurement"]["memory_bytes"])),
                quality.get(profile),
            )
            for profile, found in results.items()
        ),
        "Retrieval labels. Memory is the peak of the GPU's tensors, or without a GPU of the whole "
        f"process. Synthetic mIoU of {scenes} scenes, for models that know them. {NOT_COUNTED}",
    )


def stage_columns(results: Mapping[str, Mapping[str, Any]]) -> Table:
    """Median times of all stages, one column per profile."""
    stages: Sequence[str] = list(next(iter(results.values()))["measurement"]["stages"])
    return Table(
        "Stages [ms]",
        ("stage", *results),
        tuple(
            (
                stage,
                *(
                    _milli(found["measurement"]["stages"][stage]["p50_s"])
                    for found in results.values()
                ),
            )
            for stage in stages
        ),
    )


def trial_line(trial: Trial) -> str:
    """What was measured."""
    return f"{_choice(trial.choice)}: {_milli(trial.seconds)} ms per image"


def advice_lines(advice: Advice) -> list[str]:
    """The recommendation, and how to ask for it."""
    over = (
        [f"not all was measured: {advice.problem}; --seconds takes more"] if advice.problem else []
    )
    choice = advice.choice
    if choice is None:
        return [f"nothing could be measured: {advice.problem or 'no reason is known'}"]
    set_ = [f"--profile {choice.profile}", f"--set dino.stride={choice.stride}"]
    set_ += [f"--set max_rate={advice.wanted:g}"]
    before = ""
    if choice.backend != "torch":
        size = "--size WIDTHxHEIGHT"
        before = (
            f"zgs export --profile {choice.profile} --set dino.stride={choice.stride} {size} "
            "--out engines/ && "
        )
        set_ += [f"--set backend={choice.backend}", "--set engines=engines/"]
    reaches = f"about {advice.rate:.2g} of {advice.wanted:g} images/s"
    told = (
        f"{_choice(choice)} reaches {reaches}"
        if advice.reached
        else f"nothing reaches {advice.wanted:g} images/s here: {_choice(choice)} comes nearest, {reaches}"
    )
    return [*over, told, f"{before}zgs run {' '.join(set_)}"]


def _choice(choice: Choice) -> str:
    by = "" if choice.backend == "torch" else f", backend {choice.backend}"
    return f"profile {choice.profile}, dino.stride {choice.stride}{by}"


def _memory(peak: Mapping[str, int]) -> int:
    return peak.get("gpu", peak["process"])


def _spread(stage: Mapping[str, float]) -> str:
    return f"{_milli(stage['p10_s'])} .. {_milli(stage['p90_s'])}"


def _milli(seconds: float) -> str:
    return _three_digits(1e3 * seconds)


def _giga(count: float) -> str:
    return _three_digits(count / 1e9)


def _mebi(count: float) -> str:
    return f"{count / 2**20:.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _three_digits(value: float) -> str:
    return f"{value:.0f}" if abs(value) >= 99.5 else f"{value:.3g}"
