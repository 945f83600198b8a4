"""Every sentence of the report and the card, in English and Korean side by side."""

from __future__ import annotations

from dokja.proof.figures import Both
from dokja.proof.strings_compare import TABLE as _COMPARE
from dokja.proof.strings_rl import TABLE as _RL

_TABLE: dict[str, tuple[str, str]] = {
    # header
    "kicker": ("dokja · run report", "독자(獨自) · 빌드 보고서"),
    "lede": (
        "A model{parameters} built from empty weights{tokens}{time}{machine}.",
        "빈 가중치에서 시작해{machine}{time}{tokens} 만든{parameters} 모델입니다.",
    ),
    "lede_base": (
        "A model{parameters} built from another's weights{tokens}{time}{machine}.",
        "다른 모델의 가중치에서 시작해{machine}{time}{tokens} 만든{parameters} 모델입니다.",
    ),
    "lede_parameters": (" of {n} parameters", " 매개변수 {n} 개의"),
    "lede_tokens": (" on {n} tokens", " 토큰 {n} 개로"),
    "lede_time": (" in {t}", " {t} 만에"),
    "lede_machine": (" on {n} CPU cores", " CPU {n}코어에서"),
    "two_modes": (
        "One model answers in two ways: after thinking, or at once.",
        "한 모델이 두 방식, 곧 생각한 뒤 답하기와 바로 답하기로 답합니다.",
    ),
    # headline cards
    "think": ("Thinking", "생각하고 답하기"),
    "direct": ("At once", "바로 답하기"),
    "gap": ("Gain from thinking", "생각의 효과"),
    "gap_note": ("points, where steps are needed", "점, 풀이 단계가 필요한 유형에서"),
    "ko_minus_en": ("Korean − English", "한국어 − 영어"),
    "ko_minus_en_note": ("points, thinking", "점, 생각하고 답하기"),
    "wrong_mode": ("In the wrong mode", "방식을 어긴 답"),
    "wrong_mode_note": ("of {n} answers", "전체 답 {n}개 가운데"),
    "wrong_mode_short": ("Wrong mode", "방식 어김"),
    "wall": ("Wall time", "걸린 시간"),
    "wall_note": ("all stages", "모든 단계"),
    "compute": ("Compute", "연산량"),
    "compute_note": ("training FLOPs", "학습 FLOP"),
    "memory": ("Peak memory", "최대 메모리"),
    "memory_note": ("largest of any stage", "모든 단계 가운데 최대"),
    "pass1_note": ("pass@1, 95 % {ci}", "pass@1, 95 % {ci}"),
    # road
    "road": ("The road", "지나온 길"),
    "road_lede": (
        "What each stage read and what it cost. 6·N·D counts the matrices; attention comes on top.",
        "단계마다 읽은 양과 든 비용입니다. 6·N·D는 행렬 연산이고, 어텐션은 따로 셉니다.",
    ),
    "stage": ("Stage", "단계"),
    "tokens": ("Tokens", "토큰"),
    "flops": ("6·N·D FLOPs", "6·N·D FLOP"),
    "attention": ("Attention FLOPs", "어텐션 FLOP"),
    "time": ("Time", "시간"),
    "rate": ("Tokens/s", "토큰/초"),
    "attempts": ("Attempts", "시도"),
    "total": ("Total", "합계"),
    "stage_corpus": ("Corpus", "말뭉치"),
    "stage_tokenizer": ("Tokenizer", "토크나이저"),
    "stage_shards": ("Tokenising", "토큰화"),
    "stage_pretrain": ("Pre-training", "사전 학습"),
    "stage_context": ("Longer context", "문맥 확장"),
    "stage_sft": ("Two modes (SFT)", "두 방식 학습(SFT)"),
    "stage_preference": ("Preference", "선호 학습"),
    "stage_rl": ("Reinforcement", "강화 학습"),
    "stage_judge": ("Judge", "평가"),
    "stage_release": ("Release", "공개본"),
    # training
    "training": ("Training", "학습"),
    "training_lede": (
        "Faint: every step. Firm: moving average. Dots: held-out data.",
        "옅은 선은 매 스텝, 짙은 선은 이동 평균, 점은 학습에 쓰지 않은 자료입니다.",
    ),
    "loss": ("Loss, nats per token", "손실(토큰당 nat)"),
    "held_out_loss": ("held out", "따로 둔 자료"),
    "bpb": ("Bits per byte", "바이트당 비트"),
    "lr": ("Learning rate, share of peak", "학습률(최댓값 대비)"),
    "lr_peaks": ("Peak {peaks}", "최댓값 {peaks}"),
    "tps": ("Tokens per second", "초당 토큰"),
    "grad": ("Gradient norm", "기울기 크기"),
    "expert_load": ("Load of the busiest expert, times the mean", "가장 바쁜 전문가의 몫(평균의 배수)"),
    "worst_layer": ("worst layer", "가장 치우친 층"),
    "mean_layer": ("mean of layers", "층 평균"),
    "experts_dead": ("Experts without a token", "토큰을 받지 못한 전문가"),
    "training_samples": ("Written along the way", "학습 중에 쓴 글"),
    "step": ("step {n}", "{n}스텝"),
    # accuracy
    "accuracy": ("Accuracy", "정확도"),
    "accuracy_lede": (
        "Held-out problems, pass@1. The bar is the 95 % interval; answers to one problem count as one cluster.",
        "학습에 쓰지 않은 문제의 pass@1입니다. 막대는 95 % 구간이며, 같은 문제의 여러 답은 한 묶음으로 셉니다.",
    ),
    "ko": ("Korean", "한국어"),
    "en": ("English", "영어"),
    "family": ("Family", "유형"),
    "all_families": ("All families", "모든 유형"),
    "as_table": ("The same as a table, with what went wrong", "표로 보기 — 무엇이 틀렸는지까지"),
    "language": ("Language", "언어"),
    "mode": ("Mode", "방식"),
    "problems": ("Problems", "문제"),
    "answers": ("Answers", "답"),
    "pass1": ("pass@1", "pass@1"),
    "ci": ("95 % interval", "95 % 구간"),
    "thought": ("Thought, tokens", "생각(토큰)"),
    "truncated": ("Cut off", "잘림"),
    "unparseable": ("Unreadable", "읽을 수 없음"),
    "forced": ("Budget used up", "예산 소진"),
    "no_steps": ("can be answered at once", "바로 답할 수 있음"),
    "more_tries": ("More than one try", "여러 번 시도했을 때"),
    "any_of_k": ("at least one of k right", "k번 가운데 한 번 이상 맞음"),
    "most_of_k": ("the most frequent of k right, ties shared", "k번 가운데 가장 많은 답이 맞음(동점은 나눔)"),
    "all_of_k": ("all of k right", "k번 모두 맞음"),
    # samples
    "samples": ("What it thinks", "어떻게 생각하는가"),
    "samples_lede": (
        "Chosen by hash from all answers, right and wrong, not by hand.",
        "맞은 답과 틀린 답을 모두, 손으로 고르지 않고 해시 순서로 뽑았습니다.",
    ),
    "right": ("Right", "맞음"),
    "wrong": ("Wrong", "틀림"),
    "question": ("Question", "문제"),
    "its_thought": ("Thought", "생각"),
    "its_answer": ("Answer", "답"),
    "no_answer": ("no answer", "답 없음"),
    "expected": ("Expected", "정답"),
    "level": ("level {n}", "난이도 {n}"),
    "reason_wrong": ("wrong", "틀림"),
    "reason_right": ("right", "맞음"),
    "reason_truncated": ("cut off", "잘림"),
    "reason_unparseable": ("unreadable", "읽을 수 없음"),
    "reason_refused": ("refused", "거절"),
    "reason_grader_failed": ("grader failed", "채점기 오류"),
    "tag_forced": ("budget used up", "예산 소진"),
    "tag_wrong_mode": ("wrong mode", "방식 어김"),
    "n_tokens": ("{n} tokens", "토큰 {n}개"),
    # data
    "data": ("Data", "자료"),
    "source": ("Source", "출처"),
    "documents": ("Documents", "문서"),
    "bytes": ("Text", "원문 크기"),
    "bytes_per_token": ("Bytes per token", "토큰당 바이트"),
    "tokenizer_by_language": ("Tokenizer, bytes per token", "토크나이저, 토큰당 바이트"),
    "heldout": ("Held-out text, bits per byte (lower is better)", "따로 둔 글의 바이트당 비트(낮을수록 좋음)"),
    "all_sources": ("all sources", "모든 출처"),
    "this_model": ("This model", "이 모델"),
    # recipe, environment
    "recipe": ("The recipe", "레시피"),
    "recipe_lede": ("Every key, resolved.", "모든 키를 확정한 값입니다."),
    "derived": ("Derived values and their formulas", "유도한 값과 공식"),
    "key": ("Key", "키"),
    "value": ("Value", "값"),
    "formula": ("Formula", "공식"),
    "environment": ("Where and with what", "어디서 무엇으로"),
    "proof": ("How to check", "확인하는 법"),
    "ledger": (
        "The ledger is a chain of {n} hashes. Whoever holds the last one can tell whether a line was changed later:",
        "원장은 해시 {n}개를 이은 사슬입니다. 마지막 해시를 가진 사람은 나중에 고친 줄이 있는지 알 수 있습니다.",
    ),
    "ledger_holds": ("The chain holds.", "사슬이 온전합니다."),
    "ledger_broken": ("The chain does not hold:", "사슬이 온전하지 않습니다."),
    "notes": ("Could not be read", "읽지 못한 것"),
    # model card
    "card_authors": ("Built by {names}.", "만든 사람: {names}."),
    "card_base": ("What it was built from", "바탕이 된 모델"),
    "card_built_from": (
        "Built from {base}, which lies under {licence}.",
        "{base} 모델에서 시작해 만들었습니다. 그 라이선스: {licence}.",
    ),
    "card_lora": (
        "Low-rank pairs of rank {rank} were trained and merged into its weights (LoRA).",
        "계수 {rank}의 저계수 행렬 쌍을 학습해 그 가중치에 합쳤습니다(LoRA).",
    ),
    "card_results": ("Results", "결과"),
    "card_results_lede": (
        "Held-out problems, pass@1 with 95 % intervals, clustered by problem.",
        "학습에 쓰지 않은 문제의 pass@1과 95 % 구간(문제 단위로 묶음)입니다.",
    ),
    "card_column": ("{language}, {mode}", "{language}, {mode}"),
    "card_gap": ("Gain from thinking where steps are needed, points", "풀이 단계가 필요한 유형에서 생각의 효과(점)"),
    "card_ko_minus_en": ("Korean − English, {mode}, points", "한국어 − 영어, {mode}(점)"),
    "card_shape": ("Architecture", "구조"),
    "card_property": ("Property", "항목"),
    "card_architecture": ("Class", "클래스"),
    "card_parameters": ("Parameters", "매개변수"),
    "card_pattern": ("Layer pattern (L local, G global)", "층 패턴(L 지역, G 전역)"),
    "card_layers": ("Layers", "층"),
    "card_width": ("Width", "폭"),
    "card_heads": ("Query heads", "질의 헤드"),
    "card_kv_heads": ("Key/value heads", "키·값 헤드"),
    "card_head_dim": ("Head size", "헤드 크기"),
    "card_ffn": ("Feed-forward size", "피드포워드 크기"),
    "card_vocab": ("Vocabulary", "어휘"),
    "card_context": ("Context, tokens", "문맥(토큰)"),
    "card_window": ("Window of local layers, tokens", "지역 층의 창(토큰)"),
    "card_data": ("Training data", "학습 자료"),
    "card_cost": ("Cost", "비용"),
    "card_use": ("Use", "쓰는 법"),
    "card_limits": ("Limits", "한계"),
    "card_limit_scope": (
        "It knows what its training data holds and nothing else: do not rely on it for facts.",
        "학습 자료에 있는 것만 압니다. 사실을 알아보는 데 쓰지 마십시오.",
    ),
    "card_limit_weak": (
        "Weak families when thinking: {names}.",
        "생각해도 약한 유형: {names}.",
    ),
    "card_limit_direct": (
        "At once it gets {share} of the same problems right.",
        "바로 답하게 하면 같은 문제를 {share}만 맞힙니다.",
    ),
    "card_limit_context": (
        "It has not been trained on more than {n} tokens at a time.",
        "한 번에 {n}토큰보다 긴 글은 배우지 않았습니다.",
    ),
    "footer": (
        "Made by dokja from the files of this run alone. This page loads nothing from anywhere.",
        "dokja가 이 빌드 폴더의 파일만으로 만들었습니다. 이 페이지는 바깥에서 아무것도 불러오지 않습니다.",
    ),
    **_COMPARE,
    **_RL,
}


def say(key: str, **values: Both | str | int) -> Both:
    """The sentence `key` in both languages, its `{places}` filled; a `Both` fills each language with its own."""
    en, ko = _TABLE[key]
    return Both(
        en.format(**{k: v.en if isinstance(v, Both) else v for k, v in values.items()}),
        ko.format(**{k: v.ko if isinstance(v, Both) else v for k, v in values.items()}),
    )


def known(prefix: str, name: str) -> Both:
    """The sentence `prefix_name`, or the name itself where this version has no words for it."""
    return say(f"{prefix}_{name}") if f"{prefix}_{name}" in _TABLE else Both.same(name)


def stage_name(name: str) -> Both:
    """A stage's name as people call it; stages of other versions keep their folder's name."""
    return known("stage", name)


def reason_name(reason: str) -> Both:
    """A grade's reason in words."""
    return known("reason", reason)


def keys() -> dict[str, tuple[str, str]]:
    """The whole table, for tests."""
    return dict(_TABLE)
