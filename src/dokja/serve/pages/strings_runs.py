"""What the runs page says, in Korean and English."""

from __future__ import annotations

from dokja.serve.pages.strings import Language

_TABLE: dict[str, tuple[str, str]] = {
    "runs": ("Runs", "학습 현황"),
    "none": ("There are no runs in {folder} yet.", "아직 {folder}에 학습 기록이 없습니다."),
    "none_more": ("dokja build recipes/tiny.toml", "dokja build recipes/tiny.toml"),
    "building": ("being built", "학습 중"),
    "resting": ("at rest", "멈춰 있음"),
    "finished": ("finished", "끝남"),
    "under_way": ("under way", "진행 중"),
    "stage": ("Stage", "단계"),
    "time": ("Time", "시간"),
    "tokens": ("Tokens", "토큰"),
    "compute": ("Compute", "계산량"),
    "memory": ("Peak memory", "최대 메모리"),
    "total": ("In all", "합계"),
    "costs": ("Costs", "비용"),
    "scores": ("Accuracy by stage", "단계별 정답률"),
    "scores_more": ("pass@1 with its 95 % interval, the same problems", "같은 문제에서 잰 pass@1과 95% 신뢰 구간"),
    "think": ("thinking", "생각하고 답할 때"),
    "direct": ("at once", "바로 답할 때"),
    "samples": ("What it wrote last", "마지막으로 쓴 글"),
    "step": ("step {n}", "{n}걸음"),
    "loss": ("Loss", "손실"),
    "bits_per_byte": ("Bits per byte", "바이트당 비트"),
    "tokens_per_second": ("Tokens per second", "초당 토큰"),
    "accuracy": ("Accuracy", "정답률"),
    "margin": ("Margin", "차이"),
    "reward": ("Reward", "보상"),
    "eval_think": ("Accuracy, thinking", "정답률, 생각하고 답할 때"),
    "eval_direct": ("Accuracy, at once", "정답률, 바로 답할 때"),
    "eval": ("Accuracy on held-out problems", "따로 둔 문제의 정답률"),
    "thought_tokens": ("Tokens of a thought", "생각의 길이 (토큰)"),
}


def say(key: str, language: Language, **values: object) -> str:
    """The words of `key`; figures that have none here keep their own name."""
    return _TABLE[key][language == "ko"].format(**values) if key in _TABLE else key


def keys() -> dict[str, tuple[str, str]]:
    """The whole table, for tests."""
    return dict(_TABLE)
